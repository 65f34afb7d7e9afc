package engine

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/record"
	"k8s-reloader/reloader/scope"
)

func TestAreas(t *testing.T) {
	selector, err := scope.ParseSelector("reloader=on")
	require.NoError(t, err)
	tests := map[string]struct {
		scope scope.Scope
		// want are watched, wantAround is listed for a workload in shop.
		want       []area
		wantAround area
	}{
		"everything": {want: []area{{}}},
		"a list": {
			scope: scope.Scope{Namespaces: []string{"bank", "shop"}},
			want:  []area{{namespace: "bank"}, {namespace: "shop"}}, wantAround: area{namespace: "shop"},
		},
		"all but some": {
			scope:      scope.Scope{IgnoredNamespaces: []string{"a", "b"}},
			want:       []area{{fields: "metadata.namespace!=a,metadata.namespace!=b"}},
			wantAround: area{fields: "metadata.namespace!=a,metadata.namespace!=b"},
		},
		"by labels, but for some": {
			scope:      scope.Scope{NamespaceSelector: selector, IgnoredNamespaces: []string{"a"}},
			want:       []area{{fields: "metadata.namespace!=a"}},
			wantAround: area{namespace: "shop"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, areas(tc.scope))
			assert.Equal(t, tc.wantAround, around(tc.scope, "shop"))
		})
	}
}

// selecting is an engine that watches the namespaces with a label; shop is
// joining. server lists its Deployments.
func selecting(t *testing.T, server *script, started bool) *Engine {
	t.Helper()
	selector, err := scope.ParseSelector("reloader=on")
	require.NoError(t, err)
	e := newTestEngine(t, server.config, new(told))
	e.scope.NamespaceSelector = selector
	e.intake.selection = &selection{namespaces: map[string]*joining{}}
	e.workloads = e.workloadFeeds()
	if started {
		e.intake.watchWorkloads()
	}
	require.NoError(t, e.namespaceFeed().Add(labelled("shop", "on")))
	return e
}

func labelled(name, value string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"reloader": value}}}
}

// listing serves lists of metadata: these for Deployments, none for others.
func listing(t *testing.T, during func(), apps ...app) *script {
	t.Helper()
	var once sync.Once
	return play(t, func(r request) (int, http.Header, any) {
		list := metav1.PartialObjectMetadataList{
			TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"},
		}
		if r.path == "/apis/apps/v1/namespaces/shop/deployments" {
			for _, a := range apps {
				list.Items = append(list.Items, *metaOf(a))
			}
			if during != nil {
				once.Do(during)
			}
		}
		return http.StatusOK, nil, list
	})
}

func metaOf(a app) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: *a.meta()}
}

func TestANamespaceJoins(t *testing.T) {
	a := newApp(web).recorded(t)
	server := listing(t, nil, a)
	e := selecting(t, server, true)
	assert.Zero(t, e.Stats().Workloads)
	require.Equal(t, []namespaceKey{"shop"}, drain(e.queues.namespaces))
	require.NoError(t, e.joinNamespace(t.Context(), "shop"))
	assert.Equal(t, 1, e.Stats().Workloads)
	assert.Equal(t, []reloader.Source{settings}, drain(e.queues.sources))
	assert.Empty(t, e.ledger.sources[settings].newcomers, "it was there before we looked")
	assert.Nil(t, e.intake.joining("shop"), "it has joined")
	asked := len(server.requests)
	require.NoError(t, e.joinNamespace(t.Context(), "shop"))
	assert.Len(t, server.requests, asked, "once")

	feed := e.workloadFeed(kindOf(t, web), area{})
	require.NoError(t, feed.Add(metaOf(newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: "bank", Name: "web"}).recorded(t))))
	assert.Equal(t, 1, e.Stats().Workloads, "others are not let in")
}

// A namespace that joins once more is looked back at as it is by then.
func TestWhatWasReadOfANamespaceIsReadAnewWhenItJoins(t *testing.T) {
	server := registrar(t, []templateRecord{{1, 0}}, nil)
	e := selecting(t, listing(t, nil), true)
	e.births = newTestEngine(t, server.config, new(told)).births
	for i := range 2 {
		e.namespaceLeaves("shop")
		e.namespaceJoins("shop")
		_, ok, err := e.births.of(t.Context(), web, "first")
		require.NoError(t, err)
		assert.True(t, ok)
		assert.Len(t, server.requests, i+1)
	}
}

