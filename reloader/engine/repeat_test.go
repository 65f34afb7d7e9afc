package engine

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
)

// An engine ends after it has reloaded one workload of a source. The next one
// does not know that.
func TestAReloadOfAnEngineBeforeIsNotRepeated(t *testing.T) {
	a := newApp(web).recorded(t)
	object := a.object().(*appsv1.Deployment)
	server := deployments(t, object)
	before := newTestEngine(t, server.config, new(told))
	settled(t, before.intake, a)
	due(t, before.ledger, written(20, "b"))
	require.NoError(t, before.reload(t.Context(), web))
	require.Equal(t, int64(2), object.Generation)

	next := func(key *Engine) (*Engine, *told) {
		r := new(told)
		e := newTestEngine(t, server.config, r)
		e.key, e.seals = key.key, key.seals
		now := a.with(func(a *app) { a.generation, a.annotations = object.Generation, object.Annotations })
		settled(t, e.intake, now)
		due(t, e.ledger, written(20, "b"))
		e.ledger.sources[settings].inherited = true
		server.requests = nil
		return e, r
	}
	e, r := next(before)
	require.NoError(t, e.reload(t.Context(), web))
	require.Len(t, server.requests, 1)
	assert.Equal(t, http.MethodGet, server.requests[0].method)
	assert.Equal(t, int64(2), object.Generation)
	assert.Empty(t, r.reloaded)
	assert.Empty(t, e.ledger.due(web))
	assert.False(t, e.ledger.sources[settings].inherited, "the next change is ours")

	// What it has not done is done.
	object.Spec.Template.Spec.Containers[0].Env = nil
	e, r = next(before)
	require.NoError(t, e.reload(t.Context(), web))
	assert.Len(t, server.requests, 2)
	assert.Equal(t, int64(3), object.Generation)
	assert.Len(t, r.reloaded, 1)
}

// served serves one workload as the API server would: generations follow the
// rules of its kind.
func served(t *testing.T, k kind.Kind, object *map[string]any) *script {
	t.Helper()
	return play(t, func(r request) (int, http.Header, any) {
		if r.method != http.MethodPatch {
			return http.StatusOK, nil, *object
		}
		before, err := json.Marshal(*object)
		require.NoError(t, err)
		after, err := strategicpatch.StrategicMergePatch(before, []byte(r.body), appsv1.StatefulSet{})
		require.NoError(t, err)
		patched := map[string]any{}
		require.NoError(t, json.Unmarshal(after, &patched))
		raised := !reflect.DeepEqual((*object)["spec"], patched["spec"]) ||
			k.CountsAnnotations() && !reflect.DeepEqual(annotationsOf(*object), annotationsOf(patched))
		if raised {
			meta := patched["metadata"].(map[string]any)
			meta["generation"] = meta["generation"].(float64) + 1
		}
		*object = patched
		return http.StatusOK, nil, map[string]any{
			"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": patched["metadata"],
		}
	})
}

func methods(s *script) (all []string) {
	for _, r := range s.requests {
		all = append(all, r.method)
	}
	return all
}

func annotationsOf(object map[string]any) any {
	return object["metadata"].(map[string]any)["annotations"]
}

func metaIn(t *testing.T, object map[string]any) *metav1.ObjectMeta {
	t.Helper()
	raw, err := json.Marshal(object["metadata"])
	require.NoError(t, err)
	meta := new(metav1.ObjectMeta)
	require.NoError(t, json.Unmarshal(raw, meta))
	return meta
}

// asServed is the app as JSON.
func (a app) asServed(t *testing.T) map[string]any {
	t.Helper()
	raw, err := json.Marshal(a.object())
	require.NoError(t, err)
	object := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &object))
	object["apiVersion"], object["kind"] = "apps/v1", string(a.workload.Kind)
	return object
}

