package engine

import (
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
)

// How long a key waits before it is tried again.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Minute
	// stalledRetry is for what somebody has to mend first.
	stalledRetry = time.Minute
)

// queues hold keys only. A key that is in a queue twice is there once, and no
// two workers have the same key at the same time.
type queues struct {
	// namespaces: namespaces that join.
	namespaces workqueue.TypedRateLimitingInterface[namespaceKey]
	// resolve: workloads whose references have to be read.
	resolve workqueue.TypedRateLimitingInterface[reloader.Workload]
	// sources: sources that have to be read; without a name, all those of
	// that kind and namespace.
	sources workqueue.TypedRateLimitingInterface[reloader.Source]
	// workloads: workloads that wait for a reload.
	workloads workqueue.TypedRateLimitingInterface[reloader.Workload]
	// faults: workloads with annotations that cannot be used, to be told.
	faults workqueue.TypedRateLimitingInterface[reloader.Workload]
	// carriers: Jobs that hold what takes the place of another one.
	carriers workqueue.TypedRateLimitingInterface[reloader.Workload]
}

// newQueues returns queues that count in m; nil counts nothing.
func newQueues(c clock.WithTicker, m workqueue.MetricsProvider) *queues {
	return &queues{
		namespaces: newQueue[namespaceKey]("namespaces", c, m),
		resolve:    newQueue[reloader.Workload]("resolve", c, m),
		sources:    newQueue[reloader.Source]("sources", c, m),
		workloads:  newQueue[reloader.Workload]("workloads", c, m),
		faults:     newQueue[reloader.Workload]("faults", c, m),
		carriers:   newQueue[reloader.Workload]("carriers", c, m),
	}
}

func newQueue[K comparable](name string, c clock.WithTicker, m workqueue.MetricsProvider) workqueue.TypedRateLimitingInterface[K] {
	return workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[K](firstRetry, lastRetry),
		workqueue.TypedRateLimitingQueueConfig[K]{Name: name, Clock: c, MetricsProvider: m},
	)
}

// reload has w reloaded when the coalescing window that starts now ends; one
// that has started already is not extended.
func (q *queues) reload(w reloader.Workload, window time.Duration) {
	q.workloads.AddAfter(w, window)
}

func (q *queues) shutDown() {
	q.namespaces.ShutDown()
	q.resolve.ShutDown()
	q.sources.ShutDown()
	q.workloads.ShutDown()
	q.faults.ShutDown()
	q.carriers.ShutDown()
}
