package engine

import (
	"sync"
	"time"

	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
)

const (
	// mostDue is how many debts, a workload times a source each, the workloads of
	// one namespace may have before its other changes wait. A debt takes some 200
	// bytes.
	mostDue = 100_000
	// backlogLook is the time between two counts of the debts of a namespace that
	// has too many.
	backlogLook = time.Second
	// backlogRetry is how long a source waits whose namespace has too many.
	backlogRetry = 5 * time.Second
)

// backlog bounds what is due to the workloads of one namespace: thousands of them
// that cannot be reloaded, and thousands of sources that change, would fill the
// memory. Over the bound, sources of the namespace are not read: that they have
// changed is noted, and they are read when some of what is due has been paid. It
// is safe for concurrent use. Nothing is called under its lock.
type backlog struct {
	clock clock.PassiveClock
	most  int // 0 is no bound
	// count returns the debts of a namespace.
	count func(namespace string) int

	mu sync.Mutex // guards everything below
	// due are the debts since the last count, those that were paid included.
	due map[string]*dueIn
}

type dueIn struct {
	debts   int
	counted time.Time
}

func newBacklog(c clock.PassiveClock, most int, count func(string) int) *backlog {
	return &backlog{clock: c, most: most, count: count, due: map[string]*dueIn{}}
}

// add notes that so many debts have come up.
func (b *backlog) add(namespace string, debts int) {
	if debts == 0 || b.most == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.due[namespace]
	if d == nil {
		d = new(dueIn)
		b.due[namespace] = d
	}
	d.debts += debts
}

// full reports whether a namespace has too many debts for more.
func (b *backlog) full(namespace string) bool {
	b.mu.Lock()
	d := b.due[namespace]
	now := b.clock.Now()
	switch {
	case d == nil || d.debts <= b.most:
		b.mu.Unlock()
		return false
	case now.Sub(d.counted) < backlogLook:
		b.mu.Unlock()
		return true
	}
	d.counted = now
	b.mu.Unlock()

	debts := b.count(namespace)
	b.mu.Lock()
	defer b.mu.Unlock()
	d.debts = debts
	return debts > b.most
}

// sweep forgets the namespaces to which nothing is due.
func (b *backlog) sweep() {
	b.mu.Lock()
	var namespaces []string
	for namespace := range b.due {
		namespaces = append(namespaces, namespace)
	}
	b.mu.Unlock()
	for _, namespace := range namespaces {
		if b.count(namespace) > 0 {
			continue
		}
		b.mu.Lock()
		delete(b.due, namespace)
		b.mu.Unlock()
	}
}

// debtsIn counts the debts of the workloads of a namespace.
func (l *ledger) debtsIn(namespace string) (debts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w, d := range l.workloads {
		if w.Namespace == namespace {
			debts += len(d.pending)
		}
	}
	return debts
}

// waitsForBacklog reports whether a source has to wait because of what is due in
// its namespace, and then has it come back.
func (e *Engine) waitsForBacklog(s reloader.Source) bool {
	if !e.backlog.full(s.Namespace) {
		return false
	}
	e.queues.sources.AddAfter(s, backlogRetry)
	return true
}

// late reports whether sources of a namespace are read later than those of others,
// so that a start does not wait for them.
func (e *Engine) late(namespace string) bool {
	return e.matching.waits(namespace) || e.backlog.full(namespace)
}
