package engine

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
)

// posts is a Webhook that counts.
type posts struct{ n int }

var _ Webhook = (*posts)(nil)

func (p *posts) Post(context.Context, string, []byte) error {
	p.n++
	return nil
}

// A webhook is called for what would be reloaded, and for nothing else.
func TestAWebhookIsNotCalledForWhatWouldStartNothing(t *testing.T) {
	job, cronJob := reloader.Workload{Kind: reloader.Job, Namespace: "shop", Name: "once"}, reloader.Workload{Kind: reloader.CronJob, Namespace: "shop", Name: "nightly"}
	once := func(change func(*batchv1.Job)) runtime.Object {
		a := newApp(job)
		o := &batchv1.Job{
			TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: *a.meta(), Spec: batchv1.JobSpec{Template: a.template()},
		}
		change(o)
		return o
	}
	nightly := func(suspended bool) runtime.Object {
		a := newApp(cronJob)
		return &batchv1.CronJob{
			TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "CronJob"}, ObjectMeta: *a.meta(),
			Spec: batchv1.CronJobSpec{Suspend: &suspended, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: a.template()}}},
		}
	}
	ended := func(o *batchv1.Job) {
		o.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	}
	tests := map[string]struct {
		workload reloader.Workload
		object   runtime.Object
		rerun    bool
		want     int
		wantRead bool
	}{
		"a Job that runs":                    {workload: job, object: once(func(*batchv1.Job) {}), want: 1},
		"a Job that has ended":               {workload: job, object: once(ended)},
		"a Job that has ended, to run again": {workload: job, object: once(ended), rerun: true, want: 1},
		"a Job that has yet to start":        {workload: job, object: once(func(o *batchv1.Job) { o.Spec.Suspend = new(true) })},
		"a CronJob":                          {workload: cronJob, object: nightly(false), want: 1},
		"a CronJob that is suspended":        {workload: cronJob, object: nightly(true)},
		"another Job of that name":           {workload: job, object: once(func(o *batchv1.Job) { o.UID = "second" }), wantRead: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := play(t, func(request) (int, http.Header, any) { return http.StatusOK, nil, tc.object })
			r, webhook := new(told), new(posts)
			e := newTestEngine(t, server.config, r)
			e.webhook, e.rerunFinished = webhook, tc.rerun
			e.intake.observe(tc.workload, newApp(tc.workload).recorded(t).meta(), moment{})
			e.ledger.take(settings)
			dependents := func() []reloader.Workload { return []reloader.Workload{tc.workload} }
			e.ledger.look(settings, written(1, "a"), dependents)
			e.ledger.look(settings, written(30, "b"), dependents)
			require.NotEmpty(t, e.ledger.due(tc.workload))

			err := e.reload(t.Context(), tc.workload)
			assert.Equal(t, tc.wantRead, err != nil)
			assert.Equal(t, tc.wantRead, e.intake.open(tc.workload))
			assert.Equal(t, tc.wantRead, len(e.ledger.due(tc.workload)) > 0, "nothing stays due")
			assert.Equal(t, tc.want, webhook.n)
			assert.Len(t, r.reloaded, tc.want)
			for _, asked := range server.requests {
				assert.Equal(t, http.MethodGet, asked.method)
			}
		})
	}
}

// hook is a Webhook that does something else.
type hook func(context.Context) error

// Post implements Webhook.
func (h hook) Post(ctx context.Context, _ string, _ []byte) error { return h(ctx) }

// What is under way when the engine stops is answered, so that the next engine
// need not do it again.
func TestTheEndWaitsForWhatIsUnderWay(t *testing.T) {
	for _, way := range []string{"patch", "webhook"} {
		t.Run(way, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			a := newApp(web)
			server := play(t, func(request) (int, http.Header, any) {
				stop()
				return http.StatusOK, nil, metav1.PartialObjectMetadata{
					TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}, ObjectMeta: *a.meta(),
				}
			})
			r := new(told)
			e := newTestEngine(t, server.config, r)
			if way == "webhook" {
				e.webhook = hook(func(ctx context.Context) error { stop(); return ctx.Err() })
			}
			settled(t, e.intake, a)
			due(t, e.ledger, written(30, "b"))
			require.NoError(t, e.reload(ctx, web))
			assert.Empty(t, e.ledger.due(web))
			assert.Len(t, r.reloaded, 1)
		})
	}
}

// A reload that is cut off because the engine stops has not failed: the next
// engine goes on.
func TestWhatIsCutOffByTheEndIsNoFailure(t *testing.T) {
	for _, way := range []string{"patch", "webhook"} {
		t.Run(way, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			release := make(chan struct{})
			server := play(t, func(request) (int, http.Header, any) {
				stop()
				<-release
				return http.StatusServiceUnavailable, nil, nil
			})
			t.Cleanup(func() { close(release) })
			r := new(told)
			e := newTestEngine(t, server.config, r)
			c := clocktesting.NewFakeClock(time.Now())
			e.clock = c
			if way == "webhook" {
				e.webhook = hook(func(ctx context.Context) error { stop(); <-ctx.Done(); return ctx.Err() })
			}
			settled(t, e.intake, newApp(web))
			due(t, e.ledger, written(30, "b"))
			ended := make(chan error)
			go func() { ended <- e.reload(ctx, web) }()
			eventually(t, c.HasWaiters, "it waits for an answer")
			c.Step(stopGrace)
			require.ErrorIs(t, <-ended, context.Canceled)
			assert.Empty(t, r.failed)
			asked := len(server.requests)
			require.ErrorIs(t, e.reload(ctx, web), context.Canceled, "the queue is emptied")
			assert.Len(t, server.requests, asked)
			assert.Empty(t, r.failed)
			assert.NotEmpty(t, e.ledger.due(web))
		})
	}
}
