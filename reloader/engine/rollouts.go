package engine

import (
	"context"
	"maps"
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
type rollouts struct {
	most  int
	clock clock.PassiveClock

	mu      sync.Mutex // guards everything below
	rolling map[reloader.Workload]time.Time
}

func newRollouts(most int, c clock.PassiveClock) *rollouts {
	return &rollouts{most: most, clock: c, rolling: map[reloader.Workload]time.Time{}}
}

// begin reports whether w may be rolled now, and counts it if so. One that
// rolls already may be rolled again.
func (r *rollouts) begin(w reloader.Workload) bool {
	if r.most == 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, rolls := r.rolling[w]; !rolls && len(r.rolling) >= r.most {
		return false
	}
	r.rolling[w] = r.clock.Now()
	return true
}

// end notes that w does not roll any more.
func (r *rollouts) end(w reloader.Workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rolling, w)
}

// all returns the workloads that roll, and since when.
func (r *rollouts) all() map[reloader.Workload]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.rolling)
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
			if e.clock.Since(since) > rolloutPatience || e.hasRolled(ctx, w) {
				e.rollouts.end(w)
			}
		}
	}
}

func (e *Engine) hasRolled(ctx context.Context, w reloader.Workload) bool {
	k, ok := kind.ByName(w.Kind)
	if !ok {
		return true
	}
	m, err := e.client.workload(ctx, k, w)
	if err != nil {
		// One that cannot be read is looked at again.
		return apierrors.IsNotFound(err)
	}
	return !m.Rolling
}
