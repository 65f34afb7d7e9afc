package engine

import (
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
)

// newQueues returns queues without rules.
func newQueues(c clock.WithTicker, m workqueue.MetricsProvider) *queues {
	return newRuledQueues(c, m, rules[reloader.Source]{}, rules[reloader.Workload]{}, rules[reloader.Workload]{})
}

// newQueue returns a queue without rules.
func newQueue[K comparable](name string, c clock.WithTicker, m workqueue.MetricsProvider) *queue[K] {
	return newRuledQueue(name, c, m, rules[K]{})
}

// allRead reports whether every source has been read and every shelf searched.
func (l *ledger) allRead() bool {
	return l.allReadBut(func(string) bool { return false })
}
