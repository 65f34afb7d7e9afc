package engine

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/report"
)

// kept counts what an engine that stands by keeps of objects.
func kept(e *Engine) map[string]int {
	all := map[string]int{
		"accounts":  len(e.ledger.sources),
		"workloads": len(e.intake.workloads) + len(e.ledger.workloads),
		"sources":   e.queues.sources.waiting(),
		"reloads":   e.queues.workloads.waiting(),
		"faults":    e.queues.faults.waiting(),
		"carriers":  e.queues.carriers.waiting() + len(e.carriers.waiting),
		"arrivals":  len(e.arrivals.open),
		"pauses":    len(e.pauses.concerned),
	}
	for _, g := range e.ledger.graves {
		all["graves"] += len(g.order)
	}
	for _, of := range e.ledger.searchers {
		all["searchers"] += len(of)
	}
	for what, n := range all {
		if n == 0 {
			delete(all, what)
		}
	}
	return all
}

// What tenants create and delete under ever new names takes a bounded amount of
// memory of an engine that stands by.
func TestAStandbyKeepsNothingOfWhatIsGone(t *testing.T) {
	const rounds = 3 * maxGraves
	configMaps := func(e *Engine) *feed { return e.sourceFeed(reloader.ConfigMap, area{}) }
	meta := func(name string, i int) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID(name), Generation: 1, ResourceVersion: strconv.Itoa(100 + i),
		}}
	}
	patterned := func(t *testing.T, w reloader.Workload, list string) metav1.Object {
		return newApp(w).with(func(a *app) {
			a.annotations, a.configMaps = map[string]string{keys.ConfigMapNamed: list}, nil
		}).recorded(t).meta()
	}
	named := func(i int) reloader.Workload {
		return reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: fmt.Sprint("app-", i)}
	}
	tests := map[string]struct {
		round func(t *testing.T, e *Engine, i int)
		want  map[string]int
	}{
		"sources that a pattern matches": {
			func(t *testing.T, e *Engine, i int) {
				e.intake.observe(worker, patterned(t, worker, ".*"), at(1))
				require.NoError(t, configMaps(e).Add(meta(fmt.Sprint("c-", i), 2*i)))
				require.NoError(t, configMaps(e).Delete(meta(fmt.Sprint("c-", i), 2*i+1)))
			},
			map[string]int{"accounts": maxGraves, "graves": maxGraves, "workloads": 2, "searchers": 1},
		},
		"sources that go while no watch tells": {
			func(t *testing.T, e *Engine, i int) {
				e.intake.observe(worker, patterned(t, worker, ".*"), at(1))
				require.NoError(t, configMaps(e).Add(meta(fmt.Sprint("c-", i), 2*i)))
				if i%100 == 99 {
					require.NoError(t, configMaps(e).Replace(nil, strconv.Itoa(1_000_000+i)))
				}
			},
			map[string]int{"accounts": maxGraves, "graves": maxGraves, "workloads": 2, "searchers": 1},
		},
		"workloads with patterns and names": {
			func(t *testing.T, e *Engine, i int) {
				w := named(i)
				e.intake.observe(w, patterned(t, w, fmt.Sprintf("c-%d,x.*", i)), at(uint64(i+2)))
				require.NoError(t, configMaps(e).Add(meta(fmt.Sprint("c-", i), 2*i)))
				e.forget(w, moment{})
				require.NoError(t, configMaps(e).Delete(meta(fmt.Sprint("c-", i), 2*i+1)))
			},
			nil,
		},
		"classes": {
			func(t *testing.T, e *Engine, i int) {
				class := newApp(worker).with(func(a *app) {
					a.annotations, a.configMaps = map[string]string{keys.SecretProviderClassNamed: ".*"}, nil
				}).recorded(t).meta()
				e.intake.observe(worker, class, at(1))
				f := e.podStatusFeed(area{})
				if i == 0 {
					require.NoError(t, f.Replace(nil, "50"))
				}
				object := meta(fmt.Sprint("report-", i), i)
				object.Annotations = map[string]string{mountedClass: fmt.Sprint("c-", i), mountedContent: "x", mountedPod: "p"}
				require.NoError(t, f.Add(object))
				require.NoError(t, f.Delete(object))
			},
			map[string]int{"accounts": maxGraves, "graves": maxGraves, "workloads": 2, "searchers": 1},
		},
		"namespaces, until the next sweep": {
			func(t *testing.T, e *Engine, i int) {
				w, source := named(i), meta("c", 2*i)
				w.Namespace = fmt.Sprint("ns-", i)
				source.Namespace = w.Namespace
				e.intake.observe(w, patterned(t, w, ".*"), at(uint64(i+2)))
				require.NoError(t, configMaps(e).Add(source))
				require.NoError(t, configMaps(e).Delete(source))
				e.forget(w, moment{})
				if i == rounds-1 {
					e.sweepKnown()
				}
			},
			nil,
		},
		"namespaces that labels select": {
			func(t *testing.T, e *Engine, i int) {
				if i == 0 {
					e.intake.selection = &selection{namespaces: map[string]*joining{}}
				}
				w, source := named(i), meta("c", 2*i)
				w.Namespace = fmt.Sprint("ns-", i)
				source.Namespace = w.Namespace
				e.namespaceJoins(w.Namespace)
				e.intake.observe(w, patterned(t, w, ".*,x["), at(uint64(i+2)))
				require.NoError(t, configMaps(e).Add(source))
				require.NoError(t, configMaps(e).Delete(source))
				e.namespaceLeaves(w.Namespace)
				e.forget(w, moment{})
			},
			nil,
		},
		"workloads with faults": {
			func(t *testing.T, e *Engine, i int) {
				w := named(i)
				e.intake.observe(w, patterned(t, w, "settings,x["), at(1))
				e.forget(w, moment{})
			},
			nil,
		},
		"paused Deployments": {
			func(t *testing.T, e *Engine, i int) {
				w := named(i)
				f := e.workloadFeed(kindOf(t, w), area{})
				object := meta(w.Name, i)
				object.Annotations = map[string]string{keys.PausePeriod: "5m", keys.PausedAt: "2026-01-01T00:00:00Z"}
				require.NoError(t, f.Add(object))
				require.NoError(t, f.Delete(object))
			},
			nil,
		},
		"Job carriers": {
			func(t *testing.T, e *Engine, i int) {
				k := kindOf(t, reloader.Workload{Kind: reloader.Job})
				f := e.workloadFeed(k, area{})
				object := meta(fmt.Sprint("j-", i), i)
				object.Annotations = map[string]string{kind.JobCarrierKey: "x"}
				require.NoError(t, f.Add(object))
				if i%2 == 0 {
					require.NoError(t, f.Delete(object))
				} else {
					require.NoError(t, f.Replace(nil, strconv.Itoa(1_000_000+i)))
				}
			},
			nil,
		},
		"carriers": {
			func(t *testing.T, e *Engine, i int) {
				f := e.carrierFeeds()[0]
				require.NoError(t, f.Add(meta(fmt.Sprint("r-", i), i)))
				if i%2 == 0 {
					require.NoError(t, f.Delete(meta(fmt.Sprint("r-", i), i)))
				} else {
					require.NoError(t, f.Replace(nil, strconv.Itoa(1_000_000+i)))
				}
			},
			nil,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			key, err := RandomKey()
			require.NoError(t, err)
			e, err := New(Options{Config: play(t, nil).config, Key: key, Settings: policy.Settings{Keys: keys, CSI: true}, Reporter: new(told)})
			require.NoError(t, err)
			t.Cleanup(e.queues.shutDown)
			metrics, err := report.NewMetrics(prometheus.NewRegistry(), report.MetricsOptions{})
			require.NoError(t, err)
			e.arrivals = newArrivals(metrics)
			e.standBy()
			for i := range rounds {
				tc.round(t, e, i)
			}
			drain(e.queues.resolve)
			if tc.want == nil {
				tc.want = map[string]int{}
			}
			assert.Equal(t, tc.want, kept(e))
		})
	}
}

