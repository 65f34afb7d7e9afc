package engine

import (
	"context"
	"maps"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// lenders are the Deployments whose pod templates Rollouts borrow: what changes
// there changes what the Rollouts reference. It is safe for concurrent use.
type lenders struct {
	mu sync.Mutex // guards everything below
	// lent is what is known of each lender, of tells where who borrows.
	lent map[reloader.Workload]*lent
	of   map[reloader.Workload]reloader.Workload
}

// lent is a template that somebody borrows.
type lent struct {
	// newest is the last edition of which an event has told; told counts them.
	newest    edition
	told      int
	borrowers map[reloader.Workload]struct{}
}

// loan is what was read of a lender, after events had told of so many editions.
type loan struct {
	edition
	told int
}

// edition is one state of a template, as far as it matters: the generation
// moves with it. The zero edition is that of a lender that is not there.
type edition struct {
	uid        types.UID
	generation int64
	// at is a moment at which it was like this, as far as an event has told.
	at moment
}

func editionOf(meta metav1.Object, at moment) edition {
	return edition{meta.GetUID(), meta.GetGeneration(), at}
}

func (e edition) same(other edition) bool {
	return e.uid == other.uid && e.generation == other.generation
}

func newLenders() *lenders {
	return &lenders{lent: map[reloader.Workload]*lent{}, of: map[reloader.Workload]reloader.Workload{}}
}

// borrow notes whose template w uses, before that is read; the lender of one
// that has a template of its own is the zero Workload. It returns of how many
// editions of that lender events have told.
func (l *lenders) borrow(w, lender reloader.Workload) (told int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, ok := l.of[w]; ok && before != lender {
		delete(l.of, w)
		if delete(l.lent[before].borrowers, w); len(l.lent[before].borrowers) == 0 {
			delete(l.lent, before)
		}
	}
	if lender == (reloader.Workload{}) {
		return 0
	}
	l.of[w] = lender
	if l.lent[lender] == nil {
		l.lent[lender] = &lent{borrowers: map[reloader.Workload]struct{}{}}
	}
	l.lent[lender].borrowers[w] = struct{}{}
	return l.lent[lender].told
}

// all returns the workloads that borrow.
func (l *lenders) all() []reloader.Workload {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.of))
}

// serve reports whether w is known to borrow.
func (l *lenders) serve(w reloader.Workload) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.of[w]
	return ok
}

// seen notes of what edition an event has told, and returns who has to look at
// it.
func (l *lenders) seen(lender reloader.Workload, now edition) []reloader.Workload {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.lent[lender]
	if of == nil || of.told > 0 && of.newest.same(now) {
		return nil
	}
	of.newest, of.told = now, of.told+1
	borrowers := make([]reloader.Workload, 0, len(of.borrowers))
	for w := range of.borrowers {
		borrowers = append(borrowers, w)
	}
	return borrowers
}

// newer returns the moment of another edition, if events have told of one since
// before w has read this one; false if they have not.
func (l *lenders) newer(w reloader.Workload, read loan) (moment, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.lent[l.of[w]]
	if of == nil || of.told == read.told || of.newest.same(read.edition) {
		return moment{}, false
	}
	return of.newest.at, true
}

// complete reads the template that m borrows. One whose lender is not there, or
// is none that is known, has an empty template.
func (e *Engine) complete(ctx context.Context, m *kind.Manifest) (loan, error) {
	read := loan{told: e.lenders.borrow(m.Workload(), m.Lender)}
	k, ok := e.known.ByName(m.Lender.Kind)
	if !m.Borrows || !ok {
		return read, nil
	}
	lender, err := e.client.workload(ctx, k, m.Lender)
	switch {
	case apierrors.IsNotFound(err):
		return read, nil
	case err != nil:
		return loan{}, err
	}
	m.Template, m.Raw = lender.Template, lender.Raw
	read.edition = editionOf(lender.Meta, moment{})
	return read, nil
}

// lenderSeen has those resolved again who borrow the template of w.
func (e *Engine) lenderSeen(w reloader.Workload, meta metav1.Object, at moment) {
	at.version = max(at.version, versionOf(meta.GetResourceVersion()))
	for _, borrower := range e.lenders.seen(w, editionOf(meta, at)) {
		e.intake.again(borrower, at)
	}
}

// lenderGone does so when w is gone since that moment; it may be a borrower, too.
func (e *Engine) lenderGone(w reloader.Workload, at moment) {
	e.lenders.borrow(w, reloader.Workload{})
	for _, borrower := range e.lenders.seen(w, edition{at: at}) {
		e.intake.again(borrower, at)
	}
}

// again has w read again, because something that it references by way of
// another workload has changed at that moment.
func (in *intake) again(w reloader.Workload, since moment) {
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	if t == nil {
		return
	}
	if t.resolved {
		t.resolved, t.since = false, since
		in.unresolved++
	}
	in.queues.resolve.Add(w)
}
