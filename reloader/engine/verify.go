package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// verifyRegularly compares the index with the workloads themselves from time
// to time, unless that is switched off, and sweeps, at moments that two engines
// do not share.
func (e *Engine) verifyRegularly(ctx context.Context) {
	interval := e.verifyInterval
	if interval < 0 {
		interval = defaultVerifyInterval
	}
	const spread = 0.4
	for {
		timer := e.clock.NewTimer(wait.Jitter(time.Duration(float64(interval)*(1-spread/2)), spread))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
		if e.verifyInterval > 0 {
			if err := e.Verify(ctx); err != nil && ctx.Err() == nil {
				e.log.Error(err, "could not verify the index; the next pass will")
			}
		}
		if err := guarded(func() error { e.sweep(ctx); return nil }); err != nil {
			e.survived("sweep", err)
		}
	}
}

// sweepInterval is the time between two passes that forget what objects have left
// behind that are gone. It is as long as the longest of that is kept.
const sweepInterval = breakerPeriod

// forgetRegularly forgets what objects have left behind that are gone, until ctx is
// done: a tenant can create and delete them under ever new names.
func (e *Engine) forgetRegularly(ctx context.Context) {
	ticker := e.clock.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		e.limits.sweep()
		e.queues.sweep()
		if !e.standsBy() {
			continue // verifyRegularly does the rest
		}
		if err := guarded(func() error { e.sweepKnown(); return nil }); err != nil {
			e.survived("sweep", err)
		}
	}
}

// sweep forgets what is of no use any more and of which no event tells.
func (e *Engine) sweep(ctx context.Context) {
	e.sweepKnown()
	e.births.forget()
	e.tidy(ctx)
}

// sweepKnown is sweep for what an engine knows that stands by, too.
func (e *Engine) sweepKnown() {
	e.ledger.sweep(e.index.Depended)
	e.matching.sweep()
	e.backlog.sweep()
	e.forgetLate()
}

// forgetLate forgets workloads that are gone once more: a worker that had one in
// hand when that became known may have noted something of it since.
func (e *Engine) forgetLate() {
	for _, w := range slices.Concat(e.rivals.all(), e.attempts.all(), e.lenders.all()) {
		if !e.intake.knows(w) {
			e.rivals.gone(w)
			e.attempts.over(w)
			e.lenders.borrow(w, reloader.Workload{})
		}
	}
}

// knows reports whether w is there, as far as events have told.
func (in *intake) knows(w reloader.Workload) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.workloads[w] != nil
}

// Verify reads all workloads, one at a time, and corrects and reports what
// the index has wrong: a record that fits and yet says something else, or a
// webhook that changed the template after ours.
func (e *Engine) Verify(ctx context.Context) error {
	var failed error
	for _, k := range e.kinds() {
		for _, in := range e.verified() {
			var borrowers []reloader.Workload
			err := guarded(func() error {
				return e.client.workloads(ctx, k, in, func(m *kind.Manifest) {
					if m.Lender != (reloader.Workload{}) {
						// The lender has to be read as well, not during a list.
						borrowers = append(borrowers, m.Workload())
						return
					}
					e.verifyOne(ctx, m)
				})
			})
			for _, w := range borrowers {
				m, err := e.client.workload(ctx, k, w)
				switch {
				case err == nil:
					e.verifyOne(ctx, m)
				case !apierrors.IsNotFound(err):
					e.log.Error(err, "cannot verify", "workload", w.String())
				}
			}
			if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
				continue // its feed tells, if there is something to tell
			}
			// What cannot be listed keeps nothing else from being verified.
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// verifyOne compares the index with a workload. What cannot be compared is left to
// the next pass, and to an event before it if there is need.
func (e *Engine) verifyOne(ctx context.Context, m *kind.Manifest) {
	w := m.Workload()
	err := guarded(func() error {
		read, err := e.complete(ctx, m)
		if err != nil {
			return err
		}
		if _, changed := e.lenders.newer(w, read); changed {
			return nil // its event has had w read again
		}
		if e.intake.verify(m) {
			e.reporter.Corrected(w)
			e.log.Info("corrected the index", "workload", w.String())
		}
		return nil
	})
	switch {
	case panicked(err):
		e.survived(w.String(), err)
		e.workloadBroke(w, nil)
	case err != nil:
		e.log.Error(err, "cannot verify", "workload", w.String())
	}
}

// verified returns the areas of a verifying pass: what is in the index lies
// within.
func (e *Engine) verified() []area {
	if e.scope.NamespaceSelector == nil {
		return areas(e.scope)
	}
	var all []area
	for _, name := range e.intake.selected() {
		all = append(all, area{namespace: name})
	}
	return all
}
