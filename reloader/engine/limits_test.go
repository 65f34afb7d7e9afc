package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
)

var reloadedOften = reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "often"} //nolint:gochecknoglobals // read only

const often = 10

// pass asks to be let through and reloads if it is.
func pass(l *limits, w reloader.Workload) (wait time.Duration, held bool) {
	if wait, held = l.admit(w); wait == 0 {
		l.reloaded(w)
	}
	return wait, held
}

func TestFailuresDoNotOpenTheBreaker(t *testing.T) {
	l := newLimits(often, 0, clocktesting.NewFakeClock(time.Unix(0, 0)))
	for range 10 * often {
		wait, _ := l.admit(reloadedOften)
		require.Zero(t, wait)
	}
}

func TestTheBreakerHoldsLongerEachTime(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Unix(0, 0))
	l := newLimits(often, 0, c)
	for range often {
		wait, held := pass(l, reloadedOften)
		require.Zero(t, wait)
		require.False(t, held)
		c.Step(time.Second)
	}
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
		wait, held := l.admit(reloadedOften)
		assert.Equal(t, want, wait)
		assert.True(t, held, "this one opened it")
		wait, held = l.admit(reloadedOften)
		assert.Equal(t, want, wait)
		assert.False(t, held, "it was open")
		c.Step(want)
		wait, _ = pass(l, reloadedOften)
		require.Zero(t, wait, "what is due is brought after the hold")
	}
	other := reloadedOften
	other.Name = "other"
	wait, _ := l.admit(other)
	assert.Zero(t, wait, "nobody else is held")
}

func TestTheBreakerHoldsAnHourAtMost(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Unix(0, 0))
	l := newLimits(often, 0, c)
	var longest time.Duration
	for range 100 {
		wait, _ := pass(l, reloadedOften)
		longest = max(longest, wait)
		c.Step(wait)
	}
	assert.Equal(t, lastHold, longest)
}

func TestTheBreakerClosesAfterAQuietPeriod(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Unix(0, 0))
	l := newLimits(often, 0, c)
	for range often {
		pass(l, reloadedOften)
	}
	hold, _ := l.admit(reloadedOften)
	c.Step(hold + breakerPeriod)
	for range often {
		wait, _ := pass(l, reloadedOften)
		require.Zero(t, wait)
	}
	l.sweep()
	assert.Len(t, l.paces, 1, "it is not quiet")
	c.Step(breakerPeriod)
	l.sweep()
	assert.Empty(t, l.paces)
}

func TestTheRateIsThatOfTheWholeEngine(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Unix(0, 0))
	l := newLimits(often, 2, c)
	let := 0
	for i := range 100 {
		w := reloadedOften
		w.Name = string(rune('a' + i%26))
		if wait, held := pass(l, w); wait == 0 {
			let++
		} else {
			assert.Equal(t, 500*time.Millisecond, wait)
			assert.False(t, held)
		}
		c.Step(100 * time.Millisecond)
	}
	assert.InDelta(t, 22, let, 1, "10 s at 2 a second, and a burst of 2")
}