// What the checkpoint tells of a class outlives that its namespace is not
// selected.
func TestClassesOfNamespacesThatAreNotSelectedAreKept(t *testing.T) {
	e := selecting(t, listing(t, nil), true)
	e.settings.CSI, e.feeds = true, nil
	e.checkpoint = (&drawer{objects: map[string]*corev1.ConfigMap{}}).store(t)
	class, gone := vault(), vault()
	class.Namespace, gone.Namespace = "bank", "attic"
	e.rotations.reported(mountReport{class, "1-bank-vault", mount{content: "a", version: 7}})
	kept := checkpoint.Entry{Fingerprint: "v1-0123456789abcdef0123456789abcdef", Version: 7}
	e.checkpoint.Set(class, kept)
	e.checkpoint.Set(gone, kept)
	e.tidy(t.Context())
	_, ok := e.checkpoint.Lookup(class)
	assert.True(t, ok)
	_, ok = e.checkpoint.Lookup(gone)
	assert.False(t, ok, "no pod reports it")
}

func TestNamespacesOfTheFirstListAreNotListedAgain(t *testing.T) {
	e := selecting(t, listing(t, nil), false)
	assert.Empty(t, drain(e.queues.namespaces))
	require.NoError(t, e.workloads[0].Replace([]any{metaOf(newApp(web).recorded(t))}, "10"))
	assert.Equal(t, 1, e.Stats().Workloads)
}

func TestEventsWhileANamespaceJoinsAreNewerThanItsList(t *testing.T) {
	a := newApp(web).recorded(t)
	edited := a.with(func(a *app) { a.configMaps, a.generation, a.version = []string{"other"}, 2, "20" }).recorded(t)
	replaced := edited.with(func(a *app) { a.uid, a.generation = "second", 1 }).recorded(t)
	tests := map[string]struct {
		events func(t *testing.T, f *feed)
		want   []reloader.Source
	}{
		"none":          {func(*testing.T, *feed) {}, []reloader.Source{settings}},
		"it is edited":  {func(t *testing.T, f *feed) { require.NoError(t, f.Update(metaOf(edited))) }, []reloader.Source{configMap("other")}},
		"it is deleted": {func(t *testing.T, f *feed) { require.NoError(t, f.Delete(metaOf(a))) }, nil},
		"it is replaced": {func(t *testing.T, f *feed) {
			require.NoError(t, f.Delete(metaOf(a)))
			require.NoError(t, f.Add(metaOf(replaced)))
		}, []reloader.Source{configMap("other")}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var e *Engine
			server := listing(t, func() { tc.events(t, e.workloads[0]) }, a)
			e = selecting(t, server, true)
			require.NoError(t, e.joinNamespace(t.Context(), "shop"))
			assert.Equal(t, tc.want, e.index.DependsOn(web))
			for _, s := range tc.want {
				assert.Empty(t, e.ledger.sources[s].newcomers, "what was there when it joined was there before we looked")
			}
		})
	}
}

func TestANamespaceThatLeavesWhileItJoinsStaysOut(t *testing.T) {
	var e *Engine
	server := listing(t, func() { e.namespaceLeaves("shop") }, newApp(web).recorded(t))
	e = selecting(t, server, true)
	require.NoError(t, e.joinNamespace(t.Context(), "shop"))
	assert.Zero(t, e.Stats())
	assert.Empty(t, e.intake.selected())
}

// What we have paused is resumed after its namespace has left; there is nothing to
// resume of what is gone.
func TestWhatIsPausedWhenItsNamespaceLeavesIsLookedAtWhileItIsThere(t *testing.T) {
	e := selecting(t, listing(t, nil), false)
	a := newApp(web).with(func(a *app) { a.annotations[keys.PausedAt] = "2026-01-02T03:04:05Z" }).recorded(t)
	require.NoError(t, e.workloads[0].Add(metaOf(a)))
	e.namespaceLeaves("shop")
	marks, concerned := e.pauses.of(web)
	assert.True(t, concerned && marks.left)
	assert.Equal(t, []reloader.Workload{web}, drain(e.queues.workloads))

	require.NoError(t, e.workloads[0].Delete(metaOf(a)))
	assert.Empty(t, e.pauses.concerned)
	assert.Zero(t, e.pauses.count())
}

