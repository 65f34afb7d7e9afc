package engine

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
	"k8s-reloader/reloader/report"
)

func TestAFeedHandsOnWhatTheWatchBrings(t *testing.T) {
	type event struct {
		name  string
		how   arrival
		since moment
	}
	object := func(name, version string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version}}
	}
	var seen []event
	var deleted []string
	var lists int
	f := &feed{
		settled: make(chan struct{}),
		seen: func(meta *metav1.PartialObjectMetadata, how arrival, since moment) {
			seen = append(seen, event{meta.Name, how, since})
		},
		deleted: func(meta *metav1.PartialObjectMetadata) { deleted = append(deleted, meta.Name) },
		listed:  func(items []any) { lists = len(items) },
	}
	require.NoError(t, f.Replace([]any{object("a", "3"), object("b", "9")}, "10"))
	<-f.settled
	require.NoError(t, f.Add(object("c", "11")))
	require.NoError(t, f.Update(object("a", "12")))
	require.NoError(t, f.Delete(object("b", "13")))
	require.NoError(t, f.Bookmark("20"))
	require.NoError(t, f.Replace([]any{object("a", "25")}, "30"))
	require.NoError(t, f.Resync())
	assert.Equal(t, []event{
		{"a", listed, moment{}},
		{"b", listed, moment{}},
		{"c", created, moment{version: 11}},
		{"a", updated, moment{version: 12}},
		{"a", listed, moment{version: 20}},
	}, seen)
	assert.Equal(t, []string{"b"}, deleted)
	assert.Equal(t, 1, lists)
	assert.Equal(t, uint64(30), f.newest)

	for name, hand := range map[string]func(any) error{
		"add": f.Add, "update": f.Update, "delete": f.Delete,
		"replace": func(o any) error { return f.Replace([]any{o}, "31") },
		"transform": func(o any) error {
			_, err := f.Transformer()(o)
			return err
		},
	} {
		require.ErrorContains(t, hand(new(corev1.Secret)), "*v1.Secret instead of metadata", name)
	}
}

func TestNothingStaysOfTheFirstListThatIsNotRead(t *testing.T) {
	long := strings.Repeat("x", 250_000)
	meta := func(annotations map[string]string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: "a", Labels: map[string]string{"a": "1"}, Annotations: annotations, Finalizers: []string{"a/b"},
			ManagedFields: []metav1.ManagedFieldsEntry{{}}, OwnerReferences: []metav1.OwnerReference{{}},
		}}
	}
	e := newTestEngine(t, unreachable(t), new(told))
	tests := map[string]struct {
		of              *feed
		annotations     map[string]string
		wantAnnotations map[string]string
	}{
		"of a source, nothing": {
			of: e.sourceFeed(reloader.ConfigMap, area{}), annotations: map[string]string{"a/b": long, keys.Match: "true"},
		},
		"of a workload, what is ours": {
			of:              e.workloadFeed(kindOf(t, web), area{}),
			annotations:     map[string]string{"a/b": long, keys.Auto: "true", "reloader.stakater.com/none": long},
			wantAnnotations: map[string]string{keys.Auto: "true"},
		},
		"of a policy, all that a read of the workload will bring": {
			of:              e.workloadFeed(kindOf(t, web), area{}),
			annotations:     map[string]string{keys.ConfigMapExclude: long},
			wantAnnotations: map[string]string{keys.ConfigMapExclude: long},
		},
		"of a record that is too long, enough to be so": {
			of:              e.workloadFeed(kindOf(t, web), area{}),
			annotations:     map[string]string{keys.Index: long},
			wantAnnotations: map[string]string{keys.Index: long[:record.MaxSize+1]},
		},
		"of a carrier, that it is one": {
			of:              e.workloadFeed(kindOf(t, web), area{}),
			annotations:     map[string]string{kind.JobCarrierKey: long},
			wantAnnotations: map[string]string{kind.JobCarrierKey: ""},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tc.of.Transformer()(meta(tc.annotations))
			require.NoError(t, err)
			assert.Equal(t, metav1.ObjectMeta{Name: "a", Annotations: tc.wantAnnotations}, got.(*metav1.PartialObjectMetadata).ObjectMeta)
		})
	}
}

