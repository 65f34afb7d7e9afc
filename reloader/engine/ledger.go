package engine

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/fingerprint"
)

// ledger keeps which content of which source has reached which workload. Per
// source that something depends on it holds one fingerprint that has been
// rolled out to all workloads, and only while a change is on its way what
// differs from that. It does no I/O and is safe for concurrent use.
type ledger struct {
	mu sync.Mutex // guards everything below
	// sources that something depends on.
	sources map[reloader.Source]*account
	// workloads in the index, and which of their sources wait for a reload.
	workloads map[reloader.Workload]*dependent
	// anyFresh is true if one of them has a moment in fresh.
	anyFresh bool
	// unread counts the sources without a fingerprint, by namespace.
	unread map[shelf]int
	// archive is where settled accounts are kept; nil before open, and for an
	// engine that keeps none.
	archive archive
	// searchers have name patterns, and have brought them in at that moment:
	// the shelf has to be searched for what they match.
	searchers map[shelf]map[reloader.Workload]moment
}

// shelf is all sources of one kind in one namespace.
type shelf struct {
	kind      reloader.SourceKind
	namespace string
}

func shelfOf(s reloader.Source) shelf { return shelf{s.Kind, s.Namespace} }

// archive keeps what has been rolled out, across restarts and leaders. Its
// methods do no I/O.
type archive interface {
	Lookup(s reloader.Source) (e checkpoint.Entry, ok bool)
	Set(s reloader.Source, e checkpoint.Entry)
	Delete(s reloader.Source)
}

// account is what is known of one source.
type account struct {
	// read is true if the source has been looked at, or the archive tells that it
	// need not be; dirty if there is a reason for another look.
	read, dirty bool
	// unknown is true if the archive, which is not empty, says nothing of the
	// source: it was brought in while no engine ran.
	unknown bool
	// heard is the newest version of which an event has told.
	heard uint64
	// saved is what the archive says.
	saved checkpoint.Entry
	// absent is true if the source did not exist at the last look. Its last
	// fingerprint stays: deleted and created again with the same data is no
	// change.
	absent bool
	// version is the newest one that has been read.
	version uint64
	// current is the newest fingerprint; empty if the source was never seen.
	current fingerprint.Fingerprint
	// written is when current came to be.
	written moment
	// rolledOut is the fingerprint that all workloads have, except those in
	// applied, which have that one (empty: something older). It moves when
	// waiting runs empty.
	rolledOut fingerprint.Fingerprint
	applied   map[reloader.Workload]fingerprint.Fingerprint
	waiting   map[reloader.Workload]struct{}
	// newcomers have brought the source in at that moment and wait for the
	// first look at it.
	newcomers map[reloader.Workload]moment
}

// dependent is what is known of one workload.
type dependent struct {
	// fresh is when its pod template was last changed by others: pods have
	// started, or will, with what was there then.
	fresh   moment
	pending map[reloader.Source]struct{}
}

// content is what one look at a source has shown.
type content struct {
	absent bool
	// untouched is true if nobody has written to the source since its
	// creation.
	untouched   bool
	fingerprint fingerprint.Fingerprint
	version     uint64
	written     moment
}

// debt is one source's content that a workload has yet to get.
type debt struct {
	source      reloader.Source
	fingerprint fingerprint.Fingerprint
}

func newLedger() *ledger {
	return &ledger{
		sources:   map[reloader.Source]*account{},
		workloads: map[reloader.Workload]*dependent{},
		unread:    map[shelf]int{},
		searchers: map[shelf]map[reloader.Workload]moment{},
	}
}

// enter notes that w, which was created at that time, is in the index. Until it
// leaves, its sources count.
func (l *ledger) enter(w reloader.Workload, created time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.workloads[w] == nil {
		l.workloads[w] = &dependent{fresh: moment{time: created}}
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
		late := since != (moment{}) && (!a.read || !a.absent && a.written.after(since))
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

// search notes that the shelf has to be searched for what the name patterns of
// w match, which came in at that moment.
func (l *ledger) search(w reloader.Workload, since moment, on shelf) {
	l.mu.Lock()
	defer l.mu.Unlock()
	searchers := l.searchers[on]
	put(&searchers, w, since)
	l.searchers[on] = searchers
}

// searchersOn returns those for whom the shelf has to be searched.
func (l *ledger) searchersOn(on shelf) map[reloader.Workload]moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.searchers[on])
}

// searched notes that the shelf has been searched for them.
func (l *ledger) searched(on shelf, searchers map[reloader.Workload]moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w, since := range searchers {
		if l.searchers[on][w] == since {
			delete(l.searchers[on], w)
		}
	}
	if len(l.searchers[on]) == 0 {
		delete(l.searchers, on)
	}
}

