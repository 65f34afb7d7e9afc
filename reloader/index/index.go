package index

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/pattern"
	"k8s-reloader/reloader/policy"
)

// Entry is what the Index knows of one workload.
type Entry struct {
	// Policy decides. A workload whose policy is nil depends on nothing.
	Policy *policy.Policy
	// References of the pod template, all of them; those that the settings do
	// not follow are kept, and count for nothing.
	References []reloader.Reference
}

// Stats are counts for metrics.
type Stats struct {
	// Workloads are those that were set, whether they depend on something or
	// not.
	Workloads int
	// Sources are the exact ones on which at least one workload depends.
	Sources int
	// Patterns are the workloads with patterns, once for each source kind
	// that they have patterns of.
	Patterns int
	// ByName are the workloads that are kept by name.
	ByName int
}

// Index is the graph of workloads and sources. It is safe for concurrent use;
// make one with New.
type Index struct {
	settings policy.Settings
	seed     maphash.Seed

	mu sync.RWMutex
	// What follows is guarded by mu, all the way down but for the immutable
	// fields of nodes and pattern sets. Nothing is called under mu, least of all
	// a regular expression: those run in Match, without it. So an Index may be
	// asked under any lock of its user, all but for Match.
	namespaces map[string]*namespace
	stats      Stats
	// patterned counts the namespaces with patterns, which share the memory.
	patterned int
}

// New returns an empty Index that decides with these settings, which must be
// those that the policies were parsed with.
func New(s policy.Settings) *Index {
	return &Index{settings: s, seed: maphash.MakeSeed(), namespaces: make(map[string]*namespace)}
}

// Set adds w to the Index, or replaces its entry. It does not keep
// or change e's slices.
//
// It returns the exact sources that w depends on now and did not before,
// sorted, and whether its patterns may match sources that they did not before:
// it has patterns of some kind, and its policy is not what it was. Setting an
// entry that is equal to the one before returns nil and false.
func (x *Index) Set(w reloader.Workload, e Entry) (gained []reloader.Source, patterns bool) {
	n, wanted := newNode(w, e, x.settings)

	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespace(w.Namespace)
	n.workload.Namespace = ns.name
	key := workloadKey{kind: w.Kind, name: w.Name}
	old := ns.workloads[key]
	ns.workloads[key] = n

	gained = x.link(ns, n, old, wanted)
	patterns = x.linkPatterns(ns, n, old)
	if old == nil {
		x.stats.Workloads++
	} else {
		x.unlink(ns, old, n)
	}
	return gained, patterns
}

// Delete takes w out of the Index. A workload that is not in it is no error.
func (x *Index) Delete(w reloader.Workload) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespaces[w.Namespace]
	if ns == nil {
		return
	}
	key := workloadKey{kind: w.Kind, name: w.Name}
	old := ns.workloads[key]
	if old == nil {
		return
	}
	delete(ns.workloads, key)
	x.stats.Workloads--
	x.unlink(ns, old, nil)
	if len(ns.workloads) == 0 {
		delete(x.namespaces, w.Namespace)
	}
}

// Depended reports whether a change of s may concern a workload. It is true
// whenever Dependents returns something, and may be true when that returns
// nothing, since it does not know the annotations of s, and while there are
// patterns of which Match has not yet found out whether they match. It allocates
// nothing, matches nothing, and is meant for every event of a watch.
func (x *Index) Depended(s reloader.Source) bool {
	kind, ok := toSourceKind(s.Kind)
	if !ok {
		return false
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns := x.namespaces[s.Namespace]
	if ns == nil {
		return false
	}
	if _, exact := ns.sources[kind][s.Name]; exact {
		return true
	}
	if x.dependedByName(ns, dependency{kind: kind, name: s.Name}) {
		return true
	}
	p := &ns.patterns[kind]
	if len(p.sets) == 0 {
		return false
	}
	m := p.known[s.Name]
	return !p.all(m) || m.live()
}

// Dependents returns the workloads that a change of s reloads, sorted by kind
// and name: those whose policy says yes. The annotations are those of s (for a
// CSI pod status, of its SecretProviderClass), m is what Match has returned.
// Patterns that have come in since are left out. Of workloads that are kept by
// name it returns all that may depend on s. The result is the caller's.
func (x *Index) Dependents(s reloader.Source, m Matches, annotations map[string]string) []reloader.Workload {
	kind, ok := toSourceKind(s.Kind)
	if !ok {
		return nil
	}
	nodes := slices.DeleteFunc(x.candidates(kind, s, m), func(n candidate) bool {
		return !x.decide(n, kind, s, annotations).Reload
	})
	if len(nodes) == 0 {
		return nil
	}
	workloads := make([]reloader.Workload, len(nodes))
	for i, n := range nodes {
		workloads[i] = n.workload
	}
	return workloads
}

// decide returns what a candidate decides. One that is kept by name has not decided
// yet: it says yes, without a reason.
func (x *Index) decide(n candidate, kind sourceKind, s reloader.Source, annotations map[string]string) reloader.Decision {
	switch {
	case n.reach == nil:
		referenced := n.referencesTo(kind, s.Name, x.settings)
		return n.policy.DecideMatched(s.Kind, s.Name, annotations, referenced, n.matched)
	case annotations[x.settings.Keys.Ignore] == "true":
		return reloader.Decision{Reason: reloader.ReasonIgnored}
	}
	return reloader.Decision{Reload: true}
}

// candidate is a node that may say yes to a source, and whether its patterns
// match that.
type candidate struct {
	*node
	matched bool
}

// candidates returns the nodes that may say yes to s, sorted, in a slice of the
// caller's. They are decided upon without the lock, which only immutable fields
// of nodes allow.
func (x *Index) candidates(kind sourceKind, s reloader.Source, m Matches) []candidate {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns := x.namespaces[s.Namespace]
	if ns == nil {
		return nil
	}
	var found []candidate
	if src := ns.sources[kind][s.Name]; src != nil {
		found = make([]candidate, len(src.dependents))
		for i, n := range src.dependents {
			found[i] = candidate{node: n}
		}
	}
	exact := len(found)
	for _, set := range m.sets {
		for _, n := range set.nodes {
			found = append(found, candidate{n, true})
		}
	}
	found = append(found, x.namedOnly(ns, dependency{kind: kind, name: s.Name})...)
	if len(found) == exact {
		return found
	}
	// Of a node that is there twice the one that is matched stays.
	slices.SortFunc(found, func(a, b candidate) int {
		if order := compareNodes(a.node, b.node); order != 0 || a.matched == b.matched {
			return order
		}
		if a.matched {
			return -1
		}
		return 1
	})
	return slices.CompactFunc(found, func(a, b candidate) bool { return a.node == b.node })
}

// Get returns what the Index knows of w, which the caller may keep and change. Of
// a workload that is kept by name it knows nothing.
func (x *Index) Get(w reloader.Workload) (Entry, bool) {
	n := x.node(w)
	if n == nil || n.reach != nil {
		return Entry{}, false
	}
	return n.entry(), true
}

// DependsOn returns the exact sources that w depends on, sorted: those that it
// references in a way that its policy follows, and those that its policy
// names, without those that it excludes. What its patterns match is not among
// them, and there are none of a workload that is kept by name.
func (x *Index) DependsOn(w reloader.Workload) []reloader.Source {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns := x.namespaces[w.Namespace]
	if ns == nil {
		return nil
	}
	n := ns.workloads[workloadKey{kind: w.Kind, name: w.Name}]
	if n == nil || len(n.sources) == 0 {
		return nil
	}
	sources := make([]reloader.Source, len(n.sources))
	for i, s := range n.sources {
		sources[i] = s.in(ns)
	}
	return sources
}

// Stats returns the present counts.
func (x *Index) Stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.stats
}

