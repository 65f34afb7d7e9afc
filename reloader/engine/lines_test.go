package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
)

func inNamespace(namespace string, n int) []reloader.Workload {
	all := make([]reloader.Workload, n)
	for i := range all {
		all[i] = reloader.Workload{Kind: reloader.Deployment, Namespace: namespace, Name: fmt.Sprint("app-", i)}
	}
	return all
}

// queueUp has workloads ask in turn, and returns those that may roll.
func queueUp(r *rollouts, all ...reloader.Workload) (rolling []reloader.Workload) {
	for _, w := range all {
		if r.begin(w) {
			r.began(w)
			rolling = append(rolling, w)
		}
	}
	return rolling
}

// end ends the rollouts of some.
func end(r *rollouts, all ...reloader.Workload) {
	since := r.all()
	for _, w := range all {
		r.ended(w, since[w])
	}
}

func TestNoNamespaceHasMoreThanHalfOfThePlaces(t *testing.T) {
	tests := map[string]struct {
		most    int
		several bool
		want    int
	}{
		"half":                             {most: 4, several: true, want: 2},
		"half, rounded up":                 {most: 5, several: true, want: 3},
		"the only one":                     {most: 1, several: true, want: 1},
		"one of two":                       {most: 2, several: true, want: 1},
		"all where one is watched":         {most: 4, several: false, want: 4},
		"no limit, and so no share either": {most: 0, several: true, want: 10},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRollouts(tc.most, tc.several, clocktesting.NewFakeClock(time.Unix(0, 0)))
			assert.Len(t, queueUp(r, inNamespace("greedy", 10)...), tc.want)
		})
	}
}

func TestWhoEndsLeavesAPlaceToItsNamespace(t *testing.T) {
	r := newRollouts(2, true, clocktesting.NewFakeClock(time.Unix(0, 0)))
	greedy := inNamespace("greedy", 3)
	require.Equal(t, greedy[:1], queueUp(r, greedy...))
	end(r, greedy[0])
	assert.Equal(t, greedy[1:2], queueUp(r, greedy[1:]...))
	require.True(t, r.begin(web))
	r.notBegun(web)
	assert.Empty(t, queueUp(r, greedy[2]), "what others leave is not for a namespace with its share")
	assert.Equal(t, map[string]int{"greedy": 1}, r.of)
}

// A namespace with thousands in line delays nobody else by more than a turn.
func TestNamespacesTakeTurns(t *testing.T) {
	r := newRollouts(1, true, clocktesting.NewFakeClock(time.Unix(0, 0)))
	greedy, small := inNamespace("greedy", 1000), inNamespace("small", 2)
	all := append(append([]reloader.Workload{}, greedy...), small...)
	rolling := queueUp(r, all...)
	require.Equal(t, greedy[:1], rolling)
	var order []reloader.Workload
	for range 5 {
		end(r, rolling...)
		rolling = queueUp(r, all[1:]...)
		require.Len(t, rolling, 1)
		all = without(all, rolling[0])
		order = append(order, rolling[0])
	}
	assert.Equal(t, []reloader.Workload{greedy[1], small[0], greedy[2], small[1], greedy[3]}, order)
}

func without(all []reloader.Workload, gone reloader.Workload) (rest []reloader.Workload) {
	for _, w := range all {
		if w != gone {
			rest = append(rest, w)
		}
	}
	return rest
}

func TestWhoWasRefusedFirstComesFirst(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Unix(0, 0))
	r := newRollouts(2, false, c)
	all := inNamespace("shop", 5)
	require.Equal(t, all[:2], queueUp(r, all...))
	end(r, all[0])
	assert.Empty(t, queueUp(r, all[3], all[4]), "another one is before them")
	assert.Equal(t, all[2:3], queueUp(r, all[2]))

	t.Run("unless it has stopped asking", func(t *testing.T) {
		c.Step(linePatience)
		require.Empty(t, queueUp(r, all[4]))
		c.Step(time.Second)
		end(r, all[1])
		assert.Equal(t, all[4:], queueUp(r, all[4]), "all[3] is not due any more")
		assert.NotContains(t, r.lines.asked, all[3])
	})
}

func TestSeveralFreePlacesAreGivenAtOnce(t *testing.T) {
	r := newRollouts(4, true, clocktesting.NewFakeClock(time.Unix(0, 0)))
	a, b := inNamespace("a", 4), inNamespace("b", 4)
	rolling := queueUp(r, a[0], a[1], b[0], b[1])
	require.Len(t, rolling, 4)
	require.Empty(t, queueUp(r, a[2], a[3], b[2], b[3]))
	end(r, rolling...)
	// In whatever order they ask: nobody takes the place of another one.
	assert.Len(t, queueUp(r, b[3], b[2], a[3], a[2]), 4)
}

func TestLinesKeepNothingOfThoseThatAreGone(t *testing.T) {
	c := clocktesting.NewFakeClock(time.Unix(0, 0))
	r := newRollouts(1, true, c)
	queueUp(r, inNamespace("a", 100)...)
	queueUp(r, inNamespace("b", 100)...)
	c.Step(linePatience + 1)
	r.sweep()
	assert.Equal(t, newLines().of, r.lines.of)
	assert.Empty(t, r.lines.asked)
	assert.Empty(t, r.lines.turns)
}