// Where lists are not streamed, a feed drops what it does not read page by page,
// and asks without a version: at version 0 the limit would be ignored.
func TestAFeedListsInPages(t *testing.T) {
	server := play(t, func(r request) (int, http.Header, any) {
		list := metav1.PartialObjectMetadataList{
			ListMeta: metav1.ListMeta{ResourceVersion: "10", Continue: "second"},
			Items: []metav1.PartialObjectMetadata{{ObjectMeta: metav1.ObjectMeta{
				Name: "a", Annotations: map[string]string{"a/b": "1"}, Labels: map[string]string{"a": "1"},
			}}},
		}
		if strings.Contains(r.query, "continue=second") {
			list.Continue, list.Items[0].Name = "", "b"
		}
		return http.StatusOK, nil, list
	})
	e := newTestEngine(t, server.config, new(told))
	f := e.sourceFeed(reloader.ConfigMap, area{fields: "metadata.namespace!=a"})
	f.labels = "a=1"
	list, err := e.watcher.list(t.Context(), f)
	require.NoError(t, err)
	assert.Equal(t, &metav1.PartialObjectMetadataList{
		ListMeta: metav1.ListMeta{ResourceVersion: "10"},
		Items: []metav1.PartialObjectMetadata{
			{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, {ObjectMeta: metav1.ObjectMeta{Name: "b"}},
		},
	}, list)
	var queries []string
	for _, r := range server.requests {
		queries = append(queries, r.query)
		assert.Equal(t, metadataList, r.header.Get("Accept"))
	}
	const selected = "fieldSelector=metadata.namespace%21%3Da&labelSelector=a%3D1&limit=500"
	assert.Equal(t, []string{selected, "continue=second&" + selected}, queries)
}

func TestAListTellsWhatIsGone(t *testing.T) {
	e := newTestEngine(t, unreachable(t), new(told))
	settled(t, e.intake, newApp(web))
	present := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "settings", ResourceVersion: "1"}}

	feed := e.sourceFeed(reloader.ConfigMap, area{})
	require.NoError(t, feed.Replace([]any{present}, "10"))
	assert.Empty(t, drain(e.queues.sources), "it is known in that version")
	require.NoError(t, feed.Replace(nil, "20"))
	assert.Equal(t, []reloader.Source{settings}, drain(e.queues.sources))
	require.NoError(t, feed.Delete(present))
	assert.Equal(t, []reloader.Source{settings}, drain(e.queues.sources))

	require.NoError(t, e.workloadFeed(kindOf(t, web), area{}).Replace(nil, "20"))
	assert.Zero(t, e.Stats())
	assert.Empty(t, e.ledger.sources)
}

// However the engine comes to know that a workload is gone, nothing of it stays,
// and who borrows its template looks for it.
func TestNothingStaysOfAWorkloadThatIsGone(t *testing.T) {
	rolls := borrower("rolls")
	paused := newApp(web).with(func(a *app) { a.annotations[keys.PausePeriod] = "5m" }).recorded(t)
	tests := map[string]struct {
		// goes has a workload go, given the feed that covers it.
		goes func(t *testing.T, e *Engine, f *feed, w reloader.Workload)
		// wantAgain is who looks for the template of web then.
		wantAgain []reloader.Workload
	}{
		"an event tells": {
			func(t *testing.T, _ *Engine, f *feed, w reloader.Workload) {
				require.NoError(t, f.Delete(metaOf(newApp(w))))
			}, []reloader.Workload{rolls},
		},
		"a list does not have it": {
			func(t *testing.T, _ *Engine, f *feed, _ reloader.Workload) { require.NoError(t, f.Replace(nil, "20")) },
			[]reloader.Workload{rolls},
		},
		"its API is not served any more": {
			func(_ *testing.T, _ *Engine, f *feed, _ reloader.Workload) { f.gone() },
			[]reloader.Workload{rolls},
		},
		"its namespace is not selected any more": {
			func(_ *testing.T, e *Engine, _ *feed, _ reloader.Workload) { e.namespaceLeaves("shop") }, nil,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := selecting(t, listing(t, nil), false)
			feedOf := func(w reloader.Workload) *feed {
				i := slices.IndexFunc(e.workloads, func(f *feed) bool { return f.kind == w.Kind })
				require.GreaterOrEqual(t, i, 0)
				return e.workloads[i]
			}
			for _, a := range []app{paused, newApp(rolls).recorded(t)} {
				require.NoError(t, feedOf(a.workload).Add(metaOf(a)))
				reload := report.Reload{Workload: a.workload, UID: a.uid}
				e.rivals.reloaded(reload, 1, nil, "")
				e.attempts.lost(attempt{reload: reload})
			}
			e.lenders.borrow(rolls, web)
			e.lenderSeen(web, paused.meta(), at(10))
			drain(e.queues.resolve)

			tc.goes(t, e, feedOf(web), web)
			assert.Empty(t, e.pauses.concerned)
			assert.NotContains(t, e.intake.workloads, web)
			assert.NotContains(t, e.rivals.patched, web)
			assert.NotContains(t, e.attempts.last, web)
			assert.Equal(t, tc.wantAgain, drain(e.queues.resolve))
			if len(tc.wantAgain) > 0 {
				assert.Equal(t, at(10), e.intake.workloads[rolls].since, "the event of before tells when it may have gone")
			}

			tc.goes(t, e, feedOf(rolls), rolls)
			assert.Empty(t, e.intake.workloads)
			assert.Empty(t, e.rivals.patched)
			assert.Empty(t, e.attempts.last)
			assert.Empty(t, e.lenders.of)
			assert.Empty(t, e.lenders.lent)
			assert.True(t, e.intake.allResolved())
		})
	}
}

