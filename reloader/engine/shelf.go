package engine

import (
	"iter"
	"maps"
	"slices"

	"k8s-reloader/reloader"
)

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
			l.searchedFor(w, on)
		}
	}
}

// searchedFor notes that the shelf has not to be searched for w. l.mu is held.
func (l *ledger) searchedFor(w reloader.Workload, on shelf) {
	delete(l.searchers[on], w)
	if len(l.searchers[on]) == 0 {
		delete(l.searchers, on)
	}
}

// notFound notes that a list did not hold those of the sources that have still
// not been read, and returns them.
func (l *ledger) notFound(sources []reloader.Source) (absent []reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sources {
		if a := l.sources[s]; a != nil && !a.read {
			l.lookedAt(s, a)
			a.absent, a.newcomers = true, nil
			absent = append(absent, s)
		}
	}
	return absent
}

// lookedAt notes that nobody waits for the first look at s any more. l.mu is
// held.
func (l *ledger) lookedAt(s reloader.Source, a *account) {
	if a.read {
		return
	}
	a.read = true
	on := shelfOf(s)
	if l.unread[on]--; l.unread[on] == 0 {
		delete(l.unread, on)
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
