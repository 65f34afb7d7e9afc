package fair

import (
	"sync"

	"k8s.io/client-go/util/workqueue"
)

// Order is the storage of one workqueue.Typed, in which groups take turns. It is
// safe for concurrent use: Done is called without the queue's lock.
type Order[K comparable] struct {
	groupOf func(K) string
	share   int

	mu     sync.Mutex // guards everything below
	groups map[string]*group[K]
	// turns are the groups of which a key may be handed out, the next one first.
	turns FIFO[*group[K]]
	// waiting counts the keys of all groups.
	waiting int
	spare   []*group[K]
}

// group is what waits and what is in work of one group. It is kept for as long
// as there is either.
type group[K comparable] struct {
	keys    FIFO[K]
	working int
	// queued is true while it is among turns.
	queued bool
}

// maxSpare bounds the groups that are kept to be used again.
const maxSpare = 64

var _ workqueue.Queue[string] = (*Order[string])(nil)

// NewOrder returns an Order. groupOf tells the group of a key, always the same. No
// group has more than share keys in work; 0 is no limit.
func NewOrder[K comparable](groupOf func(K) string, share int) *Order[K] {
	return &Order[K]{groupOf: groupOf, share: share, groups: map[string]*group[K]{}}
}

// Push implements workqueue.Queue.
func (o *Order[K]) Push(key K) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := o.groupOf(key)
	g := o.groups[name]
	if g == nil {
		g = o.newGroupLocked()
		o.groups[name] = g
	}
	g.keys.Push(key)
	o.waiting++
	o.lineUpLocked(g)
}

// Touch implements workqueue.Queue. A key that is added again keeps its place.
func (o *Order[K]) Touch(K) {}

// Len implements workqueue.Queue: workers wait while it is 0, which is also so if
// every group that has keys has its share of the workers. Otherwise it is Waiting.
func (o *Order[K]) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turns.Len() == 0 {
		return 0
	}
	return o.waiting
}

// Waiting returns how many keys there are that have not been handed out.
func (o *Order[K]) Waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting
}

// Crowd returns how many keys of a group wait, and how many in all of those groups
// of which fewer than many do.
func (o *Order[K]) Crowd(name string, many int) (own, elsewhere int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.groups[name]; g != nil {
		own = g.keys.Len()
	}
	for _, g := range o.groups {
		if n := g.keys.Len(); n < many {
			elsewhere += n
		}
	}
	return own, elsewhere
}

// Pop implements workqueue.Queue. Len must not be 0. Done follows.
func (o *Order[K]) Pop() K {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.turns.Pop()
	g.queued = false
	key := g.keys.Pop()
	o.waiting--
	g.working++
	o.lineUpLocked(g)
	return key
}

// Done notes that a key that was handed out is not in work any more. It comes
// before the queue's own Done: the worker that calls both asks for a key next, and
// so finds one that has become free by this.
func (o *Order[K]) Done(key K) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := o.groupOf(key)
	g := o.groups[name]
	if g == nil {
		return
	}
	g.working--
	o.lineUpLocked(g)
	if g.working <= 0 && g.keys.Len() == 0 {
		delete(o.groups, name)
		if len(o.spare) < maxSpare {
			o.spare = append(o.spare, g)
		}
	}
}

// lineUpLocked gives g a turn, behind all others, if it has a key and room.
func (o *Order[K]) lineUpLocked(g *group[K]) {
	if g.queued || g.keys.Len() == 0 || o.share > 0 && g.working >= o.share {
		return
	}
	g.queued = true
	o.turns.Push(g)
}

func (o *Order[K]) newGroupLocked() *group[K] {
	if n := len(o.spare); n > 0 {
		g := o.spare[n-1]
		o.spare = o.spare[:n-1]
		g.working = 0
		return g
	}
	return new(group[K])
}
