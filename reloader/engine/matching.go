package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine/internal/fair"
	"k8s-reloader/reloader/index"
)

// What a namespace may spend on trying the patterns of its workloads, in steps
// of index.Match. A core makes some hundred million of them a second, so this is
// a tenth of one.
const (
	stepsPerSecond = 10_000_000
	// mostSteps is what a namespace that has been quiet may spend at once.
	mostSteps = 20_000_000
	// turnSteps is what it may spend before others have their turn.
	turnSteps = 500_000
)

// matching is how much each namespace has spent on patterns, and the sources
// whose patterns have to be tried when it may spend again. It is safe for
// concurrent use. Nothing is called under its lock.
type matching struct {
	clock clock.PassiveClock

	mu sync.Mutex // guards everything below
	// namespaces that have spent something or have sources waiting.
	namespaces map[string]*matchingShare
}

// matchingShare is that of one namespace.
type matchingShare struct {
	// left is what it might spend at that time; less than 0 is a debt.
	left int
	at   time.Time
	// waiting sources, in the order in which they came, each once.
	waiting fair.FIFO[reloader.Source]
	queued  map[reloader.Source]struct{}
}

func newMatching(c clock.PassiveClock) *matching {
	return &matching{clock: c, namespaces: map[string]*matchingShare{}}
}

// allowance returns how many steps the namespace may take now; none if it is 0
// or less.
func (m *matching) allowance(namespace string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	share := m.namespaces[namespace]
	if share == nil {
		return mostSteps
	}
	m.earnLocked(namespace, share)
	return share.left
}

// earnLocked adds what a namespace may spend for the time that has passed, and
// forgets it if it may spend all there is.
func (m *matching) earnLocked(namespace string, share *matchingShare) {
	now := m.clock.Now()
	earned := min(max(now.Sub(share.at), 0), time.Hour).Seconds() * stepsPerSecond
	share.left, share.at = min(share.left+int(earned), mostSteps), now
	if share.left == mostSteps && share.waiting.Len() == 0 {
		delete(m.namespaces, namespace)
	}
}

// sweep forgets the namespaces that have not spent anything for a while.
func (m *matching) sweep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for namespace, share := range m.namespaces {
		m.earnLocked(namespace, share)
	}
}

// spend notes that the namespace has taken steps.
func (m *matching) spend(namespace string, steps int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shareLocked(namespace).left -= steps
}

// pause returns how long the namespace has to wait until it may take a turn.
func (m *matching) pause(namespace string) time.Duration {
	missing := turnSteps - m.allowance(namespace)
	return max(time.Duration(float64(missing)/stepsPerSecond*float64(time.Second)), time.Millisecond)
}

// wait has s wait until its namespace may spend again.
func (m *matching) wait(s reloader.Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	share := m.shareLocked(s.Namespace)
	if _, waits := share.queued[s]; waits {
		return
	}
	put(&share.queued, s, struct{}{})
	share.waiting.Push(s)
}

// head returns the source of the namespace that has waited longest.
func (m *matching) head(namespace string) (reloader.Source, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	share := m.namespaces[namespace]
	if share == nil || share.waiting.Len() == 0 {
		return reloader.Source{}, false
	}
	return share.waiting.Head(), true
}

// done takes the head of the namespace out.
func (m *matching) done(namespace string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	share := m.shareLocked(namespace)
	delete(share.queued, share.waiting.Pop())
	if share.waiting.Len() == 0 {
		share.queued = nil
	}
}

// waits reports whether sources of the namespace wait.
func (m *matching) waits(namespace string) bool {
	_, waits := m.head(namespace)
	return waits
}

// shareLocked returns that of a namespace, made if need be.
func (m *matching) shareLocked(namespace string) *matchingShare {
	share := m.namespaces[namespace]
	if share == nil {
		share = &matchingShare{left: mostSteps, at: m.clock.Now()}
		m.namespaces[namespace] = share
	}
	return share
}

// matches returns which patterns match s, and false if that takes more than its
// namespace may spend now. Then it is found out in the namespace's own turn, and
// s comes back to its queue, to be read, when it is known.
func (e *Engine) matches(s reloader.Source) (index.Matches, bool) {
	m, _, complete := e.index.Match(s, 0)
	if complete {
		return m, true
	}
	if steps := e.matching.allowance(s.Namespace); steps > 0 && !e.matching.waits(s.Namespace) {
		var spent int
		m, spent, complete = e.index.Match(s, min(steps, turnSteps))
		e.matching.spend(s.Namespace, spent)
	}
	if !complete {
		e.ledger.putBack(s)
		e.matching.wait(s)
		e.queues.matches.Add(namespaceKey(s.Namespace))
	}
	return m, complete
}

// matchWaiting handles one key of the queue of namespaces that have sources
// waiting for their patterns to be tried: one turn.
func (e *Engine) matchWaiting(_ context.Context, key namespaceKey) error {
	namespace := string(key)
	for turn := turnSteps; turn > 0; {
		s, waits := e.matching.head(namespace)
		if !waits {
			return nil
		}
		// Who creates and deletes sources faster than they can be matched leaves none.
		if e.ledger.passOver(s) {
			e.matching.done(namespace)
			continue
		}
		steps := e.matching.allowance(namespace)
		if steps <= 0 {
			e.queues.matches.AddAfter(key, e.matching.pause(namespace))
			return nil
		}
		_, spent, complete := e.index.Match(s, min(steps, turn))
		e.matching.spend(namespace, spent)
		turn -= max(spent, 1)
		if complete {
			e.matching.done(namespace)
			e.ledger.putBack(s)
			e.queues.sources.Add(s)
		}
	}
	e.queues.matches.Add(key)
	return nil
}

// allReadBut reports whether every source has been read and every shelf searched,
// but for the namespaces for which late says yes.
func (l *ledger) allReadBut(late func(namespace string) bool) bool {
	l.mu.Lock()
	var open []string
	for on := range l.unread {
		open = append(open, on.namespace)
	}
	for on := range l.searchers {
		open = append(open, on.namespace)
	}
	l.mu.Unlock()
	return !slices.ContainsFunc(open, func(namespace string) bool { return !late(namespace) })
}
