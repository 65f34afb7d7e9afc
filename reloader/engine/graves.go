package engine

import (
	"slices"

	"k8s-reloader/reloader"
)

// maxGraves is how many sources of one kind in one namespace are remembered that
// are gone and that only patterns match. Whoever creates and deletes sources under
// ever new names would fill the memory otherwise.
const maxGraves = 1_000

// graves are sources that were found to be gone, in that order.
type graves struct {
	order []reloader.Source
	known map[reloader.Source]struct{}
}

// isGone reports whether the source of the account is gone, by its last event, and no
// look at it is pending that could show a change: its content was never known, or the
// last look has not found it.
func (a *account) isGone() bool {
	return a.heard == 0 && (a.current == "" || a.absent && !a.dirty)
}

// bury notes that s is gone. What it held is remembered, so that other content under
// the same name is a change, but only of the latest maxGraves on its shelf; those for
// which named says yes count as many as the workloads that name them, and stay.
func (l *ledger) bury(s reloader.Source, named func(reloader.Source) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a == nil || !a.isGone() || named(s) {
		return
	}
	on := shelfOf(s)
	g := l.graves[on]
	if g == nil {
		g = &graves{known: map[reloader.Source]struct{}{}}
		put(&l.graves, on, g)
	}
	if _, known := g.known[s]; known {
		return
	}
	g.known[s] = struct{}{}
	if g.order = append(g.order, s); len(g.order) <= maxGraves {
		return
	}
	oldest := g.order[0]
	g.order = g.order[1:]
	delete(g.known, oldest)
	if a := l.sources[oldest]; a != nil && a.isGone() && !named(oldest) {
		l.forget(oldest, a)
	}
}

// passOver reports whether s is among the sources that are gone, or was forgotten as
// one of them. Then nobody waits for a look at it any more.
func (l *ledger) passOver(s reloader.Source) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[s]
	if a == nil {
		return true
	}
	if g := l.graves[shelfOf(s)]; g == nil || !a.isGone() {
		return false
	} else if _, known := g.known[s]; !known {
		return false
	}
	l.lookedAt(s, a)
	a.absent, a.newcomers = true, nil
	return true
}

// exhume forgets that s is gone. l.mu is held.
func (l *ledger) exhume(s reloader.Source) {
	on := shelfOf(s)
	g := l.graves[on]
	if g == nil {
		return
	}
	if _, known := g.known[s]; known {
		delete(g.known, s)
		i := slices.Index(g.order, s)
		g.order = slices.Delete(g.order, i, i+1)
	}
	if len(g.known) == 0 {
		delete(l.graves, on)
	}
}
