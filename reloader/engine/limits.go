package engine

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
)

// The breaker: a workload that is reloaded too often within breakerPeriod is
// held back, at first for firstHold and twice as long each time, up to
// lastHold. After a hold one reload is let through; a period without another
// one closes the breaker.
const (
	breakerPeriod = 10 * time.Minute
	firstHold     = time.Minute
	lastHold      = time.Hour
)

// limits keep two writers that fight over a source from melting the cluster.
// They never block: who has to wait goes back to the queue, and what is due is
// brought in the end. It is safe for concurrent use.
type limits struct {
	clock clock.PassiveClock
	// reloads of one workload within breakerPeriod that are not too many; 0 is
	// no limit.
	reloads int
	// rate is the limit of the whole engine; nil without.
	rate *rate.Limiter

	mu    sync.Mutex // guards everything below
	paces map[reloader.Workload]*pace
}

// pace is how often one workload has been reloaded lately.
type pace struct {
	reloads []time.Time // within breakerPeriod
	holds   int         // since the breaker was closed
	until   time.Time   // of the present hold
}

// newLimits returns limits of so many reloads per workload, and of so many per
// second in all; 0 is no limit.
func newLimits(perWorkload int, perSecond float64, c clock.PassiveClock) *limits {
	l := &limits{clock: c, reloads: perWorkload, paces: map[reloader.Workload]*pace{}}
	if perSecond > 0 {
		l.rate = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
	}
	return l
}

// admit reports how long a reload of w has to wait; 0 lets it through. held is
// true if it is this call that opened the breaker.
func (l *limits) admit(w reloader.Workload) (wait time.Duration, held bool) {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.paces[w]; p != nil {
		if now.Before(p.until) {
			return p.until.Sub(now), false
		}
		p.expire(now)
		if l.reloads > 0 && p.exhausted(l.reloads) {
			hold := min(firstHold<<min(p.holds, 10), lastHold)
			p.holds++
			p.until, p.reloads = now.Add(hold), nil
			return hold, true
		}
	}
	if l.rate != nil && !l.rate.AllowN(now, 1) {
		return time.Duration(float64(time.Second) / float64(l.rate.Limit())), false
	}
	return 0, false
}

// open opens the breaker of w for as long as it can be.
func (l *limits) open(w reloader.Workload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.paces[w]
	if p == nil {
		p = new(pace)
		l.paces[w] = p
	}
	p.holds++
	p.until, p.reloads = l.clock.Now().Add(lastHold), nil
}

// reloaded counts a reload of w.
func (l *limits) reloaded(w reloader.Workload) {
	if l.reloads == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.paces[w]
	if p == nil {
		p = new(pace)
		l.paces[w] = p
	}
	p.reloads = append(p.reloads, l.clock.Now())
}

// expire forgets what is longer ago than the breaker looks back.
func (p *pace) expire(now time.Time) {
	for len(p.reloads) > 0 && now.Sub(p.reloads[0]) >= breakerPeriod {
		p.reloads = p.reloads[1:]
	}
	if len(p.reloads) == 0 && now.Sub(p.until) >= breakerPeriod {
		p.holds = 0
	}
}

func (p *pace) exhausted(most int) bool {
	if p.holds > 0 {
		return len(p.reloads) >= 1
	}
	return len(p.reloads) >= most
}

// sweep forgets the workloads that have been quiet.
func (l *limits) sweep() {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for w, p := range l.paces {
		if p.expire(now); len(p.reloads) == 0 && p.holds == 0 {
			delete(l.paces, w)
		}
	}
}
