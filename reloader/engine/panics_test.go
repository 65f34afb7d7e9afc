package engine

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/go-logr/logr"

	"k8s-reloader/reloader"
)

func TestAPanicIsTheFailureOfItsKey(t *testing.T) {
	e := &Engine{clock: clock.RealClock{}, log: logr.Discard(), arrivals: newArrivals(nil)}
	q := newQueue[reloader.Source]("sources", e.clock, nil)
	for _, name := range []string{"bad", "good"} {
		q.Add(configMap(name))
	}
	handled := make(chan string, 10)
	attempts := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(t.Context(), e, q, func(_ context.Context, s reloader.Source) error {
			if s.Name == "bad" {
				if attempts++; attempts < 3 {
					panic("of " + s.Name)
				}
			}
			handled <- s.Name
			return nil
		})
	}()
	assert.Equal(t, "good", <-handled, "others do not wait")
	assert.Equal(t, "bad", <-handled, "it is tried again")
	q.ShutDown()
	<-done
	assert.Equal(t, 3, attempts)
}

// fragile is a feed whose handlers panic at objects of that name.
func fragile(name string) (f *feed, seen, broke *[]string) {
	seen, broke = new([]string), new([]string)
	handle := func(how string) func(*metav1.PartialObjectMetadata) {
		return func(meta *metav1.PartialObjectMetadata) {
			if meta.Name == name {
				panic("at " + name)
			}
			*seen = append(*seen, how+" "+meta.Name)
		}
	}
	return &feed{
		seen:    func(meta *metav1.PartialObjectMetadata, _ arrival, _ moment) { handle("seen")(meta) },
		deleted: handle("deleted"),
		listed: func(items []any) {
			for _, item := range items {
				handle("listed")(item.(*metav1.PartialObjectMetadata))
			}
		},
		broke: func(meta *metav1.PartialObjectMetadata, _ error) {
			of := "the list"
			if meta != nil {
				of = meta.Name
			}
			*broke = append(*broke, of)
			panic("once more")
		},
		settled: make(chan struct{}),
	}, seen, broke
}

func TestAWatchHandlerThatPanicsLosesNothing(t *testing.T) {
	bad, good := labelled("bad", ""), labelled("good", "")
	f, seen, broke := fragile("bad")
	require.NoError(t, f.Replace([]any{bad, good}, "1"))
	assert.False(t, f.complete.Load(), "not everything was handed on")
	require.NoError(t, f.Add(bad))
	require.NoError(t, f.Update(bad))
	require.NoError(t, f.Delete(bad))
	require.NoError(t, f.Delete(good))
	assert.Equal(t, []string{"seen good", "deleted good"}, *seen)
	assert.Equal(t, []string{"bad", "the list", "bad", "bad", "bad"}, *broke)
	assert.True(t, f.mu.TryLock(), "no lock is held")
	<-f.settled
}

