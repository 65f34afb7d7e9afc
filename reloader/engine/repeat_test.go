package engine

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// served serves workloads as the API server would: generations follow the rules
// of their kinds.
func served(t *testing.T, objects ...*map[string]any) *script {
	t.Helper()
	return play(t, func(r request) (int, http.Header, any) {
		at := slices.IndexFunc(objects, func(o *map[string]any) bool {
			return strings.HasSuffix(r.path, strings.ToLower((*o)["kind"].(string))+"s/"+metaIn(t, *o).Name)
		})
		if at < 0 {
			return failure(apierrors.NewNotFound(appsv1.Resource("workloads"), r.path))
		}
		object := objects[at]
		if r.method != http.MethodPatch {
			return http.StatusOK, nil, *object
		}
		k := kindOf(t, reloader.Workload{Kind: reloader.WorkloadKind((*object)["kind"].(string))})
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
				server := served(t, &object)
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
	server := served(t, &object)
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
			server := served(t, &object)
			tc.patch(t, newTestEngine(t, server.config, new(told)), a)
			assert.NotContains(t, metaIn(t, object).Annotations, keys.Index)
			assert.Len(t, slices.DeleteFunc(methods(server), func(m string) bool { return m != http.MethodPatch }), 2)
		})
	}
}

// A reload that an engine before has made is not reported again, however it is
// made, and made if it has not been.
func TestNoReloadIsReportedTwice(t *testing.T) {
	template := func(change func(*corev1.PodTemplateSpec)) any {
		pod := newApp(web).template()
		if change != nil {
			change(&pod)
		}
		raw, err := json.Marshal(pod)
		require.NoError(t, err)
		object := map[string]any{}
		require.NoError(t, json.Unmarshal(raw, &object))
		return object
	}
	object := func(of reloader.WorkloadKind, name string, spec map[string]any) *map[string]any {
		return &map[string]any{
			"apiVersion": kindOf(t, reloader.Workload{Kind: of}).Resource.GroupVersion().String(), "kind": string(of), "spec": spec,
			"metadata": map[string]any{
				"namespace": "shop", "name": name, "uid": name, "generation": 1, "resourceVersion": "10", "annotations": map[string]any{keys.Auto: "true"},
			},
		}
	}
	plain := map[string]any{"template": template(nil)}
	full := map[kind.Strategy]string{kind.EnvVars: "STAKATER_", kind.Annotations: "CONFIGMAP"}
	borrowed := map[string]any{"workloadRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "lender"}}
	twice := map[string]any{"template": template(func(p *corev1.PodTemplateSpec) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}}
	})}
	tests := map[string]struct {
		of         reloader.WorkloadKind
		spec       map[string]any
		strategies []kind.Strategy
		// full is true if its annotations leave no room for names.
		full bool
	}{
		"a Deployment":                           {of: reloader.Deployment, spec: plain},
		"a Deployment, full":                     {of: reloader.Deployment, spec: plain, full: true},
		"a StatefulSet":                          {of: reloader.StatefulSet, spec: plain},
		"a StatefulSet, full":                    {of: reloader.StatefulSet, spec: plain, full: true},
		"a DaemonSet":                            {of: reloader.DaemonSet, spec: plain},
		"a Deployment with a name that is twice": {of: reloader.Deployment, spec: twice, strategies: []kind.Strategy{kind.Annotations}},
		"a DeploymentConfig":                     {of: reloader.DeploymentConfig, spec: plain, strategies: []kind.Strategy{kind.Annotations}},
		"a DeploymentConfig, full":               {of: reloader.DeploymentConfig, spec: plain, strategies: []kind.Strategy{kind.Annotations}, full: true},
		"a Rollout":                              {of: reloader.Rollout, spec: plain, strategies: []kind.Strategy{kind.Annotations}},
		"a Rollout, full":                        {of: reloader.Rollout, spec: plain, strategies: []kind.Strategy{kind.Annotations}, full: true},
		"a Rollout that borrows its template":    {of: reloader.Rollout, spec: borrowed},
		"a Rollout that borrows from a full one": {of: reloader.Rollout, spec: borrowed, full: true},
	}
	for name, tc := range tests {
		if tc.strategies == nil {
			tc.strategies = []kind.Strategy{kind.EnvVars, kind.Annotations}
		}
		for _, strategy := range tc.strategies {
			t.Run(name+", "+string(strategy), func(t *testing.T) {
				w := reloader.Workload{Kind: tc.of, Namespace: "shop", Name: "web"}
				it, lender := object(tc.of, "web", tc.spec), object(reloader.Deployment, "lender", plain)
				all := []*map[string]any{it}
				carries := it
				if tc.spec["workloadRef"] != nil {
					all, carries = append(all, lender), lender
				}
				server := served(t, all...)
				if tc.full {
					server.config.Transport = &narrow{RoundTripper: server.config.Transport, names: full[strategy]}
				}
				var before *Engine
				next := func() (*Engine, *told) {
					r := new(told)
					e := newTestEngine(t, server.config, r)
					e.strategy = strategy
					if before != nil {
						e.key, e.seals = before.key, before.seals
					}
					e.intake.observe(w, metaIn(t, *it), moment{})
					require.NoError(t, resolveQueued(t, e))
					require.Equal(t, []reloader.Source{settings}, e.index.DependsOn(w))
					e.ledger.take(settings)
					dependents := func() []reloader.Workload { return []reloader.Workload{w} }
					e.ledger.look(settings, written(1, "a"), dependents)
					dueTo(t, e.ledger, w, written(30, "b"))
					if before != nil {
						e.ledger.sources[settings].inherited = true
					}
					before, server.requests = e, nil
					return e, r
				}
				e, r := next()
				require.NoError(t, e.reload(t.Context(), w))
				require.Len(t, r.reloaded, 1)
				generation := metaIn(t, *carries).Generation
				require.Equal(t, int64(2), generation)

				e, r = next()
				require.NoError(t, e.reload(t.Context(), w))
				assert.Empty(t, r.reloaded)
				assert.NotContains(t, methods(server), http.MethodPatch)
				assert.Equal(t, generation, metaIn(t, *carries).Generation)
				assert.Empty(t, e.ledger.due(w))

				(*carries)["spec"] = plain
				e, r = next()
				require.NoError(t, e.reload(t.Context(), w))
				assert.Len(t, r.reloaded, 1, "it was not made")
				assert.Empty(t, e.ledger.due(w))
			})
		}
	}
}
