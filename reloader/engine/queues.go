package engine

import (
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine/internal/fair"
)

// queue is a work queue in which namespaces take turns, with what is known of
// keys that have failed.
type queue[K comparable] struct {
	workqueue.TypedRateLimitingInterface[K]
	rules[K]
	order    *fair.Order[K]
	backoff  *backoff[K]
	throttle *throttle
	// idle is true while no worker takes keys out: then none is put in, and what
	// has to be handled is found when that ends. See takeUp.
	idle atomic.Bool
}

// rules of a queue. The zero value of a field is a rule, too.
type rules[K comparable] struct {
	// share is how many workers a namespace may have; 0 is all of them.
	share int
	// first is how long a key waits that has failed for the first time; default
	// firstRetry.
	first time.Duration
	// state tells what is known of a key's object: while it is the same, so is
	// what comes of another attempt. Without, nothing is.
	state func(K) uint64
	// over reports whether nothing is left to do for a key that was handled
	// without an error; without, nothing is.
	over func(K) bool
}

// queues hold keys only. A key that is in a queue twice is there once, and no
// two workers have the same key at the same time.
type queues struct {
	// namespaces: namespaces that join.
	namespaces *queue[namespaceKey]
	// resolve: workloads whose references have to be read.
	resolve *queue[reloader.Workload]
	// sources: sources that have to be read; without a name, all those of
	// that kind and namespace.
	sources *queue[reloader.Source]
	// matches: namespaces that have used up what patterns may cost for now.
	matches *queue[namespaceKey]
	// workloads: workloads that wait for a reload.
	workloads *queue[reloader.Workload]
	// faults: workloads with annotations that cannot be used, to be told.
	faults *queue[reloader.Workload]
	// carriers: Jobs that hold what takes the place of another one.
	carriers *queue[reloader.Workload]
}

// newRuledQueues returns queues that count in m, where nil counts nothing, with
// rules for three of them. The share of the
// sources' is that of all.
func newRuledQueues(c clock.WithTicker, m workqueue.MetricsProvider,
	sources rules[reloader.Source], resolve, workloads rules[reloader.Workload],
) *queues {
	share := sources.share
	resolve.share, workloads.share, workloads.first = share, share, firstWrite
	return &queues{
		namespaces: newRuledQueue("namespaces", c, m, rules[namespaceKey]{}),
		resolve:    newRuledQueue("resolve", c, m, resolve),
		sources:    newRuledQueue("sources", c, m, sources),
		matches:    newRuledQueue("matches", c, m, rules[namespaceKey]{}),
		workloads:  newRuledQueue("workloads", c, m, workloads),
		faults:     newRuledQueue("faults", c, m, rules[reloader.Workload]{}),
		carriers:   newRuledQueue("carriers", c, m, rules[reloader.Workload]{share: share, first: firstWrite}),
	}
}

func newRuledQueue[K comparable](name string, c clock.WithTicker, m workqueue.MetricsProvider, r rules[K]) *queue[K] {
	if r.first == 0 {
		r.first = firstRetry
	}
	if r.state == nil {
		r.state = func(K) uint64 { return 0 }
	}
	if r.over == nil {
		r.over = func(K) bool { return true }
	}
	q := &queue[K]{
		rules:    r,
		order:    fair.NewOrder(namespaceOf[K], r.share),
		backoff:  newBackoff[K](r.first, c),
		throttle: &throttle{clock: c},
	}
	inner := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[K]{Name: name, Clock: c, MetricsProvider: m, Queue: q.order})
	q.TypedRateLimitingInterface = workqueue.NewTypedRateLimitingQueueWithConfig[K](q.backoff, workqueue.TypedRateLimitingQueueConfig[K]{
		Name: name, Clock: c, MetricsProvider: m,
		DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[K]{
			Name: name, Clock: c, MetricsProvider: m, Queue: inner,
		}),
	})
	return q
}

// namespaceOf returns the namespace of a key, in which it waits for its turn.
func namespaceOf[K comparable](key K) string {
	switch k := any(key).(type) {
	case reloader.Source:
		return k.Namespace
	case reloader.Workload:
		return k.Namespace
	case namespaceKey:
		return string(k)
	}
	return ""
}

// Add implements workqueue.TypedInterface.
func (q *queue[K]) Add(key K) {
	if !q.idle.Load() {
		q.TypedRateLimitingInterface.Add(key)
	}
}

// AddAfter implements workqueue.TypedDelayingInterface.
func (q *queue[K]) AddAfter(key K, wait time.Duration) {
	if !q.idle.Load() {
		q.TypedRateLimitingInterface.AddAfter(key, wait)
	}
}

// AddRateLimited implements workqueue.TypedRateLimitingInterface.
func (q *queue[K]) AddRateLimited(key K) {
	if !q.idle.Load() {
		q.TypedRateLimitingInterface.AddRateLimited(key)
	}
}

// Done implements workqueue.TypedInterface.
func (q *queue[K]) Done(key K) {
	q.order.Done(key)
	q.TypedRateLimitingInterface.Done(key)
}

// waiting returns how many keys there are that no worker has.
func (q *queue[K]) waiting() int { return q.order.Waiting() }

// rests returns how long a key that has just been taken has to wait all the same,
// and puts it back for that long; 0 has it handled.
func (q *queue[K]) rests(key K) time.Duration {
	wait := q.throttle.left()
	if wait == 0 {
		wait = q.backoff.left(key, q.state)
	}
	if wait > 0 {
		q.AddAfter(key, wait)
	}
	return wait
}

// retry is what becomes of a key that has failed.
type retry struct {
	class    class
	wait     time.Duration
	failures int
	// begun is true if everything else in the queue waits from now on, too.
	begun bool
}

// failed puts a key back that has failed. If the API server asks for less,
// everything else in the queue waits, too, for as long as that asks for: how often
// this key has failed is a matter of this key.
func (q *queue[K]) failed(key K, err error) retry {
	r := q.backoff.fail(key, err, q.state)
	if r.class == throttled {
		r.begun = q.throttle.hold(retryAfter(err))
	}
	q.AddAfter(key, r.wait)
	return r
}

// handled notes that a key did not fail.
func (q *queue[K]) handled(key K) {
	if q.backoff.failing.Load() > 0 && q.over(key) {
		q.Forget(key)
	}
}

// stalls reports whether somebody has to lift what has refused a key.
func (q *queue[K]) stalls(key K, err error) bool {
	return classOf(err) == stalled || q.backoff.again(key, err, q.state)
}

// reload has w reloaded when the coalescing window that starts now ends; one
// that has started already is not extended.
func (q *queues) reload(w reloader.Workload, window time.Duration) {
	q.workloads.AddAfter(w, window)
}

// sweep forgets failures of what does not come any more.
func (q *queues) sweep() {
	q.namespaces.backoff.sweep()
	q.resolve.backoff.sweep()
	q.sources.backoff.sweep()
	q.matches.backoff.sweep()
	q.workloads.backoff.sweep()
	q.faults.backoff.sweep()
	q.carriers.backoff.sweep()
}

func (q *queues) shutDown() {
	q.namespaces.ShutDown()
	q.resolve.ShutDown()
	q.sources.ShutDown()
	q.matches.ShutDown()
	q.workloads.ShutDown()
	q.faults.ShutDown()
	q.carriers.ShutDown()
}