// node returns the node of w; nil if there is none.
func (x *Index) node(w reloader.Workload) *node {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns := x.namespaces[w.Namespace]
	if ns == nil {
		return nil
	}
	return ns.workloads[workloadKey{kind: w.Kind, name: w.Name}]
}

// namespace returns the namespace of that name, made if need be.
func (x *Index) namespace(name string) *namespace {
	ns := x.namespaces[name]
	if ns == nil {
		ns = &namespace{name: name, workloads: make(map[workloadKey]*node)}
		x.namespaces[name] = ns
	}
	return ns
}

// link makes n a dependent of what it wants, in place of old, and returns what
// old did not depend on.
func (x *Index) link(ns *namespace, n, old *node, wanted []dependency) []reloader.Source {
	if len(wanted) == 0 {
		return nil
	}
	var gained []reloader.Source
	n.sources = make([]*source, len(wanted))
	for i, d := range wanted {
		s := x.source(ns, d)
		n.sources[i] = s
		s.dependents = insertNode(s.dependents, n)
		if old == nil || old.source(d) == nil {
			gained = append(gained, s.in(ns))
		}
	}
	n.shareNames()
	return gained
}

// linkPatterns puts n among the pattern holders, in place of old, and reports
// whether its patterns may match something new.
func (x *Index) linkPatterns(ns *namespace, n, old *node) bool {
	gained := false
	for kind := range sourceKind(sourceKinds) {
		text := n.patterns(kind)
		if text.Empty() {
			continue
		}
		had := old != nil && !old.patterns(kind).Empty()
		if !had {
			x.stats.Patterns++
		}
		x.addPatterns(ns, kind, text, n)
		// The whole policy is compared, since a shorter exclude list lets the
		// same patterns match more.
		gained = gained || !had || !old.policy.Equal(n.policy)
	}
	return gained
}

// unlink takes old out of everything that next, which took its place, is not
// in. next is nil if nothing did.
func (x *Index) unlink(ns *namespace, old, next *node) {
	if old.reach != nil {
		x.stats.ByName--
		// insertNode has put next in its place, if that is kept by name, too.
		if next == nil || next.reach == nil {
			ns.byName = removeNode(ns.byName, old)
		}
	}
	for _, s := range old.sources {
		if next != nil && next.source(s.dependency) != nil {
			continue
		}
		s.dependents = removeNode(s.dependents, old)
		if len(s.dependents) == 0 {
			delete(ns.sources[s.kind], s.name)
			x.stats.Sources--
		}
	}
	for kind := range sourceKind(sourceKinds) {
		text := old.patterns(kind)
		if text.Empty() {
			continue
		}
		var now pattern.Set
		if next != nil {
			now = next.patterns(kind)
		}
		if now.Empty() {
			x.stats.Patterns--
		}
		if now != text {
			x.removePatterns(ns, kind, text, old)
		}
	}
}

// source returns the source of d, made if need be.
func (x *Index) source(ns *namespace, d dependency) *source {
	s := ns.sources[d.kind][d.name]
	if s != nil {
		return s
	}
	if ns.sources[d.kind] == nil {
		ns.sources[d.kind] = make(map[string]*source)
	}
	// The name may be a part of a long annotation, which must not be kept for
	// its sake.
	s = &source{dependency: dependency{kind: d.kind, name: strings.Clone(d.name)}}
	ns.sources[d.kind][s.name] = s
	x.stats.Sources++
	return s
}
