package engine

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

func borrower(name string) reloader.Workload {
	return reloader.Workload{Kind: reloader.Rollout, Namespace: "shop", Name: name}
}

func TestWhoHasToLookAtALenderAgain(t *testing.T) {
	first, second := borrower("first"), borrower("second")
	l := newLenders()
	assert.Empty(t, l.seen(web, edition{uid: "a", generation: 1, at: at(1)}), "nobody borrows")
	read := loan{told: l.borrow(first, web), edition: edition{uid: "a", generation: 1}}
	l.borrow(second, web)
	_, ok := l.newer(first, read)
	assert.False(t, ok, "nothing has happened since it was read")
	assert.ElementsMatch(t, []reloader.Workload{first, second}, l.seen(web, edition{uid: "a", generation: 2, at: at(2)}))
	assert.Empty(t, l.seen(web, edition{uid: "a", generation: 2, at: at(3)}), "a status is no news")

	since, ok := l.newer(first, read)
	assert.True(t, ok)
	assert.Equal(t, at(2), since)
	read.generation = 2
	_, ok = l.newer(first, read)
	assert.False(t, ok, "it is what was read")
	_, ok = l.newer(first, loan{told: l.borrow(first, web), edition: edition{uid: "a", generation: 3}})
	assert.False(t, ok, "its event comes")

	l.borrow(second, reloader.Workload{})
	assert.Equal(t, []reloader.Workload{first}, l.seen(web, edition{at: at(5)}), "it is gone")
	l.borrow(first, borrower("other"))
	assert.Empty(t, l.seen(web, edition{uid: "b", generation: 1, at: at(6)}))
	l.borrow(first, reloader.Workload{})
	assert.Empty(t, l.lent, "nothing is kept for nobody")
	assert.Empty(t, l.of)
}