// Each of these takes a part of the engine away, which is as good as a hole in it.
func TestWhatAPanicConcernsIsReadAgain(t *testing.T) {
	server := play(t, func(r request) (int, http.Header, any) {
		o := newApp(web).object()
		o.GetObjectKind().SetGroupVersionKind(kindOf(t, web).Resource.GroupVersion().WithKind("Deployment"))
		if r.path == "/api/v1/namespaces/shop/configmaps/settings" {
			c := configMapObject("settings", "7", "2")
			c.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
			return http.StatusOK, nil, c
		}
		return http.StatusOK, nil, o
	})
	source := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "settings", ResourceVersion: "7"}}
	workload := &metav1.PartialObjectMetadata{ObjectMeta: *newApp(web).recorded(t).meta()}
	engine := func(t *testing.T) *Engine {
		e := newTestEngine(t, server.config, new(told))
		e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
		e.ledger.look(settings, written(5, "1"), func() []reloader.Workload { return nil })
		drain(e.queues.sources)
		return e
	}

	t.Run("the event of a source", func(t *testing.T) {
		e := engine(t)
		f := e.sourceFeed(reloader.ConfigMap, area{})
		e.recent = nil
		require.NoError(t, f.Add(source))
		e.recent = newRecent()
		due, _ := e.ledger.take(settings)
		assert.True(t, due)
		assert.Eventually(t, func() bool { return e.queues.sources.Len() > 0 }, 10*time.Second, time.Millisecond)
	})
	t.Run("the look at a source", func(t *testing.T) {
		e := engine(t)
		require.True(t, e.ledger.news(settings, 7))
		recent := e.recent
		e.recent = nil
		assert.True(t, panicked(e.readSource(t.Context(), settings)))
		e.recent = recent
		require.NoError(t, e.readSource(t.Context(), settings))
		assert.Len(t, e.ledger.due(web), 1)
	})
	t.Run("the look at a source, after its content was noted", func(t *testing.T) {
		e := engine(t)
		require.True(t, e.ledger.news(settings, 7))
		lost := guarded(func() error {
			e.ledger.look(settings, written(7, "2"), func() []reloader.Workload { panic("in between") })
			return nil
		})
		require.True(t, panicked(lost))
		e.sourceBroke(settings)
		require.NoError(t, e.readSource(t.Context(), settings))
		assert.Len(t, e.ledger.due(web), 1)
		assert.Equal(t, []reloader.Workload{web}, drain(e.queues.workloads))
	})
	t.Run("a source that nobody's change concerned", func(t *testing.T) {
		e := engine(t)
		e.sourceBroke(settings)
		e.ledger.look(settings, written(5, "1"), func() []reloader.Workload { return []reloader.Workload{web} })
		assert.Empty(t, e.ledger.due(web), "who has the content takes no notice")
	})
	t.Run("the event of a workload", func(t *testing.T) {
		e := engine(t)
		f := e.workloadFeed(kindOf(t, web), area{})
		rivals := e.rivals
		e.rivals = nil
		require.NoError(t, f.Update(workload))
		e.rivals = rivals
		assert.True(t, e.intake.open(web))
		require.NoError(t, e.resolve(t.Context(), web))
		assert.True(t, e.intake.allResolved())
	})
	t.Run("the first event of a workload", func(t *testing.T) {
		e := newTestEngine(t, server.config, new(told))
		f := e.workloadFeed(kindOf(t, web), area{})
		index := e.intake.index
		e.intake.index = nil
		require.NoError(t, f.Add(workload))
		e.intake.index = index
		assert.True(t, e.intake.open(web))
		assert.Eventually(t, func() bool { return e.queues.resolve.Len() > 0 }, 10*time.Second, time.Millisecond)
		require.NoError(t, e.resolve(t.Context(), web))
		assert.Equal(t, []reloader.Source{settings}, e.index.DependsOn(web))
	})
	t.Run("reading a workload", func(t *testing.T) {
		e := newTestEngine(t, server.config, new(told))
		e.intake.observe(web, newApp(web).meta(), at(1))
		index := e.intake.index
		e.intake.index = nil
		assert.True(t, panicked(e.resolve(t.Context(), web)))
		e.intake.index = index
		assert.True(t, e.intake.open(web))
		require.NoError(t, e.resolve(t.Context(), web))
		assert.Equal(t, []reloader.Source{settings}, e.index.DependsOn(web))
		assert.True(t, e.intake.allResolved())
	})
	t.Run("verifying", func(t *testing.T) {
		e := engine(t)
		e.lenders = nil
		assert.NotPanics(t, func() { e.verifyOne(t.Context(), newApp(web).manifest(t)) })
		assert.True(t, e.intake.open(web))
	})
	t.Run("a report of a pod", func(t *testing.T) {
		p := new(podStatuses)
		s := &podStatus{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a"}}
		assert.Equal(t, "a", p.report(s).Name)
	})
}
