package index

import (
	"hash/maphash"
	"slices"

	"k8s-reloader/reloader"
)

// MostExact is how many exact sources of a workload that is kept by name are
// told apart. One with more, or with patterns, counts as a dependent of every
// source of their kinds.
const MostExact = 16

// reach is what stays of the dependencies of a workload that is kept by name:
// of a fixed size, whatever its lists and references are. It is immutable.
type reach struct {
	// exact are hashes of sources, sorted.
	exact []uint64
	// all is true for kinds of which every source counts.
	all [sourceKinds]bool
}

// SetByName puts w in the Index by its name only, in place of what was known of
// it: nothing of e stays but what it may depend on, roughly. Until it is set
// again, questions for dependents say yes for w where Set would make them say
// so, and may say yes where not: whoever acts on that decides anew, with the
// workload itself.
//
// It reports whether w is exact: then it may depend on what DependsOnAll returns
// and on nothing else, but for hashes that collide.
func (x *Index) SetByName(w reloader.Workload, e Entry) (exact bool) {
	n, wanted := newNode(w, e, x.settings)
	r := &reach{}
	if exact = len(wanted) <= MostExact; exact {
		for _, d := range wanted {
			r.exact = append(r.exact, x.hash(d))
		}
		slices.Sort(r.exact)
	} else {
		for _, d := range wanted {
			r.all[d.kind] = true
		}
	}
	for kind := range sourceKind(sourceKinds) {
		if !n.patterns(kind).Empty() {
			r.all[kind], exact = true, false
		}
	}
	n = &node{workload: w, reach: r}

	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespace(w.Namespace)
	n.workload.Namespace = ns.name
	key := workloadKey{kind: w.Kind, name: w.Name}
	old := ns.workloads[key]
	ns.workloads[key] = n
	ns.byName = insertNode(ns.byName, n)
	x.stats.ByName++
	if old == nil {
		x.stats.Workloads++
	} else {
		x.unlink(ns, old, n)
	}
	return exact
}

// DependsOnAll returns the exact sources that w would depend on with that entry,
// sorted.
func (x *Index) DependsOnAll(w reloader.Workload, e Entry) []reloader.Source {
	_, wanted := newNode(w, e, x.settings)
	sources := make([]reloader.Source, len(wanted))
	for i, d := range wanted {
		sources[i] = reloader.Source{Kind: d.kind.kind(), Namespace: w.Namespace, Name: d.name}
	}
	return sources
}

func (x *Index) hash(d dependency) uint64 { return maphash.Comparable(x.seed, d) }

// concerns reports whether a workload with that reach may depend on d, whose hash
// that is.
func (r *reach) concerns(d dependency, hash uint64) bool {
	if r.all[d.kind] {
		return true
	}
	_, found := slices.BinarySearch(r.exact, hash)
	return found
}

// namedOnly returns the nodes that are kept by name and may depend on d. The lock
// is held.
func (x *Index) namedOnly(ns *namespace, d dependency) (found []candidate) {
	if len(ns.byName) == 0 {
		return nil
	}
	hash := x.hash(d)
	for _, n := range ns.byName {
		if n.reach.concerns(d, hash) {
			found = append(found, candidate{node: n})
		}
	}
	return found
}

// dependedByName reports whether namedOnly returns something. The lock is held.
func (x *Index) dependedByName(ns *namespace, d dependency) bool {
	if len(ns.byName) == 0 {
		return false
	}
	hash := x.hash(d)
	return slices.ContainsFunc(ns.byName, func(n *node) bool { return n.reach.concerns(d, hash) })
}

// Reached reports whether w is kept by name and may depend on s; on every source
// of that kind, if s has no name.
func (x *Index) Reached(w reloader.Workload, s reloader.Source) bool { return x.reached(x.node(w), s) }

func (x *Index) reached(n *node, s reloader.Source) bool {
	kind, ok := toSourceKind(s.Kind)
	if n == nil || n.reach == nil || !ok {
		return false
	}
	if s.Name == "" {
		return n.reach.all[kind]
	}
	d := dependency{kind: kind, name: s.Name}
	return n.reach.concerns(d, x.hash(d))
}
