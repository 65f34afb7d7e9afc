package engine

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	testclock "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
)

// answers are all kinds of answer that a request may get.
var answers = map[string]func() (int, http.Header, any){
	"400": status(http.StatusBadRequest, metav1.StatusReasonBadRequest, "bad"),
	"401": status(http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "who"),
	"403": status(http.StatusForbidden, metav1.StatusReasonForbidden, "no"),
	"404": status(http.StatusNotFound, metav1.StatusReasonNotFound, "where"),
	"405": status(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "how"),
	"409": status(http.StatusConflict, metav1.StatusReasonConflict, "late"),
	"410": status(http.StatusGone, metav1.StatusReasonExpired, "old"),
	"413": status(http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, "large"),
	"422": status(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "invalid"),
	"429": func() (int, http.Header, any) { return failure(apierrors.NewTooManyRequests("busy", 1)) },
	"429 without a time": func() (int, http.Header, any) {
		return http.StatusTooManyRequests, nil, "busy"
	},
	"503 with a time": func() (int, http.Header, any) {
		err := apierrors.NewServiceUnavailable("away")
		err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
		return failure(err)
	},
	"500":             status(http.StatusInternalServerError, metav1.StatusReasonInternalError, "broken"),
	"502":             func() (int, http.Header, any) { return http.StatusBadGateway, nil, "proxy" },
	"503":             status(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "away"),
	"504":             status(http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "slow"),
	"cut":             func() (int, http.Header, any) { panic(http.ErrAbortHandler) },
	"junk":            func() (int, http.Header, any) { return http.StatusOK, nil, "nonsense" },
	"denied with 400": status(http.StatusBadRequest, "", `admission webhook "a.b.c" denied the request: no`),
	"denied with 404": status(http.StatusNotFound, metav1.StatusReasonNotFound, `admission webhook "a.b.c" denied the request: no`),
	"denied with 409": status(http.StatusConflict, metav1.StatusReasonConflict, `admission webhook "a.b.c" denied the request: no`),
	"denied with 429": status(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, `admission webhook "a.b.c" denied the request: no`),
	"denied with 500": status(http.StatusInternalServerError, "", `admission webhook "a.b.c" denied the request: no`),
	"denied by a policy": status(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid,
		`deployments.apps "web" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no`),
	"a webhook is down": status(http.StatusInternalServerError, metav1.StatusReasonInternalError,
		`Internal error occurred: failed calling webhook "a.b.c": failed to call webhook: connection refused`),
	"a conversion webhook is down": status(http.StatusInternalServerError, metav1.StatusReasonInternalError,
		`conversion webhook for example.com/v1, Kind=A failed: connection refused`),
}

func status(code int32, reason metav1.StatusReason, message string) func() (int, http.Header, any) {
	return func() (int, http.Header, any) {
		return failure(&apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}})
	}
}

// clocked is newTestEngine with a clock of its own and no coalescing window.
func clocked(t *testing.T, config *rest.Config, c *testclock.FakeClock) *Engine {
	t.Helper()
	key, err := RandomKey()
	require.NoError(t, err)
	e, err := New(Options{Config: config, Key: key, Settings: policy.Settings{Keys: keys}, Reporter: new(told), Clock: c, ReloadsPerWorkload: -1})
	require.NoError(t, err)
	t.Cleanup(e.queues.shutDown)
	return e
}