// shelfOfConfigMaps serves a list of ConfigMaps with these versions and values.
func shelfOfConfigMaps(t *testing.T, items *[]corev1.ConfigMap) *script {
	t.Helper()
	return play(t, func(request) (int, http.Header, any) {
		return http.StatusOK, nil, corev1.ConfigMapList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}, Items: *items,
		}
	})
}

func configMapObject(name, version, value string) corev1.ConfigMap {
	return corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: version},
		Data:       map[string]string{"a": value},
	}
}

func TestASearchOfAShelf(t *testing.T) {
	items := []corev1.ConfigMap{configMapObject("app-a", "5", "1"), configMapObject("app-b", "15", "1"), configMapObject("other", "15", "1")}
	server := shelfOfConfigMaps(t, &items)
	e := newTestEngine(t, server.config, new(told))
	named := newApp(worker).with(func(a *app) {
		a.annotations = map[string]string{keys.ConfigMapNamed: "app-.*,exact"}
		a.configMaps = nil
	})
	// Admitted in version 10: app-b was written later.
	e.intake.observe(worker, named.recorded(t).meta(), at(10))
	drain(e.queues.sources)
	require.NoError(t, e.searchShelf(t.Context(), shelf{reloader.ConfigMap, "shop"}))
	assert.True(t, e.ledger.allRead())
	assert.True(t, e.ledger.sources[configMap("exact")].absent)
	assert.NotContains(t, e.ledger.sources, configMap("other"))
	assert.Equal(t, []reloader.Source{configMap("app-b")}, sourcesOf(e.ledger.due(worker)))
	assert.Equal(t, []reloader.Workload{worker}, drain(e.queues.workloads))

	require.NoError(t, e.searchShelf(t.Context(), shelf{reloader.ConfigMap, "shop"}))
	assert.Len(t, server.requests, 1, "there is nothing to search for any more")
}

// A new entry in a named list has the shelf searched again. What was already
// due by the old entries stays due: no pod has started anew.
func TestANewPatternTakesNothingFromWhatIsDue(t *testing.T) {
	items := []corev1.ConfigMap{configMapObject("app-a", "5", "1")}
	server := shelfOfConfigMaps(t, &items)
	e := newTestEngine(t, server.config, new(told))
	on := shelf{reloader.ConfigMap, "shop"}
	named := newApp(worker).with(func(a *app) {
		a.annotations = map[string]string{keys.ConfigMapNamed: "app-.*"}
		a.configMaps = nil
	})
	e.intake.observe(worker, named.recorded(t).meta(), at(10))
	require.NoError(t, e.searchShelf(t.Context(), on))
	require.Empty(t, e.ledger.due(worker))
	items = []corev1.ConfigMap{configMapObject("app-a", "20", "2")}
	require.NoError(t, e.lookAt(t.Context(), configMap("app-a"), e.digest(&items[0])))
	require.Equal(t, []reloader.Source{configMap("app-a")}, sourcesOf(e.ledger.due(worker)))

	e.intake.observe(worker, named.with(func(a *app) { a.annotations[keys.ConfigMapNamed] = "app-.*,web-.*" }).recorded(t).meta(), at(30))
	require.NoError(t, e.searchShelf(t.Context(), on))
	assert.Equal(t, []reloader.Source{configMap("app-a")}, sourcesOf(e.ledger.due(worker)))
}

