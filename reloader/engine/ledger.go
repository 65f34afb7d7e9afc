package engine

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s-reloader/reloader"
)

// ledger keeps which content of which source has reached which workload. Per
// source that something depends on it holds one fingerprint that has been
// rolled out to all workloads, and only while a change is on its way what
// differs from that. It does no I/O and is safe for concurrent use.
//
// Locks are taken in this order: intake, ledger, index. Regular expressions of
// workloads run under none of them, and on no goroutine of a watch: see matches.
type ledger struct {
	lifecycle lifecycle

	mu sync.Mutex // guards everything below
	// sources that something depends on.
	sources map[reloader.Source]*account
	// workloads in the index, and which of their sources wait for a reload.
	workloads map[reloader.Workload]*dependent
	// anyFresh is true if one of them has a moment in fresh.
	anyFresh bool
	// unread counts the sources that have yet to be read, where there are any.
	unread map[shelf]int
	// archive is where settled accounts are kept; nil before open, and for an
	// engine that keeps none.
	archive archive
	// searchers have name patterns, and have brought them in at that moment:
	// the shelf has to be searched for what they match.
	searchers map[shelf]map[reloader.Workload]moment
	// selected are the namespaces in which sources have accounts, and whether
	// they have been selected since the start; nil is all of them.
	selected map[string]bool
	// graves are sources that are gone and that no workload names.
	graves map[shelf]*graves
	// named reports whether a workload that is kept in full depends on exactly that
	// source; nil says so of all that have dependents.
	named func(reloader.Source) bool
}

func newLedger() *ledger {
	return &ledger{
		sources:   map[reloader.Source]*account{},
		workloads: map[reloader.Workload]*dependent{},
		unread:    map[shelf]int{},
		searchers: map[shelf]map[reloader.Workload]moment{},
	}
}

// enter notes that w is in the index. Until it leaves, its sources count.
func (l *ledger) enter(w reloader.Workload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.workloads[w] == nil {
		l.workloads[w] = new(dependent)
	}
}

// join notes that w depends on the gained sources since that moment, or, with
// the zero moment, since before the engine looked. It returns those that have
// to be read: for the first time, or because they have been written since.
func (l *ledger) join(w reloader.Workload, since moment, gained ...reloader.Source) (toRead []reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.workloads[w]
	if d == nil {
		return nil
	}
	for _, s := range gained {
		if _, waits := d.pending[s]; waits {
			continue
		}
		a := l.account(s)
		a.dirty = a.dirty || !a.read
		l.lookBackAt(s, a, since)
		if since == (moment{}) && d.late != (moment{}) && l.overdue(w, d, s, a) {
			continue
		}
		// Pods report themselves what they have mounted of a class.
		late := since != (moment{}) && s.Kind != reloader.SecretProviderClass && (!a.read || a.turnedAfter(since))
		if late {
			put(&a.newcomers, w, since)
			a.dirty = true
		}
		if late || !a.read {
			toRead = append(toRead, s)
			continue
		}
		settle(d, w, s, a)
		l.closeIfSettled(s, a)
	}
	return toRead
}

// created notes that s has just come into being. A source that nobody has
// waited for gets an account.
func (l *ledger) created(s reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.createdLocked(s)
}

// createdLocked is created. l.mu is held.
func (l *ledger) createdLocked(s reloader.Source) {
	if l.sources[s] == nil && l.selects(s.Namespace) {
		// Which version that is comes with its event.
		a := &account{read: true, absent: true, heard: someVersion}
		l.remember(s, a)
		l.sources[s] = a
	}
}

// news reports whether s has to be read, given an event of that version; an
// event that carries none, such as a deletion, has version 0.
func (l *ledger) news(s reloader.Source, version uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(s)
	a.heard = version
	a.dirty = a.dirty || !a.read || version == 0 || a.absent || version > a.version
	return a.dirty
}

// relisted is news for what a list has brought after events were missed. A
// version that is older than one that was read is no mistake then: the API
// server may have got its data back from a backup.
func (l *ledger) relisted(s reloader.Source, version uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.sources[s]; !known && l.named != nil && l.searchers[shelfOf(s)] == nil && s.Kind != reloader.SecretProviderClass {
		// Everything that was there has an account: it has come meanwhile.
		l.createdLocked(s)
	}
	a := l.account(s)
	a.heard = version
	a.dirty = a.dirty || !a.read || a.absent || version != a.version
	if version < a.floor() {
		a.version, a.gone = 0, moment{}
		l.forgetFresh()
	}
	return a.dirty
}