func TestAJoinThatFailsIsTriedAgain(t *testing.T) {
	down, refused := true, false
	a := newApp(web).recorded(t)
	server := play(t, func(r request) (int, http.Header, any) {
		switch {
		case down:
			return failure(apierrors.NewServiceUnavailable("no"))
		case refused && r.path == "/apis/apps/v1/namespaces/shop/statefulsets":
			return failure(apierrors.NewForbidden(kindOf(t, worker).Resource.GroupResource(), "", nil))
		}
		list := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}}
		if r.path == "/apis/apps/v1/namespaces/shop/deployments" {
			list.Items = append(list.Items, *metaOf(a))
		}
		return http.StatusOK, nil, list
	})
	e := selecting(t, server, true)
	require.ErrorContains(t, e.joinNamespace(t.Context(), "shop"), "join namespace shop")
	assert.NotNil(t, e.intake.joining("shop"))
	down, refused = false, true
	require.NoError(t, e.joinNamespace(t.Context(), "shop"), "what is forbidden comes with its feed")
	assert.Nil(t, e.intake.joining("shop"))
	assert.Equal(t, 1, e.Stats().Workloads)
}

// Whatever becomes of a namespace that leaves, the archive goes on saying what
// was rolled out there.
func TestLeavingTakesNothingFromTheArchive(t *testing.T) {
	tests := map[string]struct {
		// before it leaves, and after.
		before, after func(t *testing.T, e *Engine)
		want          pages
	}{
		"nothing was under way": {want: pages{settings: entry(5, "a")}},
		"a reload was due": {
			before: func(t *testing.T, e *Engine) {
				due(t, e.ledger, written(30, "b"))
			},
			want: pages{settings: entry(inMotion, "a")},
		},
		"events go on": {
			after: func(_ *testing.T, e *Engine) {
				e.ledger.news(settings, 9)
				e.ledger.created(settings)
				e.ledger.abandon(settings, e.index.Depended)
				e.ledger.sweep(e.index.Depended)
			},
			want: pages{settings: entry(5, "a")},
		},
		"a reading comes late": {
			after: func(t *testing.T, e *Engine) {
				object := configMapObject("settings", "9", "2")
				require.NoError(t, e.lookAt(t.Context(), settings, e.digest(&object)))
			},
			want: pages{settings: entry(5, "a")},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := selecting(t, listing(t, nil), false)
			archive := pages{settings: entry(5, "a")}
			e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
			event(e, "settings", "5", listed)
			e.ledger.open(archive, false)
			require.True(t, e.ledger.allRead())
			if tc.before != nil {
				tc.before(t, e)
			}
			e.namespaceLeaves("shop")
			if tc.after != nil {
				tc.after(t, e)
			}
			assert.Equal(t, tc.want, archive)
			assert.Zero(t, e.Stats())
			assert.Empty(t, e.ledger.sources)
			assert.Empty(t, e.ledger.workloads)
			assert.True(t, e.ledger.allRead())
		})
	}
}

// Namespaces come and go for as long as the engine runs.
func TestNamespacesThatHaveGoneLeaveNothingInTheLedger(t *testing.T) {
	e := selecting(t, listing(t, nil), true)
	feed := e.namespaceFeed()
	for i := range 10 {
		name := fmt.Sprint("review-", i)
		require.NoError(t, feed.Add(labelled(name, "on")))
		a := newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: name, Name: "web"}).recorded(t)
		require.NoError(t, e.workloads[0].Add(metaOf(a)))
		if i%2 == 0 {
			require.NoError(t, e.workloads[0].Delete(metaOf(a)))
		}
		require.NoError(t, feed.Delete(labelled(name, "on")))
	}
	e.ledger.named = nil // functions are not compared
	empty := newLedger()
	empty.selected = map[string]bool{"shop": true}
	assert.Equal(t, empty, e.ledger)
}

func TestTheWebhookHasOtherKeys(t *testing.T) {
	e := newTestEngine(t, unreachable(t), new(told))
	var lines []string
	e.log = funcr.New(func(_, line string) {
		lines = append(lines, line)
		if assert.True(t, e.intake.mu.TryLock(), "nobody is told under the lock") {
			e.intake.mu.Unlock()
		}
	}, funcr.Options{})
	observe := func(a app) {
		require.NoError(t, e.workloadFeed(kindOf(t, a.workload), area{}).Update(metaOf(a)))
	}
	foreign := func(r *record.Record) { r.Keys = "others" }

	observe(newApp(worker))
	observe(newApp(web).recorded(t, func(r *record.Record) { r.Generation = 7 }))
	assert.Empty(t, lines, "no record, or one for another generation, tells nothing")
	observe(newApp(web).with(func(a *app) { a.generation = 2 }).recorded(t, foreign))
	observe(newApp(worker).with(func(a *app) { a.generation = 2 }).recorded(t, foreign))
	require.Len(t, lines, 1, "once")
	assert.Contains(t, lines[0], "start it with the same annotation flags")
	assert.Contains(t, lines[0], web.String())
	assert.False(t, e.intake.allResolved(), "they are worked out without the record")
}