// crowd has web depend on so many ConfigMaps of which none has been read, and
// returns them.
func crowd(t *testing.T, e *Engine, n int) []reloader.Source {
	t.Helper()
	var names []string
	unread := 0
	for i := range n {
		names = append(names, fmt.Sprintf("app-%03d", i))
		if !e.ledger.exists(configMap(names[i])) {
			unread++
		}
	}
	e.intake.observe(web, newApp(web).with(func(a *app) { a.configMaps = names }).recorded(t).meta(), at(10))
	require.Equal(t, unread, e.ledger.unreadOn(shelfOf(settings)))
	return e.index.DependsOn(web)
}

// readQueued handles what is in the source queue, as a worker does.
func readQueued(t *testing.T, e *Engine) (failed error) {
	t.Helper()
	for e.queues.sources.Len() > 0 {
		s, _ := e.queues.sources.Get()
		if err := e.readSource(t.Context(), s); err != nil {
			failed = err
		}
		e.queues.sources.Done(s)
	}
	return failed
}

// event is what a watch brings of a ConfigMap.
func event(e *Engine, name, version string, how arrival) {
	e.sourceSeen(reloader.ConfigMap, &metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: version}, how)
}

func TestManyUnreadAreListed(t *testing.T) {
	const list = "/api/v1/namespaces/shop/configmaps"
	items := []corev1.ConfigMap{configMapObject("nobody-asked", "9", "1")}
	for i := range manyUnread - 2 {
		items = append(items, configMapObject(fmt.Sprintf("app-%03d", i), "9", "1"))
	}
	items = append(items, configMapObject("app-030", "12", "2"))
	server := shelfOfConfigMaps(t, &items)
	e := newTestEngine(t, server.config, new(told))
	sources := crowd(t, e, manyUnread)

	require.NoError(t, readQueued(t, e))
	assert.Equal(t, []string{list}, paths(server), "nothing is read alone")
	assert.True(t, e.ledger.allRead())
	assert.Len(t, e.ledger.sources, manyUnread, "what nobody asked for leaves nothing behind")
	for i, s := range sources {
		assert.Equal(t, i == manyUnread-1, e.ledger.sources[s].absent, s)
		assert.Empty(t, e.ledger.sources[s].newcomers, s)
	}
	// Admitted in version 10: one was written later.
	assert.Equal(t, []reloader.Source{configMap("app-030")}, sourcesOf(e.ledger.due(web)))
	assert.Equal(t, []reloader.Workload{web}, drain(e.queues.workloads))
}

func TestFewUnreadAreReadOneByOne(t *testing.T) {
	server := play(t, func(r request) (int, http.Header, any) {
		o := configMapObject(path.Base(r.path), "9", "1")
		o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
		return http.StatusOK, nil, o
	})
	e := newTestEngine(t, server.config, new(told))
	crowd(t, e, manyUnread-1)
	require.NoError(t, readQueued(t, e))
	assert.Len(t, paths(server), manyUnread-1)
	assert.NotContains(t, paths(server), "/api/v1/namespaces/shop/configmaps")
	assert.True(t, e.ledger.allRead())
}

func TestAListOfSourcesThatFailsIsTriedAgain(t *testing.T) {
	down := true
	items := []corev1.ConfigMap{configMapObject("app-000", "9", "1")}
	server := play(t, func(request) (int, http.Header, any) {
		if down {
			return failure(apierrors.NewInternalError(errors.New("etcd")))
		}
		return http.StatusOK, nil, corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}, Items: items}
	})
	e := newTestEngine(t, server.config, new(told))
	crowd(t, e, manyUnread)
	require.True(t, apierrors.IsInternalError(readQueued(t, e)))
	assert.Equal(t, manyUnread, e.ledger.unreadOn(shelfOf(settings)), "nothing is taken for absent")
	down = false
	require.NoError(t, e.searchShelf(t.Context(), shelfOf(settings)))
	assert.True(t, e.ledger.allRead())
	assert.True(t, e.ledger.exists(configMap("app-000")))
	assert.False(t, e.ledger.exists(configMap("app-001")))
}

