package engine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/record"
)

// A record for a later generation cannot know what that generation references,
// whether an older version or a tenant has written it.
func TestARecordThatWasAheadIsNotTrusted(t *testing.T) {
	ahead := func(by int64) func(*record.Record) { return func(r *record.Record) { r.Generation += by } }
	at1 := newApp(web)
	with := func(a app, generation int64, configMaps ...string) app {
		return a.with(func(a *app) { a.generation, a.configMaps = generation, configMaps })
	}
	status := func(a app) app { return a.with(func(a *app) { a.version = "99" }) }
	tests := map[string]struct {
		// events of the workload; the last one is judged.
		events []app
		// wantRead is true if the workload has to be read after the last event.
		wantRead bool
		want     []reloader.Source
	}{
		"when the workload is seen for the first time": {
			events:   []app{at1.recorded(t, ahead(1))},
			wantRead: true, want: []reloader.Source{settings},
		},
		"when that generation comes": {
			events:   []app{at1.recorded(t, ahead(1)), with(at1.recorded(t, ahead(1)), 2, "other")},
			wantRead: true, want: []reloader.Source{configMap("other")},
		},
		"when that generation comes, on a workload that was known": {
			events:   []app{at1.recorded(t), at1.recorded(t, ahead(1)), with(at1.recorded(t, ahead(1)), 2, "other")},
			wantRead: true, want: []reloader.Source{configMap("other")},
		},
		"when one of several generations comes": {
			events: []app{
				at1.recorded(t), at1.recorded(t, ahead(3)), with(at1.recorded(t, ahead(3)), 2, "more"),
				status(with(at1.recorded(t, ahead(3)), 3, "more")), with(at1.recorded(t, ahead(3)), 4, "other"),
			},
			wantRead: true, want: []reloader.Source{configMap("other")},
		},
		"when it was taken away and is back": {
			events: []app{
				at1.recorded(t), at1.recorded(t, ahead(1)), at1, with(at1.recorded(t, ahead(1)), 2, "other"),
			},
			wantRead: true, want: []reloader.Source{configMap("other")},
		},
		"and nothing is read for it as long as nothing else changes": {
			events: []app{at1.recorded(t), at1.recorded(t, ahead(1)), at1.recorded(t, ahead(2)), status(at1.recorded(t, ahead(2)))},
			want:   []reloader.Source{settings},
		},
		"but another one is": {
			events: []app{at1.recorded(t), at1.recorded(t, ahead(1)), with(at1, 2, "other").recorded(t)},
			want:   []reloader.Source{configMap("other")},
		},
		"but the one after that is": {
			events: []app{
				at1.recorded(t, ahead(1)), with(at1.recorded(t, ahead(1)), 2, "other"), with(at1, 2, "other").recorded(t),
				with(at1, 3, "more").recorded(t),
			},
			want: []reloader.Source{configMap("more")},
		},
		"but that of another workload of the name is": {
			events: []app{
				at1.recorded(t, ahead(1)),
				with(at1, 2, "other").with(func(a *app) { a.uid = "second" }).recorded(t),
			},
			want: []reloader.Source{configMap("other")},
		},
	}
	for _, of := range []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet} {
		for name, tc := range tests {
			t.Run(string(of)+", "+name, func(t *testing.T) {
				in := newTestIntake(t)
				for i, a := range tc.events {
					// The record names no kind.
					a.workload.Kind = of
					in.observe(a.workload, a.meta(), at(uint64(10+i)))
					last := i == len(tc.events)-1
					if last {
						assert.Equal(t, tc.wantRead, in.open(a.workload))
					}
					if in.open(a.workload) {
						require.True(t, in.supply(a.manifest(t)))
					}
					if last {
						assert.Equal(t, tc.want, in.index.DependsOn(a.workload))
						assert.True(t, in.allResolved())
					}
				}
			})
		}
	}
}

// Such records, written again and again, cause no request.
func TestRecordsThatAreAheadCostNothing(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(web).recorded(t)
	settled(t, in, a)
	for i := range int64(100) {
		in.observe(web, a.recorded(t, func(r *record.Record) { r.Generation = 2 + i }).meta(), at(uint64(20+i)))
	}
	assert.Empty(t, drain(in.queues.resolve))
	assert.Empty(t, drain(in.queues.workloads))
}