// created notes that s has just come into being. A source that nobody has
// waited for gets an account.
func (l *ledger) created(s reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sources[s] == nil {
		l.sources[s] = &account{read: true, absent: true}
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
	a := l.account(s)
	a.heard = version
	a.dirty = a.dirty || !a.read || a.absent || version != a.version
	if version < a.version {
		a.version = 0
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
	if !c.absent && c.version < a.version {
		return nil, true
	}
	first, wasAbsent, newcomers := !a.read, a.absent, a.newcomers
	if first {
		a.read = true
		l.unread[shelfOf(s)]--
	}
	a.absent, a.newcomers = c.absent, nil
	if c.absent {
		return nil, false
	}
	a.version = c.version
	changed := false
	if a.written == (moment{}) {
		a.written = c.written
	}
	if a.current != c.fingerprint {
		// What was created and edited before we looked may have reached pods
		// that waited for it in between. Other first sights are adopted.
		changed = a.current != "" || !first && wasAbsent && !c.untouched
		a.current, a.written = c.fingerprint, c.written
	}
	if changed || len(newcomers) > 0 {
		for _, w := range dependents() {
			since, isNew := newcomers[w]
			if isNew {
				put(&a.applied, w, a.had(since, c.untouched))
			}
			if d := l.workloads[w]; d != nil && (changed || isNew) && want(d, w, s, a) {
				overdue = append(overdue, w)
			}
		}
	}
	l.closeIfSettled(s, a)
	return overdue, false
}

// had returns what pods have that started at that moment: the present content,
// or something older.
func (a *account) had(since moment, untouched bool) fingerprint.Fingerprint {
	if !untouched && a.written.after(since) {
		return ""
	}
	return a.current
}

// unknownUntilNow reports, once, whether nobody knows what has been rolled out
// of s.
func (l *ledger) unknownUntilNow(s reloader.Source) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[s]
	if a == nil || !a.unknown {
		return false
	}
	a.unknown = false
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

// notFound notes that a list did not hold those of the sources that have still
// not been read.
func (l *ledger) notFound(sources []reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sources {
		if a := l.sources[s]; a != nil && !a.read {
			a.read, a.absent, a.newcomers = true, true, nil
			l.unread[shelfOf(s)]--
		}
	}
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

// abandon forgets s if nobody depends on it.
func (l *ledger) abandon(s reloader.Source, depended func(reloader.Source) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil && !depended(s) {
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
		if a := l.sources[s]; a != nil && !depended(s) {
			l.forget(s, a)
		}
	}
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
		if !depended(s) {
			l.forget(s, a)
		}
	}
}

// unreadOn counts the sources on a shelf that have not been read.
func (l *ledger) unreadOn(on shelf) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unread[on]
}

// takeUnread is take for all sources on the shelf that have not been read.
func (l *ledger) takeUnread(on shelf) []reloader.Source {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sources []reloader.Source
	for s, a := range l.sources {
		if !a.read && on == shelfOf(s) {
			a.dirty = false
			sources = append(sources, s)
		}
	}
	return sources
}

// allRead reports whether every source has been read and every shelf searched.
func (l *ledger) allRead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.unread {
		if n > 0 {
			return false
		}
	}
	return len(l.searchers) == 0
}

// known returns the sources of a kind that have an account.
func (l *ledger) known(of reloader.SourceKind) []reloader.Source {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sources []reloader.Source
	for s := range l.sources {
		if s.Kind == of {
			sources = append(sources, s)
		}
	}
	return sources
}

// all yields the sources that have an account when the iteration begins.
func (l *ledger) all() iter.Seq[reloader.Source] {
	return func(yield func(reloader.Source) bool) {
		l.mu.Lock()
		sources := slices.Collect(maps.Keys(l.sources))
		l.mu.Unlock()
		slices.Values(sources)(yield)
	}
}

// account returns the account of s, a new one if there is none. l.mu is held.
func (l *ledger) account(s reloader.Source) *account {
	a := l.sources[s]
	if a == nil {
		a = new(account)
		l.sources[s] = a
		l.unread[shelfOf(s)]++
	}
	return a
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
	if !a.read {
		l.unread[shelfOf(s)]--
	}
	if l.archive != nil {
		l.archive.Delete(s)
	}
	delete(l.sources, s)
}

// want notes that w waits for the present content of s, unless it has it, or
// its pods have started anew since. It reports whether w waits.
func want(d *dependent, w reloader.Workload, s reloader.Source, a *account) bool {
	have, other := a.applied[w]
	if !other {
		have = a.rolledOut
	}
	if have == a.current || !a.written.after(d.fresh) {
		settle(d, w, s, a)
		return false
	}
	put(&a.waiting, w, struct{}{})
	put(&d.pending, s, struct{}{})
	return true
}

// settle notes that w has the present content of s. When all of an account is
// done, closeIfSettled follows.
func settle(d *dependent, w reloader.Workload, s reloader.Source, a *account) {
	delete(d.pending, s)
	delete(a.waiting, w)
	delete(a.newcomers, w)
	put(&a.applied, w, a.current)
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
	entry := checkpoint.Entry{Fingerprint: a.rolledOut, Version: a.version}
	if l.archive != nil && a.rolledOut != "" && a.version != 0 && entry != a.saved {
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
			a.unknown = !ok && !fresh && !a.read
			continue
		}
		a.saved = entry
		a.current, a.rolledOut = entry.Fingerprint, entry.Fingerprint
		if entry.Version == inMotion {
			a.current, a.rolledOut = mixed, mixed
		}
		if a.heard != entry.Version || entry.Version == inMotion || len(a.newcomers) > 0 {
			a.dirty = true
			continue
		}
		if !a.read {
			l.unread[shelfOf(s)]--
		}
		a.read, a.absent, a.dirty = true, false, false
		a.version, a.written = entry.Version, moment{version: entry.Version}
	}
}

// mixed is in place of a fingerprint that not everyone has; no content has it.
const mixed fingerprint.Fingerprint = "mixed"

// put makes the map on its first entry: most of them stay empty for ever.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
