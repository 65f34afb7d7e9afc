package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
)

// A source without an entry in an archive that is not fresh came in while no
// engine ran. Only the times tell whether its pods have what it holds.
func TestLookingBackAtASourceWithoutAnEntry(t *testing.T) {
	born := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		// written is when the source was, after the workload was created.
		written      time.Duration
		unknown      bool
		generation   int64
		archive      pages
		wantDue      bool
		wantDoubtful bool
	}{
		"written well after an untouched workload was created": {written: 10 * time.Second, wantDue: true},
		"written as late as clocks may be apart":               {written: clockTolerance, wantDoubtful: true},
		"written shortly after":                                {written: 2 * time.Second, wantDoubtful: true},
		"written at the same time":                             {},
		"written before":                                       {written: -time.Hour},
		"written nobody knows when":                            {written: 10 * time.Second, unknown: true},
		"the workload was changed since its creation":          {written: 10 * time.Second, generation: 2, wantDoubtful: true},
		"the archive is fresh":                                 {written: 10 * time.Second, archive: pages{}},
		"the archive has it":                                   {written: 10 * time.Second, archive: pages{settings: entry(5, "a")}, wantDue: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := new(told)
			e := newTestEngine(t, unreachable(t), r)
			a := newApp(web).with(func(a *app) { a.generation = max(1, tc.generation) }).recorded(t)
			meta := a.meta()
			meta.CreationTimestamp = metav1.Time{Time: born}
			e.intake.observe(web, meta, moment{})
			event(e, "settings", "9", listed)
			archive := tc.archive
			if archive == nil {
				archive = pages{password: entry(1, "p")}
			}
			e.ledger.open(archive, len(archive) == 0)

			object := configMapObject("settings", "9", "1")
			if !tc.unknown {
				fields := manages("kubectl-edit", born.Add(tc.written))
				fields.FieldsV1.SetRawBytes([]byte(`{"f:data":{"f:a":{}}}`))
				object.ManagedFields = []metav1.ManagedFieldsEntry{fields}
			}
			taken, _ := e.ledger.take(settings)
			require.True(t, taken)
			require.NoError(t, e.lookAt(t.Context(), settings, &object))
			var want, wantDoubtful []reloader.Workload
			if tc.wantDue {
				want = []reloader.Workload{web}
			}
			if tc.wantDoubtful {
				wantDoubtful = []reloader.Workload{web}
			}
			assert.Equal(t, want, drain(e.queues.workloads))
			assert.Equal(t, tc.wantDue, len(e.ledger.due(web)) > 0)
			assert.Equal(t, wantDoubtful, r.doubtful)

			require.NoError(t, e.lookAt(t.Context(), settings, &object))
			assert.Equal(t, wantDoubtful, r.doubtful, "it is told once")
			assert.Empty(t, drain(e.queues.workloads), "it is looked back once")
		})
	}
}
