package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/report"
)

// Workloads and namespaces come and go under ever new names. What a worker notes of
// one after the event of its deletion does not stay.
func TestASweepForgetsWhatIsGone(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(1_000, 0))
	e := newTestEngine(t, unreachable(t), new(told))
	e.matching = newMatching(clock)
	e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
	for _, w := range []reloader.Workload{web, worker} {
		e.rivals.reloaded(report.Reload{Workload: w}, 1, nil, "")
		e.attempts.compare(w)
		e.attempts.lost(attempt{reload: report.Reload{Workload: w}})
		e.lenders.borrow(w, reloader.Workload{Kind: reloader.Deployment, Namespace: w.Namespace, Name: "lender"})
	}
	e.matching.spend("gone", turnSteps)
	e.matching.spend("waits", turnSteps)
	e.matching.wait(reloader.Source{Kind: reloader.ConfigMap, Namespace: "waits", Name: "a"})

	clock.Step(time.Hour)
	e.sweep(t.Context())

	assert.Equal(t, []reloader.Workload{web}, e.rivals.all())
	assert.Equal(t, []reloader.Workload{web, web}, e.attempts.all())
	assert.Equal(t, []reloader.Workload{web}, e.lenders.all())
	assert.Len(t, e.lenders.lent, 1)
	assert.Len(t, e.matching.namespaces, 1)
	assert.Contains(t, e.matching.namespaces, "waits")

	e.forget(web, moment{})
	e.sweep(t.Context())
	assert.Empty(t, e.rivals.all())
	assert.Empty(t, e.attempts.all())
	assert.Empty(t, e.lenders.all())
	assert.Empty(t, e.lenders.lent)
}