// A list may have been made before a read and be looked at after it.
func TestALateListTakesNothingBack(t *testing.T) {
	items := []corev1.ConfigMap{configMapObject("app-000", "5", "1"), configMapObject("app-001", "5", "1")}
	server := shelfOfConfigMaps(t, &items)
	e := newTestEngine(t, server.config, new(told))
	crowd(t, e, 4)
	drain(e.queues.sources)
	e.intake.observe(worker, newApp(worker).with(func(a *app) {
		a.annotations = map[string]string{keys.ConfigMapNamed: "app-.*"}
		a.configMaps = nil
	}).recorded(t).meta(), at(10))
	drain(e.queues.sources)

	// Meanwhile one was read in a newer version, and one that has just come.
	newer, late := configMapObject("app-000", "12", "2"), configMapObject("app-003", "12", "1")
	require.NoError(t, e.lookAt(t.Context(), configMap("app-000"), e.digest(&newer)))
	require.NoError(t, e.lookAt(t.Context(), configMap("app-003"), e.digest(&late)))
	require.Equal(t, []reloader.Source{configMap("app-000"), configMap("app-003")}, sourcesOf(e.ledger.due(web)))

	require.ErrorIs(t, e.searchShelf(t.Context(), shelfOf(settings)), errOutdated)
	a := e.ledger.sources[configMap("app-000")]
	assert.Equal(t, uint64(12), a.version)
	assert.Equal(t, e.key.ConfigMap(newer.Data, nil), a.current)
	assert.True(t, e.ledger.exists(configMap("app-003")), "it is not in the list, and was read")
	assert.True(t, e.ledger.exists(configMap("app-001")), "the others are looked at")
	assert.False(t, e.ledger.allRead(), "it has to be repeated")
	assert.Equal(t, []reloader.Source{configMap("app-000"), configMap("app-003")}, sourcesOf(e.ledger.due(web)))

	items = []corev1.ConfigMap{newer, items[1], late}
	require.NoError(t, e.searchShelf(t.Context(), shelfOf(settings)))
	assert.True(t, e.ledger.allRead())
	assert.False(t, e.ledger.exists(configMap("app-002")))
	for _, w := range []reloader.Workload{web, worker} {
		assert.Equal(t, []reloader.Source{configMap("app-000"), configMap("app-003")}, sourcesOf(e.ledger.due(w)), w)
	}
}

// While the list is on its way, an event tells of something newer than that.
func TestAnEventDuringAListIsNotLost(t *testing.T) {
	tests := map[string]struct {
		version string
		how     arrival
		value   string
		known   bool
	}{
		"of a source that was read before":          {version: "12", how: updated, value: "2", known: true},
		"of a source that nobody has read yet":      {version: "12", how: updated, value: "2"},
		"of a list, after other events were missed": {version: "12", how: listed, value: "2"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			items := []corev1.ConfigMap{configMapObject("app-000", "5", "1")}
			var once sync.Once
			var e *Engine
			server := play(t, func(r request) (int, http.Header, any) {
				if r.path != "/api/v1/namespaces/shop/configmaps" {
					o := items[0]
					o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
					return http.StatusOK, nil, o
				}
				answer := corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}, Items: slices.Clone(items)}
				once.Do(func() {
					items[0] = configMapObject("app-000", tc.version, tc.value)
					event(e, "app-000", tc.version, tc.how)
					// Another worker takes it.
					s, _ := e.queues.sources.Get()
					if err := e.readSource(t.Context(), s); err != nil {
						t.Error(err)
					}
					e.queues.sources.Done(s)
				})
				return http.StatusOK, nil, answer
			})
			e = newTestEngine(t, server.config, new(told))
			if tc.known {
				e.intake.observe(worker, newApp(worker).with(func(a *app) { a.configMaps = []string{"app-000"} }).recorded(t).meta(), moment{})
				require.NoError(t, readQueued(t, e))
			}
			crowd(t, e, manyUnread+1)
			drain(e.queues.sources)
			e.queues.sources.Add(reloader.Source{Kind: reloader.ConfigMap, Namespace: "shop"})
			err := readQueued(t, e)
			for errors.Is(err, errOutdated) {
				// Its worker adds the key again.
				e.queues.sources.Add(reloader.Source{Kind: reloader.ConfigMap, Namespace: "shop"})
				err = readQueued(t, e)
			}
			require.NoError(t, err)
			assert.Equal(t, e.key.ConfigMap(items[0].Data, nil), e.ledger.sources[configMap("app-000")].current)
			assert.Equal(t, []reloader.Source{configMap("app-000")}, sourcesOf(e.ledger.due(web)))
		})
	}
}