// Whatever a reload finds on a workload, no record stays on it that is for a
// generation to come, and none that fits and is of another template.
func TestNoRecordIsForAGenerationToCome(t *testing.T) {
	const removed = -1
	ahead := func(r *record.Record) { r.Generation += 5 }
	tests := map[string]struct {
		// known is what the engine knows, there is what the API server has.
		known, there func(t *testing.T, a app) app
		// made is true if another engine has made the reload before.
		made bool
		// want is how far the record is behind the workload afterwards, or removed.
		want         int64
		wantReloaded int
		wantPatches  int
	}{
		"a reload":                      {wantReloaded: 1, wantPatches: 1},
		"a reload that was made before": {made: true, wantPatches: 2},
		"a record that the engine does not know of": {
			known: func(_ *testing.T, a app) app { return a.with(func(a *app) { delete(a.annotations, keys.Index) }) },
			there: func(t *testing.T, a app) app { return a.recorded(t, ahead) },
			want:  removed, wantReloaded: 1, wantPatches: 2,
		},
		"a record for a generation to come, which the reload replaces": {
			there:        func(t *testing.T, a app) app { return a.recorded(t, ahead) },
			wantReloaded: 1, wantPatches: 1,
		},
		// As after a restore: the template is one from before, too.
		"generations that have gone back": {
			known: func(t *testing.T, a app) app { return a.with(func(a *app) { a.generation = 9 }).recorded(t) },
			there: func(_ *testing.T, a app) app { return a.with(func(a *app) { a.configMaps = []string{"other"} }) },
			want:  removed, wantReloaded: 1, wantPatches: 2,
		},
	}
	for _, of := range []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet} {
		for name, tc := range tests {
			t.Run(string(of)+", "+name, func(t *testing.T) {
				if of == reloader.Deployment && tc.made {
					tc.wantReloaded, tc.wantPatches = 1, 1 // the record alone makes a generation
				}
				a := newApp(reloader.Workload{Kind: of, Namespace: web.Namespace, Name: web.Name}).recorded(t)
				known, there := a, a
				if tc.known != nil {
					known = tc.known(t, a)
				}
				if tc.there != nil {
					there = tc.there(t, a)
				}
				object := there.asServed(t)
				server := served(t, kindOf(t, a.workload), &object)
				r := new(told)
				e := newTestEngine(t, server.config, r)
				if tc.made {
					before := newTestEngine(t, server.config, new(told))
					before.key, before.seals = e.key, e.seals
					settled(t, before.intake, a)
					dueTo(t, before.ledger, a.workload, written(30, "b"))
					require.NoError(t, before.reload(t.Context(), a.workload))
					known = a.with(func(a *app) { a.generation, a.annotations = 2, metaIn(t, object).Annotations })
					server.requests = nil
				}
				settled(t, e.intake, known)
				dueTo(t, e.ledger, a.workload, written(30, "b"))
				require.NoError(t, e.reload(t.Context(), a.workload))

				meta := metaIn(t, object)
				rec, err := record.Decode(meta.Annotations[keys.Index])
				if tc.want == removed {
					assert.NotContains(t, meta.Annotations, keys.Index)
				} else {
					require.NoError(t, err)
					assert.Equal(t, tc.want, meta.Generation-rec.Generation)
				}
				assert.Len(t, r.reloaded, tc.wantReloaded)
				assert.Len(t, server.requests, tc.wantPatches)
				assert.Empty(t, e.ledger.due(a.workload))
			})
		}
	}
}

// Writing the same text again would change nothing.
func TestARecordThatCannotBeCorrectedIsRemoved(t *testing.T) {
	a := newApp(web).recorded(t)
	object := a.asServed(t)
	server := served(t, kindOf(t, web), &object)
	before := newTestEngine(t, server.config, new(told))
	settled(t, before.intake, a)
	due(t, before.ledger, written(30, "b"))
	require.NoError(t, before.reload(t.Context(), web))

	// Generation 2 has the marks; a tenant writes the record for 3 into it.
	meta := metaIn(t, object)
	rec, err := record.Decode(meta.Annotations[keys.Index])
	require.NoError(t, err)
	text, err := rec.WithGeneration(3).Encode()
	require.NoError(t, err)
	annotationsOf(object).(map[string]any)[keys.Index] = text
	r := new(told)
	e := newTestEngine(t, server.config, r)
	e.key, e.seals = before.key, before.seals
	settled(t, e.intake, a.with(func(a *app) { a.generation, a.annotations = 2, meta.Annotations }))
	due(t, e.ledger, written(30, "b"))
	require.NoError(t, e.reload(t.Context(), web))
	assert.NotContains(t, metaIn(t, object).Annotations, keys.Index)
	assert.Empty(t, r.reloaded, "nothing has changed")
}

// Patches for other reasons correct the record, too.
func TestEveryPatchCorrectsARecordThatIsAhead(t *testing.T) {
	ahead := func(r *record.Record) { r.Generation += 5 }
	tests := map[string]struct {
		of    reloader.WorkloadKind
		patch func(t *testing.T, e *Engine, a app)
	}{
		"of a CronJob that remembers what was started": {reloader.CronJob, func(t *testing.T, e *Engine, a app) {
			t.Helper()
			m := &kind.Manifest{Kind: reloader.CronJob, Meta: a.meta()}
			came, err := e.remember(t.Context(), kindOf(t, a.workload), m, kind.Change{
				UID: a.uid, Keys: keys, Marks: []kind.Mark{{Source: settings, Value: "b"}},
			})
			require.NoError(t, err)
			assert.True(t, came.done)
		}},
		"of a pause": {reloader.Deployment, func(t *testing.T, e *Engine, a app) {
			t.Helper()
			d := &appsv1.Deployment{ObjectMeta: *a.meta()}
			require.NoError(t, e.writePause(t.Context(), a.workload, d, &kind.Pause{Paused: new(true)}))
		}},
		"of the Deployment that lends its template": {reloader.Deployment, func(t *testing.T, e *Engine, a app) {
			t.Helper()
			m := &kind.Manifest{Kind: reloader.Rollout, Meta: &metav1.ObjectMeta{Namespace: "shop", Name: "rolls"}, Borrows: true, Lender: a.workload}
			came, err := e.patchLender(t.Context(), m, kind.Change{
				Strategy: kind.EnvVars, Keys: keys, Record: "of the Rollout",
				Marks: []kind.Mark{{Source: settings, Value: "b", Container: "main", Env: "STAKATER_SETTINGS_CONFIGMAP"}},
			})
			require.NoError(t, err)
			assert.True(t, came.done)
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := newApp(reloader.Workload{Kind: tc.of, Namespace: web.Namespace, Name: web.Name}).recorded(t, ahead)
			object := a.asServed(t)
			server := served(t, kindOf(t, a.workload), &object)
			tc.patch(t, newTestEngine(t, server.config, new(told)), a)
			assert.NotContains(t, metaIn(t, object).Annotations, keys.Index)
			assert.Len(t, slices.DeleteFunc(methods(server), func(m string) bool { return m != http.MethodPatch }), 2)
		})
	}
}
