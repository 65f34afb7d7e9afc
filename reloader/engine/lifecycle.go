package engine

import (
	"math"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/index"
)

// lifecycle says which beginnings and ends of sources count as changes of their
// content. Those of a SecretProviderClass never do: its pods come and go.
type lifecycle struct {
	// onCreate counts the creation of a source for those who were there before.
	onCreate bool
	// onDelete makes "deleted" one more content that a source can have, with a
	// mark like any other: whoever dies in between can write it again, and there
	// need not have been an older one to remove. A source that is deleted and
	// created again with the same data, before anybody was reloaded, has not
	// changed; one that comes back later has.
	onDelete bool
	// afterRestart lets onCreate count what was created while no engine ran.
	afterRestart bool
}

// someVersion is that of a deletion of which no event has told: it may be later
// than anything.
const someVersion = math.MaxUint64

// lookAtNothing has those reloaded who have yet to do without a source that is
// gone, if that counts.
func (e *Engine) lookAtNothing(s reloader.Source) {
	m, known := e.matches(s)
	if !known {
		return
	}
	annotations := e.ledger.wishes(s).annotations(e.settings.Keys)
	overdue, _ := e.ledger.look(s, content{absent: true}, func() []reloader.Workload {
		return e.index.Dependents(s, m, annotations)
	})
	// Whenever it went, pods cannot have started without it and have it.
	e.ledger.pastOf(s)
	e.ledger.lookedBack(s)
	e.ledger.abandon(s, e.index.Depended)
	e.ledger.bury(s, e.index.Named)
	e.reloadAll(overdue)
	e.log.V(1).Info("looked for a source that is not there", "source", s.String(), "overdue", len(overdue))
}

// whoWasThere returns the workloads that are older than a source which was
// created while no engine ran, if that counts. Only the times of both tell; what
// was created together, as far as clocks can say, waits for nothing.
func (e *Engine) whoWasThere(s reloader.Source, m index.Matches, read digest) (overdue []reloader.Workload) {
	if !e.ledger.lifecycle.afterRestart || !e.ledger.countsCreation(s) {
		return nil
	}
	for _, w := range e.index.Dependents(s, m, read.content.wishes.annotations(e.settings.Keys)) {
		_, created, _ := e.intake.created(w)
		if read.created.Sub(created) > clockTolerance && e.ledger.miss(s, w) {
			overdue = append(overdue, w)
		}
	}
	return overdue
}

// wishes are those annotations of a source that take part in decisions: once it
// is gone nobody can read them any more. Of a source that went while no engine
// ran they are not known, and count as not there.
type wishes struct{ match, ignore bool }

func wishesOf(annotations map[string]string, k annotation.Keys) wishes {
	return wishes{match: annotations[k.Match] == "true", ignore: annotations[k.Ignore] == "true"}
}

// annotations is the inverse of wishesOf.
func (w wishes) annotations(k annotation.Keys) map[string]string {
	annotations := map[string]string{}
	if w.match {
		annotations[k.Match] = "true"
	}
	if w.ignore {
		annotations[k.Ignore] = "true"
	}
	return annotations
}

// wishes returns those of s at the last look.
func (l *ledger) wishes(s reloader.Source) wishes {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil {
		return a.wishes
	}
	return wishes{}
}

// deleted is news for the event that s is gone since that version.
func (l *ledger) deleted(s reloader.Source, version uint64) bool {
	l.wentAt(s, moment{version: version})
	return l.news(s, 0)
}

func (l *ledger) wentAt(s reloader.Source, at moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.account(s).gone = at
}

// counted returns what a look at s amounts to, and false if that is nothing: if
// s is not there, and that does not count. l.mu is held.
func (l *ledger) counted(s reloader.Source, a *account, c content) (content, bool) {
	if !c.absent {
		c.untouched = c.untouched && !l.countsCreation(s)
		return c, true
	}
	if c.vacant {
		l.vacate(s, a)
	}
	if !l.countsDeletion(s, a) {
		return c, false
	}
	return a.deletion(), true
}

// countsDeletion reports whether it is a change that s is not there. What was
// never there cannot be missed, and what its labels left alone is not. l.mu is
// held.
func (l *ledger) countsDeletion(s reloader.Source, a *account) bool {
	return l.lifecycle.onDelete && s.Kind != reloader.SecretProviderClass && a.current != "" && !a.unselected
}

// countsCreation reports whether it is a change that s has come into being.
func (l *ledger) countsCreation(s reloader.Source) bool {
	return l.lifecycle.onCreate && s.Kind != reloader.SecretProviderClass
}

// deletion is what a look at a source that is gone shows, if that counts. Its
// version is any that an entry of the archive may have.
func (a *account) deletion() content {
	c := content{
		absent:      true,
		fingerprint: fingerprint.Deleted,
		version:     max(a.version, a.saved.Version, 1),
		written:     a.gone,
		wishes:      a.wishes,
	}
	if a.gone.version <= a.version {
		// Its event has yet to come, or never will.
		c.written = moment{version: someVersion}
	}
	return c
}

// turnedAfter reports whether the content of the account came to be after that
// moment. That nothing is there is no content, unless it counts.
func (a *account) turnedAfter(since moment) bool {
	return (!a.absent || a.current == fingerprint.Deleted) && a.written.after(since)
}

// floor is the version before which a reading that shows the source is older
// than what is known. A first reading, though, tells of what pods had before the
// source went.
func (a *account) floor() uint64 {
	if !a.read || a.gone.version == someVersion {
		return a.version
	}
	return max(a.version, a.gone.version)
}
