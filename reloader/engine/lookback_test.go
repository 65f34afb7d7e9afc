package engine

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
)

// born is when the workload was created in the tests that look back; all else
// is told from there.
var born = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

const (
	justData      = `{"f:data":{".":{},"f:a":{}}}`
	dataAndLabels = `{"f:data":{".":{},"f:a":{}},"f:metadata":{"f:labels":{"f:a":{}}}}`
	justLabels    = `{"f:metadata":{"f:labels":{"f:a":{}}}}`
)

// set is one entry of managedFields.
type set struct {
	after  time.Duration
	fields string
}

// sourceOf returns settings with content "1".
func sourceOf(created time.Duration, sets ...set) readable {
	object := configMapObject("settings", "9", "1")
	object.CreationTimestamp = metav1.NewTime(born.Add(created))
	for _, s := range sets {
		at := metav1.NewTime(born.Add(s.after))
		object.ManagedFields = append(object.ManagedFields, metav1.ManagedFieldsEntry{Manager: s.fields, Time: &at, FieldsV1: metav1.NewFieldsV1(s.fields)})
	}
	return &object
}

// record is what a controller keeps of one pod template.
type templateRecord struct {
	revision int64
	after    time.Duration
}

// registrar lists the records of web or worker, or refuses.
func registrar(t *testing.T, records []templateRecord, refusal *apierrors.StatusError) *script {
	t.Helper()
	return play(t, func(r request) (int, http.Header, any) {
		if refusal != nil {
			return failure(refusal)
		}
		return registered(r, records)
	})
}

// registered is the answer to a list of records.
func registered(r request, records []templateRecord) (int, http.Header, any) {
	var replicaSets metav1.PartialObjectMetadataList
	var revisions appsv1.ControllerRevisionList
	for i, kept := range append([]templateRecord{{99, time.Hour}}, records...) {
		owner := metav1.OwnerReference{UID: "first", Controller: new(true)}
		if i == 0 {
			owner.UID = "somebody else"
		}
		meta := metav1.ObjectMeta{
			CreationTimestamp: metav1.NewTime(born.Add(kept.after)), OwnerReferences: []metav1.OwnerReference{owner},
			Annotations: map[string]string{revisionAnnotation: strconv.FormatInt(kept.revision, 10)},
		}
		replicaSets.Items = append(replicaSets.Items, metav1.PartialObjectMetadata{ObjectMeta: meta})
		revisions.Items = append(revisions.Items, appsv1.ControllerRevision{ObjectMeta: meta, Revision: kept.revision})
	}
	if strings.HasSuffix(r.path, "/controllerrevisions") {
		revisions.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevisionList"}
		return http.StatusOK, nil, revisions
	}
	replicaSets.TypeMeta = metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}
	return http.StatusOK, nil, replicaSets
}

