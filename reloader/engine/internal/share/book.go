package share

import "math"

// Unlimited is the share where no workload is kept by name.
const Unlimited = math.MaxInt

// Place is how a workload is kept.
type Place struct {
	// InFull is true if all that is known of it is in memory.
	InFull bool
	cost   int
}

// Book is the account of all namespaces. Make one with New. It is not safe for
// concurrent use.
//
// What the workloads of one namespace that are kept in full cost together is
// never more than the share.
type Book struct {
	share      int
	namespaces map[string]*namespace
}

type namespace struct {
	used int
	// inFull and byName count workloads.
	inFull, byName int
}

// New returns an empty book with so many bytes for each namespace.
func New(share int) *Book {
	return &Book{share: share, namespaces: map[string]*namespace{}}
}

// Enter finds a place for a workload of that cost, in place of the one that it
// had; nil is none. It reports whether it is the first of its namespace that is
// kept by name.
func (b *Book) Enter(name string, had *Place, cost int) (now *Place, first bool) {
	n := b.namespaces[name]
	if n == nil {
		n = new(namespace)
		b.namespaces[name] = n
	}
	before := n.byName
	n.remove(had)
	now = &Place{cost: cost}
	// Not a sum, which may overflow.
	if now.InFull = cost <= b.share-n.used; now.InFull {
		n.used += cost
		n.inFull++
		return now, false
	}
	n.byName++
	return now, before == 0
}

// Leave takes back the place that a workload had; nil is none.
func (b *Book) Leave(name string, had *Place) {
	n := b.namespaces[name]
	if n == nil {
		return
	}
	n.remove(had)
	if n.inFull+n.byName == 0 {
		delete(b.namespaces, name)
	}
}

func (n *namespace) remove(had *Place) {
	switch {
	case had == nil:
	case had.InFull:
		n.used -= had.cost
		n.inFull--
	default:
		n.byName--
	}
}

// Used returns what the workloads of a namespace that are kept in full cost.
func (b *Book) Used(name string) int {
	if n := b.namespaces[name]; n != nil {
		return n.used
	}
	return 0
}
