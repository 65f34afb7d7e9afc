package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader/guard"
)

// How long a key waits before it is tried again: longer each time.
const (
	firstRetry = 50 * time.Millisecond
	// firstWrite is for reloads, which others have to decide about as well.
	firstWrite = time.Second
	lastRetry  = 5 * time.Minute
	// lastUnanswered is in place of lastRetry for who got no answer: soon after an
	// outage everything is tried again.
	lastUnanswered = 30 * time.Second
	// stalledRetry is for what somebody has to mend first.
	stalledRetry = time.Minute
)

// News of a key that waits lets it be tried at once, but not for ever: whoever
// writes to an object a hundred times a second gets no hundred attempts.
const (
	// mostEarly attempts in a row may come before their time.
	mostEarly = 5
	// earlyEvery is the time in which another one is earned.
	earlyEvery = time.Minute
)

// backoff remembers the keys of a queue that have failed. What it says holds
// however often a key is put into the queue meanwhile: that a failed reload has its
// workload read again, which has the reload queued again, makes no difference. It
// is safe for concurrent use.
type backoff[K comparable] struct {
	clock clock.PassiveClock
	first time.Duration

	// failing is how many keys there are in setbacks: mostly none.
	failing atomic.Int64

	mu       sync.Mutex // guards everything below
	setbacks map[K]*setback
}

// setback is a key that has failed and not succeeded since.
type setback struct {
	failures int
	class    class
	until    time.Time
	// state is what was known of the key's object when it failed.
	state uint64
	// began is when it failed for the first time.
	began time.Time
	// own counts failures that have to do with the key, and not with the API
	// server as such.
	own int
	// early attempts that are left, since then.
	early int
	since time.Time
}

var _ workqueue.TypedRateLimiter[string] = (*backoff[string])(nil)

func newBackoff[K comparable](first time.Duration, c clock.PassiveClock) *backoff[K] {
	return &backoff[K]{clock: c, first: first, setbacks: map[K]*setback{}}
}

// left returns how long a key has to wait; 0 lets it be tried. One that is about
// something new since it failed is let through early, a few times.
func (b *backoff[K]) left(key K, state func(K) uint64) time.Duration {
	if b.failing.Load() == 0 {
		return 0
	}
	present := state(key)
	now := b.clock.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.setbacks[key]
	if s == nil || !now.Before(s.until) {
		return 0
	}
	if s.state != present {
		s.earn(now)
		if s.early > 0 {
			s.early--
			return 0
		}
	}
	return s.until.Sub(now)
}

// earn adds the early attempts of the time that has passed.
func (s *setback) earn(now time.Time) {
	if n := int(now.Sub(s.since) / earlyEvery); n > 0 {
		s.early = min(s.early+n, mostEarly)
		s.since = s.since.Add(time.Duration(n) * earlyEvery)
	}
}

// fail notes that a key has failed, and returns how long it has to wait.
func (b *backoff[K]) fail(key K, err error, state func(K) uint64) retry {
	c, present := classOf(err), state(key)
	now := b.clock.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.setbackLocked(key, now)
	var wait time.Duration
	switch {
	case c == throttled:
		wait = max(retryAfter(err), min(b.first<<min(s.failures, 20), mostRetryAfter))
		s.failures++
	case c == stalled, s.confirms(c, present):
		wait = stalledRetry
		s.failures++
	default:
		last := lastRetry
		if c == unanswered {
			last = lastUnanswered
		}
		wait = min(b.first<<min(s.failures, 20), last)
		s.failures++
	}
	if c != throttled && c != unanswered {
		s.own++
	}
	s.class, s.state, s.until = c, present, now.Add(wait)
	return retry{class: c, wait: wait, failures: s.failures}
}

// confirms reports whether a failure is the one of before, of the same state.
func (s *setback) confirms(c class, state uint64) bool {
	return c == mistaken && s.class == mistaken && s.state == state
}

// again reports whether a failure of that error would be the one of before: the
// object has been read since, and is what we took it for.
func (b *backoff[K]) again(key K, err error, state func(K) uint64) bool {
	present := state(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.setbacks[key]
	return s != nil && s.confirms(classOf(err), present)
}

// undecided counts an attempt that has neither failed nor come to an end.
func (b *backoff[K]) undecided(key K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setbackLocked(key, b.clock.Now()).own++
}

// setbackLocked returns the setback of a key, a new one if there is none.
func (b *backoff[K]) setbackLocked(key K, now time.Time) *setback {
	s := b.setbacks[key]
	if s == nil {
		s = &setback{early: mostEarly, since: now, began: now}
		b.setbacks[key] = s
		b.failing.Add(1)
	}
	return s
}

// When implements workqueue.TypedRateLimiter, for what fails outside of the queue.
func (b *backoff[K]) When(key K) time.Duration {
	return b.fail(key, guard.Panic{}, func(K) uint64 { return 0 }).wait
}

// Forget implements workqueue.TypedRateLimiter: the key has succeeded.
func (b *backoff[K]) Forget(key K) {
	if b.failing.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, failing := b.setbacks[key]; failing {
		delete(b.setbacks, key)
		b.failing.Add(-1)
	}
}

// NumRequeues implements workqueue.TypedRateLimiter.
func (b *backoff[K]) NumRequeues(key K) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.setbacks[key]; s != nil {
		return s.failures
	}
	return 0
}

// setbackKept is how long a setback is kept that nobody has tried again: the
// object may be gone, or come back under the same name.
const setbackKept = 2 * lastRetry

// sweep forgets the setbacks of keys that do not come any more.
func (b *backoff[K]) sweep() {
	now := b.clock.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, s := range b.setbacks {
		if now.Sub(s.until) > setbackKept {
			delete(b.setbacks, key)
			b.failing.Add(-1)
		}
	}
}

// throttle is until when nobody asks the API server for anything, because it has
// asked for that. It is safe for concurrent use.
type throttle struct {
	clock clock.PassiveClock
	until atomic.Int64 // in nanoseconds since 1970
}

// left returns how long that is.
func (t *throttle) left() time.Duration {
	until := t.until.Load()
	if until == 0 {
		return 0
	}
	return max(0, time.Duration(until-t.clock.Now().UnixNano()))
}

// hold extends it, and reports whether it has just begun.
func (t *throttle) hold(wait time.Duration) (begun bool) {
	now := t.clock.Now()
	until := now.Add(wait).UnixNano()
	for {
		before := t.until.Load()
		if before >= until {
			return false
		}
		if t.until.CompareAndSwap(before, until) {
			return before <= now.UnixNano()
		}
	}
}
