package fault

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// What names a sort of request: its verb and resource.
type What struct{ Verb, Resource string }

// Counts are the requests that have come to a proxy.
type Counts struct {
	// Total counts them by sort; Peak is the most there were of a sort within
	// one second, and PeakOfAll of all sorts together.
	Total, Peak map[What]int
	PeakOfAll   int
	// Faults counts those that went wrong, by what did.
	Faults map[string]int
	// Connections counts those that were opened, or tried to.
	Connections int
}

// All is the number of requests of all sorts.
func (c Counts) All() int {
	all := 0
	for _, n := range c.Total {
		all += n
	}
	return all
}

// Injected is the number of requests that went wrong.
func (c Counts) Injected() int {
	all := 0
	for _, n := range c.Faults {
		all += n
	}
	return all
}

// String is a table for humans: a line for each sort.
func (c Counts) String() string {
	var b strings.Builder
	for _, w := range slices.SortedFunc(maps.Keys(c.Total), func(a, b What) int {
		return strings.Compare(a.Resource+a.Verb, b.Resource+b.Verb)
	}) {
		fmt.Fprintf(&b, "%-8s%-30s %6d, at most %d in a second\n", w.Verb, w.Resource, c.Total[w], c.Peak[w])
	}
	fmt.Fprintf(&b, "%d requests, at most %d in a second, %d connections; went wrong: %v\n",
		c.All(), c.PeakOfAll, c.Connections, c.Faults)
	return b.String()
}

// tally counts, and is not safe for concurrent use.
type tally struct {
	start time.Time
	// second is the one that current counts.
	second  int
	current map[What]int
	total   Counts
}

func newTally(start time.Time) tally {
	return tally{
		start:   start,
		current: map[What]int{},
		total:   Counts{Total: map[What]int{}, Peak: map[What]int{}, Faults: map[string]int{}},
	}
}

func (t *tally) add(now time.Time, r Request, k kind) {
	if second := int(now.Sub(t.start) / time.Second); second != t.second {
		t.second = second
		clear(t.current)
	}
	w := What{r.Verb, r.Resource}
	t.current[w]++
	t.total.Total[w]++
	t.total.Peak[w] = max(t.total.Peak[w], t.current[w])
	all := 0
	for _, n := range t.current {
		all += n
	}
	t.total.PeakOfAll = max(t.total.PeakOfAll, all)
	if k != none {
		t.total.Faults[string(k)]++
	}
}

func (t *tally) counts() Counts {
	c := t.total
	c.Total, c.Peak, c.Faults = maps.Clone(c.Total), maps.Clone(c.Peak), maps.Clone(c.Faults)
	return c
}
