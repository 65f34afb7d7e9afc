package engine

import (
	"context"
	"maps"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/report"
)

// attempts remember the reloads whose answer was lost. Each may have been
// carried out, and repeating it is not always nothing: if others have changed
// the template since, its marks are other ones. It is safe for concurrent use.
type attempts struct {
	mu   sync.Mutex // guards everything below
	last map[reloader.Workload]attempt
	// read are those that payInherited has compared.
	read map[reloader.Workload]struct{}
}

// attempt is one reload that was sent.
type attempt struct {
	reload report.Reload
	debts  []debt
	change kind.Change
}

func newAttempts() *attempts { return &attempts{last: map[reloader.Workload]attempt{}} }

// lost notes that nobody knows what came of an attempt.
func (a *attempts) lost(it attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last[it.reload.Workload] = it
}

// of returns the attempt at w whose answer was lost, if there is one.
func (a *attempts) of(w reloader.Workload) (attempt, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	it, ok := a.last[w]
	return it, ok
}

// compared reports whether w has been compared with what may have been done
// before this engine.
func (a *attempts) compared(w reloader.Workload) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.read[w]
	return ok
}

// compare notes that it has been.
func (a *attempts) compare(w reloader.Workload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	put(&a.read, w, struct{}{})
}

// all returns the workloads of which something is known.
func (a *attempts) all() []reloader.Workload {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.AppendSeq(slices.Collect(maps.Keys(a.last)), maps.Keys(a.read))
}

// over forgets w: what came of the attempt is known, or of no interest.
func (a *attempts) over(w reloader.Workload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.last, w)
	delete(a.read, w)
}

// followUp looks at a workload whose last reload was not answered. If its marks
// are there it has been carried out, and its debts are paid.
func (e *Engine) followUp(ctx context.Context, k kind.Kind, w reloader.Workload) error {
	it, ok := e.attempts.of(w)
	if !ok {
		return nil
	}
	if k.Way != kind.ByPatch || k.Reads(it.change) {
		// Those look for themselves before they write.
		e.attempts.over(w)
		return nil
	}
	m, err := e.client.workload(ctx, k, w)
	switch {
	case apierrors.IsNotFound(err):
		e.attempts.over(w)
		return nil
	case err != nil:
		return err
	}
	e.attempts.over(w)
	if m.Meta.UID != it.reload.UID || !it.change.MarkedIn(m.Template) {
		return nil
	}
	e.limits.reloaded(w)
	e.rivals.reloaded(it.reload, m.Meta.Generation, marked(it.change), e.intake.hashOf(m))
	e.ledger.paid(w, it.debts)
	e.reporter.Reloaded(it.reload)
	e.log.Info("reloaded, although the answer was lost", "workload", w.String(), "sources", sourceNames(it.debts), "generation", m.Meta.Generation)
	return nil
}