// forgetFresh forgets when pods were started: versions have gone back, so what
// is written from now on may have older ones. l.mu is held.
func (l *ledger) forgetFresh() {
	if !l.anyFresh {
		return
	}
	l.anyFresh = false
	for _, d := range l.workloads {
		d.fresh = moment{}
	}
}

// take reports whether s still has to be read, which is up to the caller then,
// and whether that is for the first time.
func (l *ledger) take(s reloader.Source) (due, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[s]
	if a == nil || !a.dirty {
		return false, false
	}
	a.dirty = false
	return true, !a.read
}

// putBack notes that reading what was taken has failed.
func (l *ledger) putBack(sources ...reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sources {
		if a := l.sources[s]; a != nil {
			a.dirty = true
		}
	}
}

// How long a look waits for the event of what it has found, at first and in all:
// the watch may be behind, and may not tell of it at all.
const (
	firstAwait = 10 * time.Millisecond
	mostAwaits = 8
)

// early returns how long a look at s has to wait that has found this version: no
// event has told of it yet, and somebody has brought the source in before it. It
// is 0 after some time, whatever has been heard.
func (l *ledger) early(s reloader.Source, version uint64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[s]
	if a == nil || version <= a.heard || a.awaited >= mostAwaits {
		return 0
	}
	for _, since := range a.newcomers {
		if version > since.version {
			a.awaited++
			return firstAwait << (a.awaited - 1)
		}
	}
	return 0
}

// look notes what has been read of s, and returns the workloads that do not
// have it, of those that depend on s at that moment: dependents is called
// under the ledger's lock, so that nobody can join in between. A reading that
// is older than another one counts for nothing and has to be repeated.
func (l *ledger) look(s reloader.Source, c content, dependents func() []reloader.Workload) (overdue []reloader.Workload, outdated bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[s]
	if a == nil {
		return nil, false
	}
	if !c.absent && c.version < a.floor() {
		return nil, true
	}
	first, wasAbsent, newcomers, behind := !a.read, a.absent, a.newcomers, a.leftBehind()
	l.lookedAt(s, a)
	a.absent, a.newcomers, a.awaited, a.behind = c.absent, nil, 0, 0
	a.unselected = a.unselected && c.absent
	c, counts := l.counted(s, a, c)
	if !counts {
		return nil, false
	}
	a.version, a.wishes = c.version, c.wishes
	changed := a.broken
	if a.written == (moment{}) {
		a.written = c.written
	}
	if a.current != c.fingerprint {
		// What was created and edited before we looked may have reached pods
		// that waited for it in between. Other first sights are adopted.
		changed = changed || a.current != "" || !first && wasAbsent && !c.untouched
		a.current, a.written = c.fingerprint, c.written
	}
	a.turn(changed)
	if changed || len(newcomers) > 0 || behind > 0 {
		for _, w := range dependents() {
			since, isNew := broughtIn(w, newcomers, behind)
			if isNew {
				put(&a.applied, w, a.had(since, c.untouched))
			}
			if (changed || isNew) && l.wantsLocked(w, s, a) {
				overdue = append(overdue, w)
			}
		}
	}
	a.broken = false
	l.closeIfSettled(s, a)
	return overdue, false
}

// broughtIn returns since when what has been written to a source is a change for w
// at the first look: since w has brought it in, or the start has gone on without it.
// It reports false if what is found counts as what w has.
func broughtIn(w reloader.Workload, newcomers map[reloader.Workload]moment, behind uint64) (since moment, isNew bool) {
	if since, isNew = newcomers[w]; isNew || behind == 0 {
		return since, isNew
	}
	return moment{version: behind}, true
}

// wantsLocked reports whether w waits for s now. l.mu is held.
func (l *ledger) wantsLocked(w reloader.Workload, s reloader.Source, a *account) bool {
	d := l.workloads[w]
	return d != nil && want(d, w, s, a)
}

// due returns what w has yet to get, in a fixed order.
func (l *ledger) due(w reloader.Workload) []debt {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.workloads[w]
	if d == nil {
		return nil
	}
	var debts []debt
	for s := range d.pending {
		debts = append(debts, debt{s, l.sources[s].current})
	}
	slices.SortFunc(debts, func(a, b debt) int {
		return cmp.Compare(a.source.String(), b.source.String())
	})
	return debts
}

