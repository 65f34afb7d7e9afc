package engine

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/policy"
)

func TestMatchingHasABudget(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	m := newMatching(clock)
	assert.Equal(t, mostSteps, m.allowance("a"))
	m.spend("a", mostSteps+turnSteps)
	assert.Equal(t, -turnSteps, m.allowance("a"))
	assert.Equal(t, mostSteps, m.allowance("b"), "others have theirs")
	pause := m.pause("a")
	assert.Equal(t, 2*turnSteps*time.Second/stepsPerSecond, pause)
	clock.SetTime(clock.Now().Add(pause))
	assert.Equal(t, turnSteps, m.allowance("a"))
	clock.SetTime(clock.Now().Add(24 * time.Hour))
	assert.Equal(t, mostSteps, m.allowance("a"))
	assert.Empty(t, m.namespaces, "who has spent nothing for long is forgotten")
}

func TestNothingStaysOfANamespaceThatSpentSomething(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	m := newMatching(clock)
	for i := range 1_000 {
		m.spend(fmt.Sprint("ns-", i), 1_000)
	}
	m.wait(reloader.Source{Namespace: "waits", Name: "1"})
	m.sweep()
	assert.Len(t, m.namespaces, 1_001, "what was spent counts for a while")
	clock.SetTime(clock.Now().Add(time.Minute))
	m.sweep()
	assert.Len(t, m.namespaces, 1)
	assert.True(t, m.waits("waits"))
}

func TestASourceWaitsOnce(t *testing.T) {
	m := newMatching(clocktesting.NewFakePassiveClock(time.Unix(0, 0)))
	one, two := reloader.Source{Namespace: "a", Name: "1"}, reloader.Source{Namespace: "a", Name: "2"}
	for _, s := range []reloader.Source{one, two, one} {
		m.wait(s)
	}
	for _, want := range []reloader.Source{one, two} {
		s, ok := m.head("a")
		assert.True(t, ok)
		assert.Equal(t, want, s)
		m.done("a")
	}
	assert.False(t, m.waits("a"))
}

// TestPatternsOfATenantDelayNobodyElse: workloads whose patterns cost as much as
// can be, and a source with a name as long as can be, in one namespace. Its
// events match nothing; a look spends one turn at most; what is left comes in
// the namespace's own turns and is not lost, and a start waits for none of it.
func TestPatternsOfATenantDelayNobodyElse(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	e := newTestEngine(t, unreachable(t), new(told))
	e.matching = newMatching(clock)
	for i := range 150 {
		pol := policy.Parse(map[string]string{e.settings.Keys.ConfigMapNamed: fmt.Sprintf("(?:.?){300}b%d|a+", i)}, nil, e.settings)
		require.True(t, pol.HasPatterns(reloader.ConfigMap))
		w := reloader.Workload{Kind: reloader.CronJob, Namespace: "evil", Name: fmt.Sprint("w-", i)}
		e.ledger.enter(w)
		e.index.Set(w, index.Entry{Policy: pol})
	}
	long := reloader.Source{Kind: reloader.ConfigMap, Namespace: "evil", Name: strings.Repeat("a", 253)}
	require.True(t, e.index.Depended(long), "an event does not know, and does not find out")
	require.True(t, e.ledger.news(long, 5))

	require.NoError(t, e.readSource(t.Context(), long), "it is not read yet")
	spent := mostSteps - e.matching.allowance("evil")
	assert.Positive(t, spent)
	assert.LessOrEqual(t, spent, 3*turnSteps, "a turn, and the list that ended it")
	assert.True(t, e.matching.waits("evil"))
	assert.True(t, e.ledger.allReadBut(e.matching.waits), "a start does not wait for it")
	assert.False(t, e.ledger.allRead())
	e.goOn()

	_, known := e.matches(reloader.Source{Kind: reloader.ConfigMap, Namespace: "shop", Name: "settings"})
	assert.True(t, known, "others go on")

	turns := 0
	for ; e.matching.waits("evil"); turns++ {
		require.Less(t, turns, 1_000, "it comes to an end")
		require.NoError(t, e.matchWaiting(t.Context(), "evil"))
		clock.Step(e.matching.pause("evil"))
	}
	assert.Greater(t, turns, 10)
	assert.Contains(t, drain(e.queues.sources), long, "it is not lost")
	m, known := e.matches(long)
	require.True(t, known)
	dependents := e.index.Dependents(long, m, nil)
	require.Len(t, dependents, 150)

	// It has been written while it waited, after the start.
	e.ledger.news(long, 7)
	due, first := e.ledger.take(long)
	require.True(t, due && first)
	overdue, _ := e.ledger.look(long, written(7, "new"), func() []reloader.Workload { return dependents })
	assert.Len(t, overdue, 150, "the change is not taken for what was there at the start")
}

// Who creates and deletes sources faster than patterns can be tried leaves nothing
// in the line of the namespace.
func TestNothingWaitsThatIsGone(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	e := newTestEngine(t, unreachable(t), new(told))
	e.matching = newMatching(clock)
	for i := range 150 {
		pol := policy.Parse(map[string]string{e.settings.Keys.ConfigMapNamed: fmt.Sprintf("(?:.?){300}b%d|a+", i)}, nil, e.settings)
		w := reloader.Workload{Kind: reloader.CronJob, Namespace: "shop", Name: fmt.Sprint("w-", i)}
		e.ledger.enter(w)
		e.index.Set(w, index.Entry{Policy: pol})
	}
	feed := e.sourceFeed(reloader.ConfigMap, area{})
	object := func(name string, version int) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: strconv.Itoa(version)}}
	}
	tail := strings.Repeat("a", 240)
	for i := range 300 {
		name := fmt.Sprintf("%s-%d", tail, i)
		require.NoError(t, feed.Add(object(name, 2*i+10)))
		require.NoError(t, readQueued(t, e))
		if i > 0 {
			require.NoError(t, feed.Delete(object(name, 2*i+11)))
			require.NoError(t, readQueued(t, e))
		}
	}
	require.True(t, e.matching.waits("shop"))
	left := configMap(tail + "-0")
	for turns := 0; e.matching.waits("shop"); turns++ {
		require.Less(t, turns, 500, "only one is left to be matched")
		require.NoError(t, e.matchWaiting(t.Context(), "shop"))
		clock.Step(e.matching.pause("shop"))
	}
	assert.Equal(t, []reloader.Source{left}, drain(e.queues.sources))
	_, known := e.matches(left)
	assert.True(t, known, "what is there is not lost")
}

func TestASourceThatWaitedUnchangedReloadsNothing(t *testing.T) {
	e := newTestEngine(t, unreachable(t), new(told))
	e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
	e.ledger.news(settings, 5)
	e.goOn()
	e.ledger.take(settings)
	dependents := func() []reloader.Workload { return []reloader.Workload{web} }
	overdue, _ := e.ledger.look(settings, written(5, "a"), dependents)
	assert.Empty(t, overdue)
	overdue, _ = e.ledger.look(settings, written(6, "b"), dependents)
	assert.Equal(t, []reloader.Workload{web}, overdue)
}
