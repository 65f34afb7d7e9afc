package engine

import (
	"context"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

const (
	// rolloutPoll is the time between two looks at the workloads that roll.
	rolloutPoll = time.Second
	// rolloutPatience is how long a rollout counts that does not end.
	rolloutPatience = 10 * time.Minute
)

// rollouts limit how many workloads roll at the same time, by their status. A
// limit of 0 is none. It is safe for concurrent use.
//
// No namespace has more than its share. Who was refused waits in the line of its
// namespace and asks again; the lines take turns.
type rollouts struct {
	most, share int
	clock       clock.PassiveClock

	mu      sync.Mutex // guards everything below
	rolling map[reloader.Workload]rolling
	// of counts those that roll by namespace.
	of    map[string]int
	lines lines
}

// rolling is a workload that counts.
type rolling struct {
	since time.Time
	// before is since when it has rolled when its present reload began; zero if
	// it did not roll.
	before time.Time
	// sending is true until that reload is made: its status tells nothing of it.
	sending bool
}

// newRollouts returns a limit of so many rollouts. Where several namespaces are
// watched, none has more than half of them, rounded up.
func newRollouts(most int, several bool, c clock.PassiveClock) *rollouts {
	share := most
	if several {
		share = (most + 1) / 2
	}
	return &rollouts{
		most: most, share: share, clock: c,
		rolling: map[reloader.Workload]rolling{}, of: map[string]int{}, lines: newLines(),
	}
}

// begin reports whether w may be rolled now, and counts it if so. One that
// rolls already may be rolled again. began or notBegun follows. One that may not
// keeps its place in the line for as long as it asks about once per rolloutPoll.
func (r *rollouts) begin(w reloader.Workload) bool {
	if r.most == 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	last, rolls := r.rolling[w]
	if !rolls {
		r.lines.join(w, now)
		room := func(namespace string) int { return r.share - r.of[namespace] }
		if !r.lines.call(w, now, r.most-len(r.rolling), room) {
			return false
		}
		r.of[w.Namespace]++
	}
	r.rolling[w] = rolling{since: now, before: last.since, sending: true}
	return true
}

// drop takes w out of the count. r.mu is held.
func (r *rollouts) drop(w reloader.Workload) {
	if _, rolls := r.rolling[w]; !rolls {
		return
	}
	delete(r.rolling, w)
	if r.of[w.Namespace]--; r.of[w.Namespace] == 0 {
		delete(r.of, w.Namespace)
	}
}

// began notes that the reload of w has been made, or may have been.
func (r *rollouts) began(w reloader.Workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, rolls := r.rolling[w]; rolls {
		r.rolling[w] = rolling{since: last.since}
	}
}

// notBegun notes that it has not: w counts as it did before.
func (r *rollouts) notBegun(w reloader.Workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.rolling[w]; last.before.IsZero() {
		r.drop(w)
	} else {
		r.rolling[w] = rolling{since: last.before}
	}
}

// ended notes that w, which has rolled since then, does not any more.
func (r *rollouts) ended(w reloader.Workload, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.rolling[w]; !last.sending && last.since.Equal(since) {
		r.drop(w)
	}
}

// sweep forgets those that wait and have stopped asking.
func (r *rollouts) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines.sweep(r.clock.Now())
}

// all returns the workloads whose status tells whether they roll, and since when
// they do.
func (r *rollouts) all() map[reloader.Workload]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[reloader.Workload]time.Time, len(r.rolling))
	for w, last := range r.rolling {
		if !last.sending {
			all[w] = last.since
		}
	}
	return all
}

// watchRollouts looks at the workloads that roll until ctx is done.
func (e *Engine) watchRollouts(ctx context.Context) {
	if e.rollouts.most == 0 {
		return
	}
	ticker := e.clock.NewTicker(rolloutPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		for w, since := range e.rollouts.all() {
			err := guarded(func() error {
				if e.clock.Since(since) > rolloutPatience || e.hasRolled(ctx, w) {
					e.rollouts.ended(w, since)
				}
				return nil
			})
			if err != nil {
				// It counts as rolling until its time is over.
				e.survived(w.String(), err)
			}
		}
		e.rollouts.sweep()
	}
}

func (e *Engine) hasRolled(ctx context.Context, w reloader.Workload) bool {
	k, ok := e.known.ByName(w.Kind)
	if !ok {
		return true
	}
	m, err := e.client.workload(ctx, k, w)
	switch {
	case err != nil:
		// One that cannot be read is looked at again.
		return apierrors.IsNotFound(err)
	case m.Progress == kind.Rolling:
		return false
	case m.Progress == kind.Idle, m.LenderObserved == "":
		return true
	}
	return e.followsLender(ctx, m)
}

// followsLender reports whether the controller of m has acted on the template that
// m borrows: a change of that is no new generation of m.
func (e *Engine) followsLender(ctx context.Context, m *kind.Manifest) bool {
	k, ok := e.known.ByName(m.Lender.Kind)
	if !ok {
		return true
	}
	lender, err := e.client.workload(ctx, k, m.Lender)
	if err != nil {
		return apierrors.IsNotFound(err)
	}
	return m.LenderObserved == strconv.FormatInt(lender.Meta.Generation, 10)
}
