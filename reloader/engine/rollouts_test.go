package engine

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/report"
)

func TestSoManyRollAtTheSameTime(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Unix(0, 0))
	r := newRollouts(2, false, c)
	assert.True(t, r.begin(web))
	c.Step(time.Second)
	assert.True(t, r.begin(worker))
	assert.False(t, r.begin(agent))
	c.Step(time.Second)
	assert.True(t, r.begin(web), "it rolls already")
	for _, w := range []reloader.Workload{web, worker} {
		r.began(w)
	}
	assert.Equal(t, map[reloader.Workload]time.Time{web: time.Unix(2, 0), worker: time.Unix(1, 0)}, r.all())
	r.ended(worker, time.Unix(1, 0))
	assert.True(t, r.begin(agent))
	assert.False(t, r.begin(worker))

	r = newRollouts(0, false, c)
	for _, w := range []reloader.Workload{web, worker, agent} {
		assert.True(t, r.begin(w), "there is no limit")
		r.began(w)
	}
	assert.Empty(t, r.all())
}

func TestWhatCountsAsRolling(t *testing.T) {
	tests := map[string]struct {
		happens func(r *rollouts, c *clocktesting.FakeClock)
		want    bool // web rolls
	}{
		"its reload is not sent": {
			happens: func(r *rollouts, _ *clocktesting.FakeClock) { r.begin(web); r.notBegun(web) },
		},
		"the next reload is not sent, while it rolls from the last": {
			happens: func(r *rollouts, c *clocktesting.FakeClock) {
				r.begin(web)
				r.began(web)
				c.Step(time.Second)
				r.begin(web)
				r.notBegun(web)
			},
			want: true,
		},
		"a look finds that it does not roll, from before its reload was sent": {
			happens: func(r *rollouts, c *clocktesting.FakeClock) {
				r.begin(web)
				r.began(web)
				looked := r.all()[web]
				c.Step(time.Second)
				r.begin(web)
				r.ended(web, looked)
			},
			want: true,
		},
		"nobody looks before its reload is sent": {
			happens: func(r *rollouts, _ *clocktesting.FakeClock) {
				r.begin(web)
				for w, since := range r.all() {
					r.ended(w, since)
				}
			},
			want: true,
		},
		"it has ended before the next reload is not sent": {
			happens: func(r *rollouts, c *clocktesting.FakeClock) {
				r.begin(web)
				r.began(web)
				r.ended(web, c.Now())
				r.notBegun(web)
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := clocktesting.NewFakeClock(time.Unix(0, 0))
			r := newRollouts(1, false, c)
			tc.happens(r, c)
			assert.Equal(t, !tc.want, r.begin(worker))
		})
	}
}

// One that is held back while it rolls leaves no place to another.
func TestAHoldTakesNoRolloutAway(t *testing.T) {
	a := newApp(web)
	e := newTestEngine(t, deployments(t, a.object().(*appsv1.Deployment)).config, new(told))
	e.rollouts = newRollouts(1, false, e.clock)
	settled(t, e.intake, a)
	due(t, e.ledger, written(30, "b"))
	require.NoError(t, e.reload(t.Context(), web))
	due(t, e.ledger, written(31, "c"))
	e.limits.open(web)
	require.NoError(t, e.reload(t.Context(), web))
	assert.False(t, e.rollouts.begin(worker))
}

// rollingServer serves web, which rolls for as long as rolls is true.
func rollingServer(t *testing.T, rolls *atomic.Bool) *script {
	t.Helper()
	return play(t, func(r request) (int, http.Header, any) {
		switch r.path {
		case "/apis/apps/v1/namespaces/shop/deployments/web":
			o := newApp(web).object().(*appsv1.Deployment)
			o.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
			if !rolls.Load() {
				o.Status = appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
			}
			return http.StatusOK, nil, o
		case "/apis/apps/v1/namespaces/shop/statefulsets/worker":
			return failure(apierrors.NewInternalError(errors.New("etcd")))
		}
		return failure(apierrors.NewNotFound(appsv1.Resource("daemonsets"), "agent"))
	})
}

func TestHasRolled(t *testing.T) {
	var rolls atomic.Bool
	e := newTestEngine(t, rollingServer(t, &rolls).config, new(told))
	assert.True(t, e.hasRolled(t.Context(), web))
	rolls.Store(true)
	assert.False(t, e.hasRolled(t.Context(), web))
	assert.False(t, e.hasRolled(t.Context(), worker), "it could not be read")
	assert.True(t, e.hasRolled(t.Context(), agent), "it is gone")
	assert.True(t, e.hasRolled(t.Context(), reloader.Workload{Kind: "Job", Namespace: "shop", Name: "once"}))
}

// lookout is a clock that tells when somebody begins to look at rollouts: a step
// before that is no reason to look.
type lookout struct {
	*clocktesting.FakeClock
	begins func()
}

// NewTicker implements clock.WithTicker.
func (l lookout) NewTicker(d time.Duration) clock.Ticker {
	ticker := l.FakeClock.NewTicker(d)
	if d == rolloutPoll {
		l.begins()
	}
	return ticker
}

