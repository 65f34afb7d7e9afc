package engine

import (
	"maps"
	"sync"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/report"
)

// arrivals count the events of sources until what they made necessary is done.
// It is safe for concurrent use.
type arrivals struct {
	metrics *report.Metrics // nil counts nothing

	mu sync.Mutex // guards everything below
	// open are events of sources that wait for being read.
	open map[reloader.Source]map[report.Event]int
}

func newArrivals(m *report.Metrics) *arrivals {
	return &arrivals{metrics: m, open: map[reloader.Source]map[report.Event]int{}}
}

// take counts an event and hands it to handle, which reports whether it has put
// the source into its queue.
func (a *arrivals) take(s reloader.Source, e report.Event, handle func() (queued bool)) {
	if a.metrics == nil {
		handle()
		return
	}
	a.metrics.Received(e, s.Kind)
	// It is open before it is queued: a worker may be faster than this call.
	a.begin(s, e)
	if !handle() && a.end(s, e) {
		a.metrics.Processed(e, s.Kind, 1, true)
	}
}

func (a *arrivals) begin(s reloader.Source, e report.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[s] == nil {
		a.open[s] = map[report.Event]int{}
	}
	a.open[s][e]++
}

// end reports false if the event was settled meanwhile, with others of its
// source.
func (a *arrivals) end(s reloader.Source, e report.Event) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.open[s]
	if of[e] == 0 {
		return false
	}
	if of[e]--; of[e] == 0 {
		delete(of, e)
	}
	if len(of) == 0 {
		delete(a.open, s)
	}
	return true
}

// settle counts the open events of a source as done, or as failed once more.
func (a *arrivals) settle(s reloader.Source, ok bool) {
	a.mu.Lock()
	of := maps.Clone(a.open[s])
	if ok {
		delete(a.open, s)
	}
	a.mu.Unlock()
	for e, n := range of {
		if !ok {
			n = 1
		}
		a.metrics.Processed(e, s.Kind, n, ok)
	}
}