// The worst case of everything that may queue a key: it is there all the time.
func TestARefusedReloadIsRepeatedSlowly(t *testing.T) {
	const minutes, step = 10, time.Second
	tests := map[string]struct {
		// during is called in each step.
		during func(t *testing.T, e *Engine, generation *atomic.Int64)
		// most attempts in that time.
		most int
	}{
		"with a window of 0": {during: func(*testing.T, *Engine, *atomic.Int64) {}, most: minutes + 2},
		"with a new generation all the time": {
			during: func(_ *testing.T, e *Engine, generation *atomic.Int64) {
				a := newApp(web).with(func(a *app) { a.generation = generation.Add(1) })
				e.intake.observe(web, a.meta(), moment{})
			},
			most: 2*minutes + 2 + mostEarly,
		},
		"with a policy that changes all the time": {
			during: func(t *testing.T, e *Engine, generation *atomic.Int64) {
				a := newApp(web).with(func(a *app) {
					a.annotations[keys.CoalesceWindow] = (time.Duration(generation.Add(1)) * time.Millisecond).String()
				})
				e.intake.observe(web, a.recorded(t).meta(), moment{})
			},
			most: 2*minutes + 2 + mostEarly,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for kind, answer := range answers {
				var patches atomic.Int32
				var generation atomic.Int64
				generation.Store(1)
				server := play(t, func(r request) (int, http.Header, any) {
					if r.method == http.MethodPatch {
						patches.Add(1)
						return answer()
					}
					o := newApp(web).with(func(a *app) {
						if strings.Contains(name, "generation") {
							a.generation = generation.Load()
						}
					}).object()
					o.(*appsv1.Deployment).TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
					return http.StatusOK, nil, o
				})
				c := testclock.NewFakeClock(time.Now())
				e := clocked(t, server.config, c)
				settled(t, e.intake, newApp(web))
				due(t, e.ledger, written(30, "b"))
				for range int(minutes * time.Minute / step) {
					tc.during(t, e, &generation)
					attemptKey(t.Context(), e, e.queues.resolve, web, e.resolve)
					attemptKey(t.Context(), e, e.queues.workloads, web, e.reload)
					c.Step(step)
				}
				most := tc.most
				if kind == "413" {
					most *= 2 // each attempt is one in full and a shorter one
				}
				if strings.HasPrefix(kind, "429") || strings.HasSuffix(kind, "a time") || kind == "cut" {
					most += 2 * minutes // these wait 30 s at most
				}
				assert.LessOrEqual(t, int(patches.Load()), most, kind)
				assert.GreaterOrEqual(t, int(patches.Load()), 8, "%s: it is tried again for ever", kind)
			}
		})
	}
}

func TestAConnectionThatIsRefusedIsTriedAgainSlowly(t *testing.T) {
	c := testclock.NewFakeClock(time.Now())
	e := clocked(t, unreachable(t), c)
	settled(t, e.intake, newApp(web))
	due(t, e.ledger, written(30, "b"))
	attempts := 0
	for range 6000 {
		if e.queues.workloads.backoff.left(web, e.debtsOf) == 0 {
			attempts++
		}
		attemptKey(t.Context(), e, e.queues.workloads, web, e.reload)
		c.Step(100 * time.Millisecond)
	}
	assert.LessOrEqual(t, attempts, 26)
	assert.GreaterOrEqual(t, attempts, 20, "an outage that ends is noticed within 30 s")
}

func TestAReadThatFailsIsRepeatedSlowly(t *testing.T) {
	for kind, answer := range answers {
		if strings.Contains(kind, "404") {
			continue // that something is not there is no failure
		}
		t.Run(kind, func(t *testing.T) {
			var reads atomic.Int32
			server := play(t, func(request) (int, http.Header, any) { reads.Add(1); return answer() })
			c := testclock.NewFakeClock(time.Now())
			e := clocked(t, server.config, c)
			e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
			e.intake.observe(worker, newApp(worker).meta(), moment{})
			version := uint64(1)
			for range 600 {
				// A tenant who writes to the source all the time.
				version++
				e.ledger.news(settings, version)
				attemptKey(t.Context(), e, e.queues.sources, settings, e.readSource)
				attemptKey(t.Context(), e, e.queues.resolve, worker, e.resolve)
				c.Step(time.Second)
			}
			assert.LessOrEqual(t, int(reads.Load()), 2*(14+2*10+mostEarly), "in 10 minutes, of two objects")
			assert.GreaterOrEqual(t, int(reads.Load()), 2*10, "it is tried again for ever")
		})
	}
}