func TestARolloutCountsUntilItEndsOrForAWhile(t *testing.T) {
	var rolls atomic.Bool
	rolls.Store(true)
	server := rollingServer(t, &rolls)
	key, err := RandomKey()
	require.NoError(t, err)
	c, begun := clocktesting.NewFakeClock(time.Unix(0, 0)), make(chan struct{})
	e, err := New(Options{
		Config: server.config, Key: key, Settings: policy.Settings{Keys: keys}, Reporter: new(told),
		Clock: lookout{c, sync.OnceFunc(func() { close(begun) })}, ConcurrentRollouts: 1,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	t.Cleanup(func() { cancel(); watching.Wait(); e.queues.shutDown() })
	watching.Go(func() { e.watchRollouts(ctx) })
	<-begun
	// looks has it look until that is so. The clock goes on after a look only, so
	// that its patience is not over before it was given the time for one.
	looks := func(step time.Duration, condition func() bool, what string) {
		looked := -1
		eventually(t, func() bool {
			if all := len(paths(server)); all != looked {
				looked = all
				c.Step(step)
			}
			return condition()
		}, what)
	}
	ended := func() bool { return len(e.rollouts.all()) == 0 }

	require.True(t, e.rollouts.begin(web))
	e.rollouts.began(web)
	looks(rolloutPoll, func() bool { return len(paths(server)) > 2 }, "it is looked at")
	assert.False(t, e.rollouts.begin(worker), "web rolls")
	rolls.Store(false)
	looks(rolloutPoll, ended, "it has rolled")

	c.Step(linePatience + 1) // worker has stopped asking
	rolls.Store(true)
	require.True(t, e.rollouts.begin(web))
	e.rollouts.began(web)
	looks(rolloutPatience/10, ended, "patience ends")
	assert.True(t, e.rollouts.begin(worker))
}

// One that has to wait for others comes back, and its patch expects nothing.
func TestAReloadWaitsForTheRolloutsOfOthers(t *testing.T) {
	a := newApp(web)
	server := deployments(t, a.object().(*appsv1.Deployment))
	e := newTestEngine(t, server.config, new(told))
	e.rollouts = newRollouts(1, false, e.clock)
	settled(t, e.intake, a)
	due(t, e.ledger, written(30, "b"))
	require.True(t, e.rollouts.begin(worker))
	require.NoError(t, e.reload(t.Context(), web))
	assert.Empty(t, server.requests)
	assert.Zero(t, e.intake.workloads[web].expected)
	assert.Equal(t, []debt{{settings, "b"}}, e.ledger.due(web))

	e.rollouts.notBegun(worker)
	require.NoError(t, e.reload(t.Context(), web))
	assert.Len(t, server.requests, 1)
	assert.Equal(t, []reloader.Workload{web}, slices.Collect(maps.Keys(e.rollouts.all())))
}

// What a Job does is no rollout, whoever started it.
func TestWhatIsNotPatchedTakesNoPlace(t *testing.T) {
	e := newTestEngine(t, unreachable(t), new(told))
	e.rollouts = newRollouts(1, true, e.clock)
	require.True(t, e.rollouts.begin(web))
	for _, k := range []reloader.WorkloadKind{reloader.CronJob, reloader.Job} {
		w := reloader.Workload{Kind: k, Namespace: "shop", Name: "nightly"}
		assert.Zero(t, e.hold(report.Reload{Workload: w}), k)
		e.rollouts.notBegun(w)
		e.rollouts.began(w)
	}
	assert.Equal(t, map[string]int{"shop": 1}, e.rollouts.of)
	assert.Equal(t, rolloutPoll, e.hold(report.Reload{Workload: worker}))
}

// Its patch goes to the Deployment that lends the template, and it rolls.
func TestABorrowerTakesAPlace(t *testing.T) {
	lender := new(newApp(web))
	e := lending(t, &lender, new(func()))
	e.rollouts = newRollouts(1, false, e.clock)
	require.NoError(t, resolveQueued(t, e))
	for _, c := range []content{written(5, "a"), written(30, "b")} {
		e.ledger.take(settings)
		_, outdated := e.ledger.look(settings, c, func() []reloader.Workload { return []reloader.Workload{borrower("rolls")} })
		require.False(t, outdated)
	}
	require.NoError(t, e.reload(t.Context(), borrower("rolls")))
	assert.Empty(t, e.ledger.due(borrower("rolls")))
	assert.False(t, e.rollouts.begin(worker))
}

func TestABorrowerRollsUntilItsControllerHasSeenTheTemplate(t *testing.T) {
	tests := map[string]struct {
		spec   map[string]any
		status map[string]any
		gone   bool // the Deployment is
		want   bool
	}{
		"it has":                      {status: map[string]any{"phase": "Healthy", "workloadObservedGeneration": "2"}, want: true},
		"it has not":                  {status: map[string]any{"phase": "Healthy", "workloadObservedGeneration": "1"}},
		"it has failed before that":   {status: map[string]any{"phase": "Degraded", "workloadObservedGeneration": "1"}},
		"it progresses":               {status: map[string]any{"phase": "Progressing", "workloadObservedGeneration": "2"}},
		"it does not report that":     {status: map[string]any{"phase": "Healthy"}, want: true},
		"it is paused":                {spec: map[string]any{"paused": true}, status: map[string]any{"workloadObservedGeneration": "1"}, want: true},
		"nothing is there to be seen": {status: map[string]any{"phase": "Healthy", "workloadObservedGeneration": "1"}, gone: true, want: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := play(t, func(r request) (int, http.Header, any) {
				switch {
				case strings.Contains(r.path, "/rollouts/"):
					spec := map[string]any{"workloadRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}
					maps.Copy(spec, tc.spec)
					tc.status["observedGeneration"] = "1"
					return http.StatusOK, nil, map[string]any{
						"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
						"metadata": map[string]any{"namespace": "shop", "name": "rolls", "generation": 1}, "spec": spec, "status": tc.status,
					}
				case tc.gone:
					return failure(apierrors.NewNotFound(appsv1.Resource("deployments"), "web"))
				}
				o := newApp(web).with(func(a *app) { a.generation = 2 }).object().(*appsv1.Deployment)
				o.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
				return http.StatusOK, nil, o
			})
			assert.Equal(t, tc.want, newTestEngine(t, server.config, new(told)).hasRolled(t.Context(), borrower("rolls")))
		})
	}
}