// paid notes that w has got the debts. It reports whether more has come up
// meanwhile.
func (l *ledger) paid(w reloader.Workload, debts []debt) (more bool) {
	return l.got(w, debts, true)
}

// doubt notes that w may have got the debts, or not: whatever comes next is
// due to it, even what it had before.
func (l *ledger) doubt(w reloader.Workload, debts []debt) {
	l.got(w, debts, false)
}

func (l *ledger) got(w reloader.Workload, debts []debt, certain bool) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.workloads[w]
	if d == nil {
		return false
	}
	for _, b := range debts {
		a := l.sources[b.source]
		if a == nil || !a.read { // forgotten since, and maybe joined anew
			continue
		}
		have := b.fingerprint
		if !certain {
			have = ""
		}
		put(&a.applied, w, have)
		want(d, w, b.source, a)
		l.closeIfSettled(b.source, a)
	}
	return len(d.pending) > 0
}

// refresh notes that others have changed w's template at that moment, so that
// its pods start with everything that was written before.
func (l *ledger) refresh(w reloader.Workload, at moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.workloads[w]
	if d == nil || at.version <= d.fresh.version {
		return
	}
	d.fresh, l.anyFresh = at, true
	for s := range maps.Clone(d.pending) {
		if a := l.sources[s]; !a.written.after(at) {
			settle(d, w, s, a)
			l.closeIfSettled(s, a)
		}
	}
}

// dispensable reports whether the account of s is of no use: nobody depends on s,
// or it was never there, so that an account which its creation makes is as good,
// and those who may depend on it do not by its name. l.mu is held.
func (l *ledger) dispensable(s reloader.Source, a *account, depended func(reloader.Source) bool) bool {
	if !depended(s) {
		return true
	}
	blank := a.read && a.absent && a.current == "" && a.past == none && !a.dirty && !a.broken && len(a.newcomers) == 0
	return blank && l.named != nil && !l.named(s)
}

// abandon forgets s if its account is dispensable.
func (l *ledger) abandon(s reloader.Source, depended func(reloader.Source) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil && l.dispensable(s, a, depended) {
		l.forget(s, a)
	}
}

// part notes that w does not depend on the lost sources any more. Those for
// which depended says no are forgotten.
func (l *ledger) part(w reloader.Workload, lost []reloader.Source, depended func(reloader.Source) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range lost {
		l.partFrom(w, s)
		if a := l.sources[s]; a != nil && l.dispensable(s, a, depended) {
			l.forget(s, a)
		}
	}
}

// strangers returns those of the sources that have no account.
func (l *ledger) strangers(sources []reloader.Source) (without []reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sources {
		if l.sources[s] == nil {
			without = append(without, s)
		}
	}
	return without
}

// leave forgets w, as part does with all its sources.
func (l *ledger) leave(w reloader.Workload, lost []reloader.Source, depended func(reloader.Source) bool) {
	l.part(w, lost, depended)
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.workloads[w]; d != nil {
		for s := range maps.Clone(d.pending) {
			l.partFrom(w, s)
		}
		delete(l.workloads, w)
	}
	for _, k := range reloader.SourceKinds() {
		l.searchedFor(w, shelf{k, w.Namespace})
	}
}

// exists reports whether s was there at the last look.
func (l *ledger) exists(s reloader.Source) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[s]
	return a != nil && a.read && !a.absent
}

// sweep forgets the sources for which depended says no: those that only a
// name pattern had brought in.
func (l *ledger) sweep(depended func(reloader.Source) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, a := range l.sources {
		if l.dispensable(s, a, depended) {
			l.forget(s, a)
		}
	}
}

// partFrom takes w out of the account of s. l.mu is held.
func (l *ledger) partFrom(w reloader.Workload, s reloader.Source) {
	if d := l.workloads[w]; d != nil {
		delete(d.pending, s)
	}
	if a := l.sources[s]; a != nil {
		delete(a.newcomers, w)
		delete(a.applied, w)
		delete(a.waiting, w)
		l.closeIfSettled(s, a)
	}
}

// forget drops an account. l.mu is held.
func (l *ledger) forget(s reloader.Source, a *account) {
	for w := range a.waiting {
		delete(l.workloads[w].pending, s)
	}
	l.lookedAt(s, a)
	if l.archive != nil {
		l.archive.Delete(s)
	}
	delete(l.sources, s)
	l.exhume(s)
}
