package engine

import (
	"slices"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/fingerprint"
)

// archive keeps what has been rolled out, across restarts and leaders. Its
// methods do no I/O.
type archive interface {
	Lookup(s reloader.Source) (e checkpoint.Entry, ok bool)
	Set(s reloader.Source, e checkpoint.Entry)
	Delete(s reloader.Source)
}

// pastOf returns, once, what has to be looked back at of s. Until lookedBack the
// archive is not told that s is rolled out.
func (l *ledger) pastOf(s reloader.Source) past {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[s]
	if a == nil || a.past == none || a.past == lookingBack {
		return none
	}
	p := a.past
	a.past = lookingBack
	return p
}

// lookBackAgain notes that looking back at s, whose past is not known, has failed.
func (l *ledger) lookBackAgain(s reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil && a.past == lookingBack {
		a.past = unknown
	}
}

// lookedBack notes that s has been looked back at.
func (l *ledger) lookedBack(s reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil && a.past == lookingBack {
		a.past = none
		l.closeIfSettled(s, a)
	}
}

// has notes that w has started with the content of s that was found in that
// version. It reports whether that is still the present one.
func (l *ledger) has(s reloader.Source, w reloader.Workload, version uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, d := l.sources[s], l.workloads[w]
	if a == nil || d == nil || a.version != version {
		return false
	}
	settle(d, w, s, a)
	l.closeIfSettled(s, a)
	return true
}

// miss notes that w has started with something older than the present content
// of s. It reports whether that is due to it now.
func (l *ledger) miss(s reloader.Source, w reloader.Workload) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, d := l.sources[s], l.workloads[w]
	if a == nil || d == nil {
		return false
	}
	put(&a.applied, w, "")
	return want(d, w, s, a)
}

// inMotion stands in the archive in place of a version while some workloads
// have other content than the rest. Whoever finds it has everyone reloaded:
// who has the present content already takes no notice of that.
const inMotion = 0

// closeIfSettled moves the account on when nobody waits any more. l.mu is
// held.
func (l *ledger) closeIfSettled(s reloader.Source, a *account) {
	if len(a.waiting) > 0 {
		if l.archive != nil && a.saved.Fingerprint != "" && a.saved.Version != inMotion {
			a.saved.Version = inMotion
			l.archive.Set(s, a.saved)
		}
		return
	}
	a.rolledOut, a.applied, a.waiting = a.current, nil, nil
	if a.read {
		a.inherited = false
	}
	entry := checkpoint.Entry{Fingerprint: a.rolledOut, Version: a.version}
	if l.archive != nil && a.past == none && a.rolledOut != "" && a.version != 0 && entry != a.saved {
		l.archive.Set(s, entry)
		a.saved = entry
	}
}

// open makes the ledger go on where the archive ends: what has not changed
// since need not be read, and what has is due to everyone. What the archive
// does not tell of is read for the first time; if the archive is not fresh,
// the first look at it is also one into the past.
func (l *ledger) open(from archive, fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.archive = from
	for s, a := range l.sources {
		entry, ok := from.Lookup(s)
		if !ok || a.current != "" {
			if !ok && !fresh && !a.read {
				a.past, a.inherited = unknown, true
			}
			continue
		}
		a.restore(entry)
		if a.heard != entry.Version || entry.Version == inMotion || len(a.newcomers) > 0 {
			a.dirty, a.past = true, archived
			continue
		}
		l.lookedAt(s, a)
		a.absent, a.dirty, a.inherited = false, false, false
		a.version, a.written = entry.Version, moment{version: entry.Version}
	}
}

// restore goes on from an entry of the archive.
func (a *account) restore(entry checkpoint.Entry) {
	a.saved, a.inherited = entry, true
	a.current, a.rolledOut = entry.Fingerprint, entry.Fingerprint
	if entry.Version == inMotion {
		a.current, a.rolledOut = mixed, mixed
	}
}

// inherited reports whether one of the debts may have been paid by an engine
// before this one.
func (l *ledger) inherited(debts []debt) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(debts, func(d debt) bool {
		a := l.sources[d.source]
		return a != nil && a.inherited
	})
}

// remember makes a new account go on where the archive ends, if it still tells
// of s: a source whose namespace was not selected, or that was not there at the
// start and that only a pattern had brought in. l.mu is held.
func (l *ledger) remember(s reloader.Source, a *account) {
	if l.archive == nil {
		return
	}
	if entry, ok := l.archive.Lookup(s); ok {
		a.restore(entry)
	}
}

// mixed is in place of a fingerprint that not everyone has; no content has it.
const mixed fingerprint.Fingerprint = "mixed"