// lending is an engine that has resolved the Rollout rolls by way of the
// Deployment web, which is as lender says; nil is not there. during is called
// once for each time that it is set, when web has been read and before that is
// answered.
func lending(t *testing.T, lender **app, during *func()) *Engine {
	t.Helper()
	rolls := map[string]any{
		"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
		"metadata": map[string]any{"namespace": "shop", "name": "rolls", "uid": "first", "generation": 1, "annotations": map[string]any{keys.Auto: "true"}},
		"spec":     map[string]any{"workloadRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
	}
	all := map[string]any{"/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/rolls": rolls}
	for _, k := range kind.BuiltIn().All() {
		list := map[string]any{"apiVersion": k.Resource.GroupVersion().String(), "kind": string(k.Name) + "List"}
		if k.Name == reloader.Rollout {
			list["items"] = []any{rolls}
		}
		all[listPath(k)] = list
	}
	server := play(t, func(r request) (int, http.Header, any) {
		if r.path != "/apis/apps/v1/namespaces/shop/deployments/web" {
			return http.StatusOK, nil, all[r.path]
		}
		read := *lender
		if f := *during; f != nil {
			*during = nil
			f()
		}
		if read == nil {
			return failure(apierrors.NewNotFound(schema.GroupResource{Resource: "deployments"}, "web"))
		}
		o := read.object()
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"})
		return http.StatusOK, nil, o
	})
	e := newTestEngine(t, server.config, new(told))
	e.intake.observe(borrower("rolls"), &metav1.ObjectMeta{
		Namespace: "shop", Name: "rolls", UID: "first", Generation: 1, Annotations: map[string]string{keys.Auto: "true"},
	}, at(10))
	return e
}

// A Rollout is resolved by way of the Deployment that it names, and again when
// that one changes.
func TestABorrowedTemplateIsFollowed(t *testing.T) {
	lender := new(newApp(web))
	e := lending(t, &lender, new(func()))
	w := borrower("rolls")
	require.NoError(t, resolveQueued(t, e))
	assert.Equal(t, []reloader.Source{settings}, e.index.DependsOn(w))

	lender.configMaps, lender.generation, lender.version = []string{"settings", "more"}, 2, "20"
	e.lenderSeen(web, lender.meta(), at(20))
	require.NoError(t, resolveQueued(t, e))
	assert.ElementsMatch(t, []reloader.Source{settings, configMap("more")}, e.index.DependsOn(w))
}

// What has been read of a lender may be old by the time it arrives.
func TestALenderThatChangesWhileItIsRead(t *testing.T) {
	edited := newApp(web).with(func(a *app) { a.configMaps, a.generation, a.version = []string{"more"}, 2, "40" })
	tests := map[string]struct {
		// happens while web is read, given the feed of Deployments.
		happens func(t *testing.T, e *Engine, f *feed)
		// after is what is there then, and since when.
		after     *app
		wantSince uint64
	}{
		"by an edit": {
			happens: func(t *testing.T, _ *Engine, f *feed) { require.NoError(t, f.Update(metaOf(edited))) },
			after:   &edited, wantSince: 40,
		},
		"by its end": {
			happens:   func(t *testing.T, _ *Engine, f *feed) { require.NoError(t, f.Delete(metaOf(edited))) },
			wantSince: 40,
		},
		"by its end, of which a list tells": {
			happens:   func(t *testing.T, _ *Engine, f *feed) { require.NoError(t, f.Replace(nil, "50")) },
			wantSince: 10,
		},
	}
	passes := map[string]func(t *testing.T, e *Engine){
		"for the first time": func(t *testing.T, e *Engine) { require.NoError(t, resolveQueued(t, e)) },
		"for a borrower that has changed": func(t *testing.T, e *Engine) {
			e.intake.again(borrower("rolls"), at(30))
			require.NoError(t, resolveQueued(t, e))
		},
		"to verify the index": func(t *testing.T, e *Engine) { require.NoError(t, e.Verify(t.Context())) },
	}
	for name, tc := range tests {
		for pass, read := range passes {
			t.Run(name+", "+pass, func(t *testing.T) {
				lender, during := new(newApp(web)), new(func())
				e := lending(t, &lender, during)
				f := e.workloadFeed(kindOf(t, web), area{})
				require.NoError(t, f.Add(metaOf(*lender)))
				if pass != "for the first time" {
					require.NoError(t, resolveQueued(t, e))
				}
				*during = func() {
					lender = tc.after
					tc.happens(t, e, f)
					if pass == "to verify the index" {
						// Workers are faster than the pass.
						require.NoError(t, resolveQueued(t, e))
					}
				}
				read(t, e)
				var want []reloader.Source
				if tc.after != nil {
					want = []reloader.Source{configMap("more")}
				}
				assert.Equal(t, want, e.index.DependsOn(borrower("rolls")))
				assert.True(t, e.intake.allResolved())
				assert.Equal(t, tc.wantSince, e.intake.workloads[borrower("rolls")].since.version)
			})
		}
	}
}

// A list does not bring what others lend: it is made once all the same, and not
// again for each who borrows.
func TestManyBorrowersAreListedOnce(t *testing.T) {
	const n = manyUnresolved + 10
	rolls := func(i int) map[string]any {
		return map[string]any{
			"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
			"metadata": map[string]any{"namespace": "shop", "name": strconv.Itoa(i), "uid": "first", "generation": 1, "annotations": map[string]any{keys.Auto: "true"}},
			"spec":     map[string]any{"workloadRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
		}
	}
	var items []any
	for i := range n {
		items = append(items, rolls(i))
	}
	server := play(t, func(r request) (int, http.Header, any) {
		if r.path == "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts" {
			return http.StatusOK, nil, map[string]any{"apiVersion": "argoproj.io/v1alpha1", "kind": "RolloutList", "items": items}
		}
		if name, ok := strings.CutPrefix(r.path, "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/"); ok {
			i, _ := strconv.Atoi(name)
			return http.StatusOK, nil, rolls(i)
		}
		o := newApp(web).object()
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"})
		return http.StatusOK, nil, o
	})
	e := newTestEngine(t, server.config, new(told))
	for i := range n {
		e.intake.observe(borrower(strconv.Itoa(i)), &metav1.ObjectMeta{
			Namespace: "shop", Name: strconv.Itoa(i), UID: "first", Generation: 1, Annotations: map[string]string{keys.Auto: "true"},
		}, at(10))
	}
	require.NoError(t, resolveQueued(t, e))
	assert.True(t, e.intake.allResolved())
	assert.Len(t, paths(server), 1+2*n)
}

// The controller of a Rollout writes its status all the time: that somebody was
// faster is looked into, and told only if it does not end.
func TestWhoWasFasterIsNoFailure(t *testing.T) {
	for name, conflicts := range map[string]int{"once": 1, "too often": 100} {
		t.Run(name, func(t *testing.T) {
			patches := 0
			server := play(t, func(r request) (int, http.Header, any) {
				if r.method == http.MethodPatch {
					if patches++; patches <= conflicts {
						return failure(apierrors.NewConflict(schema.GroupResource{Resource: "rollouts"}, "rolls", errors.New("modified")))
					}
					return http.StatusOK, nil, metav1.PartialObjectMetadata{
						TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
					}
				}
				return http.StatusOK, nil, map[string]any{
					"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
					"metadata": map[string]any{"namespace": "shop", "name": "rolls", "uid": "first", "resourceVersion": "5"},
					"spec":     map[string]any{"template": newApp(web).template()},
				}
			})
			e := newTestEngine(t, server.config, new(told))
			w := borrower("rolls")
			came, err := e.carryOut(t.Context(), kindOf(t, w), w, kind.Change{UID: "first", Strategy: kind.EnvVars, Keys: keys, Marks: []kind.Mark{
				{Source: settings, Value: "b", Container: "main", Env: "STAKATER_SETTINGS_CONFIGMAP"},
			}})
			assert.Equal(t, conflicts == 1, came.done)
			assert.Equal(t, conflicts > 1, apierrors.IsConflict(err))
			assert.LessOrEqual(t, patches, writeAttempts)
		})
	}
}

func TestOnlyACronJobsTemplateIsForLater(t *testing.T) {
	for _, k := range kind.BuiltIn().All() {
		assert.Equal(t, k.Name != reloader.CronJob, k.StartsPods, k.Name)
	}
}
