package engine

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
)

// stubborn is a yard that answers one kind of write always alike, until it heals.
type stubborn struct {
	*yard
	e        *Engine
	workload reloader.Workload
	refused  int
}

func newStubborn(t *testing.T, w reloader.Workload, write string, answer func() (int, http.Header, any)) *stubborn {
	t.Helper()
	y := newYard(t)
	s := &stubborn{yard: y, e: clocked(t, y.config, y.clock), workload: w}
	y.fault = func(asked string) func() (int, http.Header, any) {
		if asked != write {
			return nil
		}
		s.refused++
		return answer
	}
	return s
}

// changes has a source of the workload changed, whose object and template these are.
func (s *stubborn) changes(t *testing.T, meta *metav1.ObjectMeta, template *corev1.PodTemplateSpec) {
	t.Helper()
	a := newApp(s.workload)
	meta.Generation, meta.Annotations, *template = a.generation, a.annotations, a.template()
	s.e.intake.observe(s.workload, meta, moment{})
	require.NoError(t, s.e.resolve(t.Context(), s.workload))
	s.e.ledger.take(settings)
	dependents := func() []reloader.Workload { return []reloader.Workload{s.workload} }
	s.e.ledger.look(settings, written(1, "a"), dependents)
	s.e.ledger.look(settings, written(30, "b"), dependents)
	require.NotEmpty(t, s.e.ledger.due(s.workload))
}

// pass lets a second pass in which every key is in its queue all the time, as the
// worst of what may bring it there.
func (s *stubborn) pass(t *testing.T) {
	attemptKey(t.Context(), s.e, s.e.queues.resolve, s.workload, s.e.resolve)
	attemptKey(t.Context(), s.e, s.e.queues.workloads, s.workload, s.e.reload)
	carriers := map[reloader.Workload]bool{}
	s.mu.Lock()
	for name := range s.revisions {
		carriers[reloader.Workload{Kind: carrierKind, Namespace: "shop", Name: name}] = true
	}
	s.mu.Unlock()
	for key := range s.e.carriers.held {
		carriers[key] = true
	}
	for key := range carriers {
		attemptKey(t.Context(), s.e, s.e.queues.carriers, key, s.e.carry)
	}
	s.letGo()
	s.clock.Step(time.Second)
}

// requireRepeatedSlowly lets ten minutes pass, and then as much as it takes once
// the API server has healed.
func (s *stubborn) requireRepeatedSlowly(t *testing.T, answer string, done func() bool) {
	t.Helper()
	most := 14 // 1, 2, 4 ... 300 s apart, or once a minute
	switch {
	case strings.HasPrefix(answer, "429") || strings.HasSuffix(answer, "a time"), answer == "cut":
		most += 20 // these make a key wait 30 s at most
	case answer == "413":
		most *= 2 // each attempt is one in full and a shorter one
	}
	for range 600 {
		s.pass(t)
	}
	assert.LessOrEqual(t, s.refused, most, "in 10 minutes")
	assert.GreaterOrEqual(t, s.refused, 1)
	s.mu.Lock()
	s.fault = nil
	s.mu.Unlock()
	for i := 0; i < 400 && !done(); i++ {
		s.pass(t)
	}
}

// Every write of the exchange of a Job, with every kind of answer: it is repeated
// slowly, and the Job is replaced once when the API server has healed.
func TestRefusedWritesOfAnExchangeAreRepeatedSlowly(t *testing.T) {
	for _, write := range []string{"POST Job, dry", "POST carrier", "PATCH carrier", "DELETE Job", "POST Job", "DELETE carrier"} {
		t.Run(write, func(t *testing.T) {
			for kind, answer := range answers {
				t.Run(kind, func(t *testing.T) {
					s := newStubborn(t, reloader.Workload{Kind: reloader.Job, Namespace: "shop", Name: "migrate"}, write, answer)
					old := s.jobs["migrate"]
					s.changes(t, &old.ObjectMeta, &old.Spec.Template)
					s.requireRepeatedSlowly(t, kind, func() bool {
						return len(s.jobs) == 1 && len(s.revisions) == 0 && s.jobs["migrate"].UID != "old"
					})
					require.Len(t, s.jobs, 1)
					assert.Empty(t, s.revisions)
					now := s.jobs["migrate"]
					assert.NotEqual(t, "old", string(now.UID), "the change is lost")
					assert.Len(t, now.Spec.Template.Spec.Containers[0].Env, 1)
					created := slices.DeleteFunc(slices.Clone(s.writes), func(write string) bool { return write != "POST Job" })
					assert.Len(t, created, 1, "%v", s.writes)
				})
			}
		})
	}
}

// The same for what is written for a CronJob.
func TestRefusedWritesForACronJobAreRepeatedSlowly(t *testing.T) {
	for _, write := range []string{"POST Job", "PATCH CronJob"} {
		t.Run(write, func(t *testing.T) {
			for kind, answer := range answers {
				t.Run(kind, func(t *testing.T) {
					s := newStubborn(t, reloader.Workload{Kind: reloader.CronJob, Namespace: "shop", Name: "nightly"}, write, answer)
					delete(s.jobs, "migrate")
					s.cronJob = &batchv1.CronJob{
						TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "CronJob"},
						ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "nightly", UID: "first"},
					}
					s.changes(t, &s.cronJob.ObjectMeta, &s.cronJob.Spec.JobTemplate.Spec.Template)
					s.requireRepeatedSlowly(t, kind, func() bool { return len(s.e.ledger.due(s.workload)) == 0 })
					assert.Empty(t, s.e.ledger.due(s.workload))
					assert.Len(t, s.jobs, 1, "it runs once")
				})
			}
		})
	}
}
