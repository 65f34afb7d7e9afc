package engine

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/index"
)

func TestAStartGoesOnWithoutAWorkloadThatKeepsFailing(t *testing.T) {
	for _, kind := range []string{"400", "422", "500", "503", "junk", "cut", "a conversion webhook is down"} {
		t.Run(kind, func(t *testing.T) {
			var mended atomic.Bool
			server := play(t, func(request) (int, http.Header, any) {
				if !mended.Load() {
					return answers[kind]()
				}
				o := newApp(worker).object()
				o.GetObjectKind().SetGroupVersionKind(kindOf(t, worker).Resource.GroupVersion().WithKind(string(worker.Kind)))
				return http.StatusOK, nil, o
			})
			c := testclock.NewFakeClock(time.Now())
			e := clocked(t, server.config, c)
			e.intake.observe(worker, newApp(worker).meta(), moment{})
			assert.False(t, e.allResolved())
			for range 400 {
				attemptKey(t.Context(), e, e.queues.resolve, worker, e.resolve)
				c.Step(time.Second)
			}
			assert.True(t, e.allResolved())
			e.leaveBehind()

			// Its source changes meanwhile, and somebody else depends on it.
			known(t, e.intake)
			due(t, e.ledger, written(30, "b"))
			mended.Store(true)
			c.Step(lastRetry)
			attemptKey(t.Context(), e, e.queues.resolve, worker, e.resolve)
			require.False(t, e.intake.open(worker))
			assert.Equal(t, []debt{{settings, "b"}}, e.ledger.due(worker))
		})
	}
}

func TestWhomAStartWaitsFor(t *testing.T) {
	e := newTestEngine(t, unreachable(t), new(told))
	e.intake.observe(web, newApp(web).meta(), at(10))
	assert.True(t, e.allResolved(), "who comes during the start is not waited for")
	e.intake.observe(worker, newApp(worker).meta(), moment{})
	assert.False(t, e.allResolved())
	for range startAttempts {
		e.queues.resolve.backoff.undecided(worker)
	}
	assert.False(t, e.allResolved(), "not before some time")
	e.queues.resolve.backoff.setbacks[worker].began = time.Now().Add(-startPatience)
	assert.True(t, e.allResolved(), "one that is written to all the time")
}

func TestWhatIsDueToWhoComesInLate(t *testing.T) {
	tests := map[string]struct {
		before func(t *testing.T, e *Engine) // worker comes in
		look   *content
		want   []debt
	}{
		"nothing has changed": {
			before: func(t *testing.T, e *Engine) { known(t, e.intake) },
		},
		"it has changed": {
			before: func(t *testing.T, e *Engine) { known(t, e.intake); due(t, e.ledger, written(30, "b")) },
			want:   []debt{{settings, "b"}},
		},
		"nobody else depends on it, and it was written before": {
			before: func(*testing.T, *Engine) {}, look: new(written(15, "b")),
		},
		"nobody else depends on it, and it was written since": {
			before: func(*testing.T, *Engine) {}, look: new(written(30, "b")),
			want: []debt{{settings, "b"}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, unreachable(t), new(told))
			e.intake.observe(worker, newApp(worker).meta(), moment{})
			require.Equal(t, []reloader.Workload{worker}, e.intake.setLate(at(20)))
			tc.before(t, e)
			require.True(t, e.intake.supply(newApp(worker).manifest(t)))
			if tc.look != nil {
				e.ledger.look(settings, *tc.look, func() []reloader.Workload { return []reloader.Workload{worker} })
			}
			assert.Equal(t, tc.want, e.ledger.due(worker))
		})
	}
}

func TestAStartGoesOnWithoutASourceThatKeepsFailing(t *testing.T) {
	broken, value := true, "1"
	server := play(t, func(request) (int, http.Header, any) {
		if broken {
			return answers["500"]()
		}
		o := configMapObject("settings", "9", value)
		o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
		return http.StatusOK, nil, o
	})
	c := testclock.NewFakeClock(time.Now())
	e := clocked(t, server.config, c)
	e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
	e.ledger.news(settings, 5)
	read := e.firstLooks()
	assert.False(t, read())
	for range 20 {
		attemptKey(t.Context(), e, e.queues.sources, settings, e.readSource)
		c.Step(time.Second)
	}
	assert.True(t, read())
	e.intake.observe(worker, newApp(worker).recorded(t).meta(), at(50))
	assert.True(t, read(), "who comes during the start is not waited for")
	e.goOn()

	broken = false
	c.Step(lastRetry)
	e.ledger.news(settings, 9)
	attemptKey(t.Context(), e, e.queues.sources, settings, e.readSource)
	assert.Len(t, e.ledger.due(web), 1, "it was written after the start")
}

// known has the engine know web, whose settings have been read.
func known(t *testing.T, in *intake) {
	t.Helper()
	in.observe(web, newApp(web).meta(), moment{})
	require.True(t, in.supply(newApp(web).manifest(t)))
	in.ledger.take(settings)
	in.ledger.look(settings, written(1, "a"), func() []reloader.Workload { return in.index.Dependents(settings, index.Matches{}, nil) })
}
