package engine

import "k8s-reloader/reloader"

// resume notes that a namespace is selected. If that comes late, while the engine
// runs, then what is there from before, and the archive does not tell of, came in
// while nobody looked.
func (l *ledger) resume(namespace string, late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	put(&l.selected, namespace, late)
}

// selects reports whether sources of a namespace have accounts. l.mu is held.
func (l *ledger) selects(namespace string) bool {
	_, selected := l.selected[namespace]
	return selected || l.selected == nil
}

// suspend forgets everything in a namespace but what the archive knows of it,
// as if the engine had died. Nothing gets an account there until it resumes.
func (l *ledger) suspend(namespace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.sources {
		if s.Namespace == namespace {
			delete(l.sources, s)
		}
	}
	for w := range l.workloads {
		if w.Namespace == namespace {
			delete(l.workloads, w)
		}
	}
	for _, k := range reloader.SourceKinds() {
		on := shelf{k, namespace}
		delete(l.unread, on)
		delete(l.searchers, on)
		delete(l.graves, on)
	}
	delete(l.selected, namespace)
}

// lookBackAt has the first look at s be one into the past, if it came in while
// its namespace was not selected. l.mu is held.
func (l *ledger) lookBackAt(s reloader.Source, a *account, since moment) {
	if l.selected[s.Namespace] && since == (moment{}) && l.archive != nil && !a.read {
		if a.past = unknown; a.current != "" {
			a.past = archived
		}
	}
}

// setAside notes that the sources cannot be looked at for now, or must not be.
// Nobody waits for them until an event tells of them again, and what was known
// of them stays.
func (l *ledger) setAside(sources ...reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sources {
		if a := l.sources[s]; a != nil {
			l.lookedAt(s, a)
		}
	}
}

// unselected notes that the labels of s leave it alone. What was known of it
// stays, so that a change in between shows when they select it again; those who
// have brought it in meanwhile take it as it is then.
func (l *ledger) unselected(s reloader.Source) {
	l.setAside(s)
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil {
		a.absent, a.past, a.newcomers, a.unselected = false, none, nil, true
	}
}