// Pending work of the time in which an engine stood by is done when it leads.
func TestATakeOverLosesNothing(t *testing.T) {
	const shop = "/api/v1/namespaces/shop/configmaps"
	broken := reloader.Workload{Kind: reloader.StatefulSet, Namespace: "shop", Name: "broken"}
	var version atomic.Int64
	version.Store(5)
	data := func() map[string]string { return map[string]string{"a": strconv.FormatInt(version.Load(), 10)} }
	server := play(t, func(r request) (int, http.Header, any) {
		switch {
		case r.method == http.MethodPatch:
			return http.StatusOK, nil, metav1.PartialObjectMetadata{
				TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: path.Base(r.path), UID: "first", Generation: 2},
			}
		case r.path == shop:
			o := configMapObject("settings", strconv.FormatInt(version.Load(), 10), "")
			o.Data = data()
			late := configMapObject("late", "50", "")
			return http.StatusOK, nil, corev1.ConfigMapList{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}, Items: []corev1.ConfigMap{o, late},
			}
		case r.path == shop+"/settings":
			o := configMapObject("settings", strconv.FormatInt(version.Load(), 10), "")
			o.Data = data()
			return http.StatusOK, nil, o
		case r.path == shop+"/late":
			return http.StatusOK, nil, configMapObject("late", "50", "")
		}
		return failure(apierrors.NewNotFound(corev1.Resource("things"), path.Base(r.path)))
	})
	stored := &drawer{objects: map[string]*corev1.ConfigMap{}}
	key, err := RandomKey()
	require.NoError(t, err)
	engine := func() (*Engine, *told) {
		r := new(told)
		e := newTestEngine(t, server.config, r)
		e.key, e.checkpoint = key, stored.store(t)
		e.standBy()
		e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
		event(e, "settings", "5", listed)
		return e, r
	}
	lead := func(e *Engine, then func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var leading sync.WaitGroup
		leading.Go(func() { e.lead(ctx) })
		eventually(t, e.Ready, "it gets ready")
		then()
		cancel()
		leading.Wait()
	}
	first, _ := engine()
	lead(first, func() {})
	before := len(paths(server))

	next, r := engine()
	patterned := newApp(worker).with(func(a *app) {
		a.annotations, a.configMaps = map[string]string{keys.ConfigMapNamed: "la.*"}, nil
	})
	next.intake.observe(worker, patterned.recorded(t).meta(), at(20))
	faulty := newApp(broken).with(func(a *app) { a.annotations = map[string]string{keys.ConfigMapNamed: "other,x["} })
	next.intake.observe(broken, faulty.recorded(t).meta(), at(21))
	for i := range 2 * maxGraves {
		name := fmt.Sprint("lapsed-", i)
		event(next, name, "30", created)
		next.sourceDeleted(configMap(name), 31)
	}
	version.Store(40)
	event(next, "settings", "40", updated)
	event(next, "late", "50", created)
	carrier := reloader.Workload{Kind: carrierKind, Namespace: "shop", Name: "carrier"}
	next.carrierSeen(carrier.Kind, &metav1.ObjectMeta{Namespace: "shop", Name: "carrier"})
	paused := reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "paused"}
	next.pauseSeen(paused, &metav1.ObjectMeta{Namespace: "shop", Name: "paused", Annotations: map[string]string{keys.PausedAt: "2026-01-01T00:00:00Z"}})
	require.Zero(t, next.queues.sources.waiting()+next.queues.workloads.waiting()+next.queues.faults.waiting()+next.queues.carriers.waiting())

	const patch = "/apis/apps/v1/namespaces/shop/deployments/web"
	lead(next, func() {
		asked := func(path string) func() bool {
			return func() bool { return slices.Contains(paths(server)[before:], path) }
		}
		eventually(t, func() bool { kept, _ := next.checkpoint.Lookup(settings); return kept.Version == 40 }, "the change is rolled out")
		assert.True(t, asked(patch)())
		eventually(t, func() bool { return next.ledger.exists(configMap("late")) }, "what was created is read")
		eventually(t, asked("/apis/apps/v1/namespaces/shop/controllerrevisions/carrier"), "the carrier is read")
		eventually(t, asked("/apis/apps/v1/namespaces/shop/deployments/paused"), "the Deployment that is paused is read")
		eventually(t, func() bool { return next.queues.faults.waiting() == 0 && next.queues.faults.Len() == 0 }, "faults are told")
	})
	assert.Equal(t, []string{"StatefulSet shop/broken EntryInvalid"}, r.faults)
	assert.LessOrEqual(t, len(next.ledger.graves[shelfOf(settings)].order), maxGraves)
}

// waitingTerm is a lease that is held once it may be.
type waitingTerm struct {
	term
	may chan struct{}
}

func (l *waitingTerm) Hold(ctx context.Context, lead func(context.Context)) error {
	<-l.may
	return l.term.Hold(ctx, lead)
}

func TestAnEngineQueuesForTheLeaderOnceItLeads(t *testing.T) {
	tests := map[string]struct{ lease *waitingTerm }{
		"with a lease": {&waitingTerm{term{time.Now().Add(time.Minute), nil, make(chan struct{})}, make(chan struct{})}},
		"without one":  {},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, empty(t).config, new(told))
			if tc.lease != nil {
				e.lease = tc.lease
			}
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { assert.NoError(t, e.Run(ctx)) })
			eventually(t, e.Ready, "it is ready")
			assert.Equal(t, tc.lease != nil, e.standsBy())
			if tc.lease != nil {
				close(tc.lease.may)
				eventually(t, func() bool { return !e.standsBy() }, "it leads")
			}
			cancel()
			running.Wait()
		})
	}
}