func TestLookingBack(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "replicasets"}, "", nil)
	broken := apierrors.NewInternalError(assert.AnError)
	const (
		notYet    = -time.Hour
		atOnce    = 0
		doubtful  = clockTolerance
		clearly   = clockTolerance + time.Second
		muchLater = time.Minute
	)
	tests := map[string]struct {
		// has is what the archive has of the source; without, it has another one.
		has bool
		// source as it is found; archived is when the archive was written.
		source   readable
		archived time.Duration
		// generation of the workload, which is a StatefulSet or else a Deployment.
		generation  int64
		statefulSet bool
		records     []templateRecord
		refusal     *apierrors.StatusError

		wantDue, wantDoubtful bool
	}{
		"no entry: created before the workload": {source: sourceOf(notYet, set{notYet, justData})},
		"no entry: created with it":             {source: sourceOf(atOnce, set{atOnce, justData})},
		"no entry: created after it":            {source: sourceOf(muchLater, set{muchLater, justData})},
		"no entry: created after it, which an entry tells a second late": {
			source: sourceOf(muchLater, set{muchLater + time.Second, justData}),
		},
		"no entry: changed before the workload was created": {source: sourceOf(2*notYet, set{notYet, justData})},
		"no entry: changed well after it":                   {source: sourceOf(notYet, set{clearly, justData}), wantDue: true},
		"no entry: changed as late as clocks may be apart": {
			source: sourceOf(notYet, set{doubtful, justData}), wantDoubtful: true,
		},
		"no entry: changed well after the creation of both": {source: sourceOf(muchLater, set{2 * muchLater, justData}), wantDue: true},
		"no entry: changed right after it was created, after the workload": {
			source: sourceOf(muchLater, set{muchLater + doubtful, justData}), wantDoubtful: true,
		},
		"no entry: labels were edited, by somebody else":        {source: sourceOf(notYet, set{notYet, justData}, set{muchLater, justLabels})},
		"no entry: labels were edited, or data":                 {source: sourceOf(notYet, set{clearly, dataAndLabels}), wantDoubtful: true},
		"no entry: data changed, and labels or data after that": {source: sourceOf(notYet, set{clearly, justData}, set{muchLater, dataAndLabels}), wantDue: true},
		"no entry: nobody keeps the fields":                     {source: sourceOf(notYet)},
		"no entry: the workload was changed, nobody says when": {
			source: sourceOf(notYet, set{clearly, justData}), generation: 2, refusal: forbidden, wantDoubtful: true,
		},
		"no entry: the workload has had its template since before the change": {
			source: sourceOf(notYet, set{muchLater, justData}), generation: 2, records: []templateRecord{{1, 0}}, wantDue: true,
		},
		"no entry: the workload got its template after the change": {
			source: sourceOf(notYet, set{clearly, justData}), generation: 2, records: []templateRecord{{1, 0}, {2, muchLater}},
		},
		"no entry: the workload has gone back to an old template": {
			source: sourceOf(notYet, set{clearly, justData}), generation: 3, records: []templateRecord{{3, 0}, {2, time.Second}}, wantDoubtful: true,
		},

		"an entry: changed after the workload was created":       {has: true, archived: notYet, source: sourceOf(notYet, set{clearly, justData}), wantDue: true},
		"an entry: changed in the second of the creation":        {has: true, archived: notYet, source: sourceOf(notYet, set{atOnce, justData}), wantDue: true},
		"an entry: changed as early as clocks may be apart":      {has: true, archived: notYet, source: sourceOf(notYet, set{-doubtful, justData}), wantDue: true},
		"an entry: changed well before the workload was created": {has: true, archived: notYet, source: sourceOf(notYet, set{-clearly, justData})},
		"an entry: changed by a write that left no time": {
			has: true, archived: -clearly, source: sourceOf(notYet, set{notYet, justData}), wantDue: true,
		},
		"an entry: nobody keeps the fields": {has: true, archived: notYet, source: sourceOf(notYet), wantDue: true},
		"an entry: the template came after the change": {
			has: true, archived: notYet, source: sourceOf(notYet, set{clearly, justData}), generation: 2, records: []templateRecord{{1, 0}, {2, muchLater}},
		},
		"an entry: the template of a StatefulSet came after the change": {
			has: true, archived: notYet, source: sourceOf(notYet, set{clearly, justData}), generation: 2, statefulSet: true, records: []templateRecord{{1, 0}, {2, muchLater}},
		},
		"an entry: scaled after the change": {
			has: true, archived: notYet, source: sourceOf(notYet, set{clearly, justData}), generation: 2, records: []templateRecord{{1, 0}}, wantDue: true,
		},
		"an entry: an old template again, so that some pods may be old": {
			has: true, archived: notYet, source: sourceOf(notYet, set{clearly, justData}), generation: 3, records: []templateRecord{{3, 0}, {2, muchLater}}, wantDue: true,
		},
		"an entry: the records may not be read": {
			has: true, archived: notYet, source: sourceOf(notYet, set{clearly, justData}), generation: 2, refusal: forbidden, wantDue: true,
		},
		"an entry: the records cannot be read now": {
			has: true, archived: notYet, source: sourceOf(notYet, set{clearly, justData}), generation: 2, refusal: broken, wantDue: true,
		},
		"an entry: there is no record yet": {
			has: true, archived: notYet, source: sourceOf(notYet, set{clearly, justData}), generation: 2, wantDue: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := new(told)
			e := newTestEngine(t, registrar(t, tc.records, tc.refusal).config, r)
			w := web
			if tc.statefulSet {
				w.Kind = reloader.StatefulSet
			}
			a := newApp(w).with(func(a *app) { a.generation = max(1, tc.generation) }).recorded(t)
			meta := a.meta()
			meta.CreationTimestamp = metav1.Time{Time: born}
			e.intake.observe(w, meta, moment{})
			event(e, "settings", "9", listed)
			kept := pages{password: entry(1, "p")}
			if tc.has {
				kept[settings] = entry(5, "a")
			}
			e.archived = born.Add(tc.archived)
			e.ledger.open(kept, false)

			taken, _ := e.ledger.take(settings)
			require.True(t, taken)
			require.NoError(t, e.lookAt(t.Context(), settings, e.digest(tc.source)))
			var want, wantDoubtful []reloader.Workload
			if tc.wantDue {
				want = []reloader.Workload{w}
			}
			if tc.wantDoubtful {
				wantDoubtful = []reloader.Workload{w}
			}
			assert.Equal(t, want, drain(e.queues.workloads))
			assert.Equal(t, tc.wantDue, len(e.ledger.due(w)) > 0)
			assert.Equal(t, wantDoubtful, r.doubtful)
			assert.Equal(t, !tc.wantDue, kept[settings].Version == 9, "what nobody waits for is rolled out")

			require.NoError(t, e.lookAt(t.Context(), settings, e.digest(tc.source)))
			assert.Equal(t, wantDoubtful, r.doubtful, "it is told once")
			assert.Empty(t, drain(e.queues.workloads), "it is looked back once")
		})
	}
}

