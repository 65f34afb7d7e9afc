package engine

import (
	"maps"
	"time"

	"k8s-reloader/reloader"
)

// A start waits for the workloads and sources that were there when it began. What
// is written by strangers must not keep it from ending: who comes later is not
// waited for, and a key that keeps failing is reported and left to its queue.

const (
	// startAttempts of a key have to fail before a start goes on without it.
	startAttempts = 3
	// startPatience is how long it has to fail at least.
	startPatience = 5 * time.Second
	// startOutage is that for failures that have nothing to do with the key.
	startOutage = time.Minute
	// startList is how long a start waits for a list, if others were answered.
	startList = time.Minute
)

// hopeless reports whether a start goes on without the key.
func (b *backoff[K]) hopeless(key K) bool {
	if b.failing.Load() == 0 {
		return false
	}
	now := b.clock.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.setbacks[key]
	if s == nil {
		return false
	}
	failing := now.Sub(s.began)
	return s.own >= startAttempts && failing >= startPatience || s.failures >= startAttempts && failing >= startOutage
}

// leaveBehind has the start go on without the workloads that are not resolved yet.
// Once they are, what has changed since that moment is due to them.
func (e *Engine) leaveBehind() {
	at := moment{version: 1}
	for _, f := range e.workloads {
		at.version = max(at.version, f.listedAt.Load())
	}
	if left := e.intake.setLate(at); len(left) > 0 {
		e.log.Info("cannot be read; the start goes on without, and they are tried again slowly", "workloads", len(left), "first", left[0].String())
	}
}

// setLate notes that the start did not wait for the workloads that have been there
// before it and are not resolved, and returns them.
func (in *intake) setLate(at moment) (left []reloader.Workload) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for w, t := range in.workloads {
		if !t.resolved && t.since == (moment{}) {
			t.late = at
			left = append(left, w)
		}
	}
	return left
}

// late notes that w comes in late, for a workload that was there before the start:
// what has changed since that moment is due to it.
func (l *ledger) late(w reloader.Workload, at moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.workloads[w]; d != nil {
		d.late = at
	}
}

// overdue notes what is due of s to w, which comes in late. It reports whether that
// is all there is to note. l.mu is held.
func (l *ledger) overdue(w reloader.Workload, d *dependent, s reloader.Source, a *account) (noted bool) {
	switch {
	case a.read && a.turned:
		put(&a.applied, w, "")
		want(d, w, s, a)
		l.closeIfSettled(s, a)
		return true
	case !a.read && a.current == "" && s.Kind != reloader.SecretProviderClass:
		put(&a.newcomers, w, d.late)
	}
	return false
}

// firstLook is what a start waits for: a source, or the search of a shelf for those
// who need it.
type firstLook struct {
	source    reloader.Source
	searchers map[reloader.Workload]moment
}

// firstLooks returns a function that reports whether all sources have been read
// that wait for it now, but for those that keep failing.
func (e *Engine) firstLooks() func() bool {
	waiting := e.ledger.firstLooks()
	return func() bool {
		if e.ledger.allReadBut(e.late) {
			return true
		}
		for len(waiting) > 0 {
			next := waiting[0]
			// A namespace over its budget of matching, or with too much due, is read later,
			// in its own queue.
			if e.ledger.waits(next) && !e.late(next.source.Namespace) {
				on := reloader.Source{Kind: next.source.Kind, Namespace: next.source.Namespace}
				if !e.queues.sources.backoff.hopeless(next.source) && !e.queues.sources.backoff.hopeless(on) {
					return false
				}
				e.log.Info("cannot be read; the start goes on without it, and it is tried again slowly", "source", next.source.String())
			}
			waiting = waiting[1:]
		}
		return true
	}
}

// firstLooks returns what has yet to be looked at.
func (l *ledger) firstLooks() (all []firstLook) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, a := range l.sources {
		if !a.read {
			all = append(all, firstLook{source: s})
		}
	}
	for on, of := range l.searchers {
		all = append(all, firstLook{reloader.Source{Kind: on.kind, Namespace: on.namespace}, maps.Clone(of)})
	}
	return all
}

// waits reports whether something has yet to be looked at.
func (l *ledger) waits(look firstLook) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if look.source.Name != "" {
		a := l.sources[look.source]
		return a != nil && !a.read
	}
	now := l.searchers[shelfOf(look.source)]
	for w, since := range look.searchers {
		if at, still := now[w]; still && at == since {
			return true
		}
	}
	return false
}

// goOn ends the start: it has not waited for sources that keep failing, or whose
// patterns have yet to be tried.
func (e *Engine) goOn() {
	for _, class := range e.ledger.leaveBehind() {
		// What pods have of a class is in memory, whoever depends on it.
		e.ledger.look(class, e.rotations.content(class), func() []reloader.Workload { return nil })
	}
}

// leaveBehind notes that a start goes on without the sources that have not been
// looked at: what is written to them from now on is a change for those who depend
// on them, although nobody knows what was there before. It returns those that are
// classes, which have no versions to go by.
func (l *ledger) leaveBehind() (classes []reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, a := range l.sources {
		switch {
		case a.read || a.current != "":
		case s.Kind == reloader.SecretProviderClass:
			classes = append(classes, s)
		default:
			a.behind = a.heard
		}
	}
	return classes
}