func TestHowLongAKeyWaits(t *testing.T) {
	c := testclock.NewFakeClock(time.Now())
	same := func(string) uint64 { return 1 }
	other := func(string) uint64 { return 2 }
	invalid := apierrors.NewInvalid(appsv1.SchemeGroupVersion.WithKind("Deployment").GroupKind(), "web", nil)
	b := newBackoff[string](time.Second, c)
	assert.Zero(t, b.left("a", same))

	assert.Equal(t, time.Second, b.fail("a", invalid, same).wait)
	assert.False(t, b.again("a", invalid, other))
	assert.True(t, b.again("a", invalid, same))
	assert.Equal(t, stalledRetry, b.fail("a", invalid, same).wait, "it has been read again, and is what we took it for")
	assert.Equal(t, stalledRetry, b.left("a", same))
	assert.Zero(t, b.left("a", other), "news is tried at once")
	assert.Equal(t, 4*time.Second, b.fail("a", invalid, other).wait)
	b.Forget("a")
	assert.Zero(t, b.left("a", same))
	assert.Zero(t, b.failing.Load())

	broken := apierrors.NewInternalError(errors.New("etcd"))
	for name, tc := range map[string]struct {
		err  error
		want []time.Duration
	}{
		"failed":     {broken, []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300}},
		"unanswered": {io.ErrUnexpectedEOF, []time.Duration{1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30}},
	} {
		var waits []time.Duration
		for range 11 {
			waits = append(waits, b.fail(name, tc.err, same).wait/time.Second)
		}
		assert.Equal(t, tc.want, waits, name)
	}
	c.Step(lastRetry + setbackKept + time.Second)
	b.sweep()
	assert.Empty(t, b.setbacks)
}

func TestRetryAfter(t *testing.T) {
	unavailable := func(seconds int32) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusServiceUnavailable, Details: &metav1.StatusDetails{RetryAfterSeconds: seconds},
		}}
	}
	_, _, rejected := answers["denied with 429"]()
	denial := apierrors.FromObject(new(rejected.(metav1.Status)))
	tests := map[string]struct {
		err  error
		want time.Duration
	}{
		"nothing":                {nil, 0},
		"429":                    {apierrors.NewTooManyRequests("busy", 7), 7 * time.Second},
		"429 for long":           {apierrors.NewTooManyRequests("busy", 3600), 30 * time.Second},
		"429 for ever":           {apierrors.NewTooManyRequests("busy", 1<<31-1), 30 * time.Second},
		"429 without a time":     {apierrors.NewTooManyRequestsError("busy"), time.Second},
		"429 with a time before": {apierrors.NewTooManyRequests("busy", -5), time.Second},
		"503 with a time":        {unavailable(4), 4 * time.Second},
		"503 for long":           {unavailable(100), 30 * time.Second},
		"503 without a time":     {unavailable(0), 0},
		"500 with a time":        {apierrors.NewServerTimeout(corev1.Resource("secrets"), "get", 9), 0},
		"a webhook's 429":        {denial, 0},
		"something else":         {io.ErrUnexpectedEOF, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, retryAfter(tc.err)) })
	}
}

func TestAThrottledQueueWaitsAsAWhole(t *testing.T) {
	var requests atomic.Int32
	server := play(t, func(request) (int, http.Header, any) {
		requests.Add(1)
		return failure(apierrors.NewTooManyRequests("busy", 20))
	})
	c := testclock.NewFakeClock(time.Now())
	e := clocked(t, server.config, c)
	read := func(name string) {
		attemptKey(t.Context(), e, e.queues.sources, configMap(name), func(ctx context.Context, s reloader.Source) error {
			return e.client.source(ctx, s, nil)
		})
	}
	for range 10 {
		e.queues.sources.backoff.fail(configMap("a"), io.ErrUnexpectedEOF, func(reloader.Source) uint64 { return 0 })
	}
	c.Step(time.Minute)
	for range 19 {
		read("a")
		read("b")
		c.Step(time.Second)
	}
	assert.EqualValues(t, 1, requests.Load())
	assert.Equal(t, time.Second, e.queues.sources.throttle.left(), "however often that key has failed before")
	assert.Zero(t, e.queues.workloads.throttle.left(), "each queue for itself")
	c.Step(2 * time.Second)
	read("b")
	assert.EqualValues(t, 2, requests.Load())
}