// A change is not taken for doubtful because a request has failed once.
func TestARefusedListOfRecordsIsAskedForAgain(t *testing.T) {
	tests := map[string]struct {
		// refusals of the list, one after the other, each that long after the one
		// before.
		refusals int
		apart    time.Duration

		wantDue, wantDoubtful bool
	}{
		"refused once":             {refusals: 1, apart: time.Second, wantDue: true},
		"refused twice":            {refusals: 2, apart: time.Minute, wantDue: true},
		"refused again and again":  {refusals: 4, apart: 5 * time.Second, wantDoubtful: true},
		"refused often, at a time": {refusals: 4, wantDue: true},
	}
	for name, tc := range tests {
		for _, how := range []string{"alone", "found by a search"} {
			t.Run(name+", "+how, func(t *testing.T) {
				asked := 0
				server := play(t, func(r request) (int, http.Header, any) {
					if asked++; asked <= tc.refusals {
						return failure(apierrors.NewInternalError(assert.AnError))
					}
					return registered(r, []templateRecord{{1, 0}})
				})
				r := new(told)
				e := newTestEngine(t, server.config, r)
				clock := clocktesting.NewFakeClock(born.Add(time.Hour))
				e.queues.sources.backoff.clock = clock
				meta := newApp(web).with(func(a *app) { a.generation = 2 }).recorded(t).meta()
				meta.CreationTimestamp = metav1.Time{Time: born}
				e.intake.observe(web, meta, moment{})
				event(e, "settings", "9", listed)
				e.ledger.open(pages{password: entry(1, "p")}, false)
				found := e.digest(sourceOf(-time.Hour, set{time.Minute, justData}))

				var err error
				for range tc.refusals + 1 {
					taken, _ := e.ledger.take(settings)
					require.True(t, taken)
					if how == "alone" {
						if err = e.lookAt(t.Context(), settings, found); err != nil {
							require.ErrorIs(t, err, errLookBack)
							e.ledger.putBack(settings)
							e.queues.sources.failed(settings, err)
						}
					} else {
						_, err = e.found(t.Context(), settings, found, nil)
						require.NoError(t, err)
					}
					if len(e.ledger.due(web)) > 0 || len(r.doubtful) > 0 {
						break
					}
					clock.Step(tc.apart)
				}
				assert.Equal(t, tc.wantDue, len(e.ledger.due(web)) > 0)
				assert.Equal(t, tc.wantDoubtful, len(r.doubtful) > 0)
				taken, _ := e.ledger.take(settings)
				assert.False(t, taken, "it is decided")
			})
		}
	}
}

func TestAFirstStartDoesNotLookBack(t *testing.T) {
	r := new(told)
	e := newTestEngine(t, unreachable(t), r)
	meta := newApp(web).recorded(t).meta()
	meta.CreationTimestamp = metav1.Time{Time: born}
	e.intake.observe(web, meta, moment{})
	event(e, "settings", "9", listed)
	e.ledger.open(pages{}, true)
	_, _ = e.ledger.take(settings)
	require.NoError(t, e.lookAt(t.Context(), settings, e.digest(sourceOf(-time.Hour, set{time.Hour, justData}))))
	assert.Empty(t, e.ledger.due(web))
	assert.Empty(t, r.doubtful)
}

// Many sources of a namespace that have changed cost one list of its records.
func TestRecordsOfTemplatesAreReadOnce(t *testing.T) {
	tests := map[string]struct {
		refusal   *apierrors.StatusError
		wantReads int
	}{
		"that may be read":            {nil, 1},
		"that may not":                {apierrors.NewForbidden(schema.GroupResource{}, "", nil), 1},
		"that cannot be read for now": {apierrors.NewInternalError(assert.AnError), 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := registrar(t, []templateRecord{{1, 0}, {2, time.Minute}}, tc.refusal)
			b := newTestEngine(t, server.config, new(told)).births
			for range 2 {
				got, ok, err := b.of(t.Context(), web, "first")
				assert.Equal(t, tc.refusal == nil, ok)
				assert.Equal(t, tc.wantReads > 1, err != nil, "it is worth another try")
				if ok {
					assert.Equal(t, born.Add(time.Minute), got.at.UTC())
					assert.False(t, got.again)
				}
			}
			assert.Len(t, server.requests, tc.wantReads)
			b.forget()
			_, _, _ = b.of(t.Context(), web, "first")
			assert.Len(t, server.requests, tc.wantReads+1)
			_, ok, err := b.of(t.Context(), reloader.Workload{Kind: "CronJob", Namespace: "shop", Name: "web"}, "first")
			require.NoError(t, err)
			assert.False(t, ok, "who keeps no records has none")
		})
	}
}
