package index

import (
	"cmp"
	"slices"
	"strings"
	"unique"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/pattern"
	"k8s-reloader/reloader/policy"
)

// namespace holds what is in one namespace. Everything in it is guarded by
// the lock of the Index.
type namespace struct {
	name      string
	workloads map[workloadKey]*node
	sources   [sourceKinds]map[string]*source
	patterns  [sourceKinds]patterns
	// byName are those that are kept by name, in the order of compareNodes.
	byName []*node
}

type workloadKey struct {
	kind reloader.WorkloadKind
	name string
}

// sourceKinds is the number of source kinds; sources are kept apart by their
// place in reloader.SourceKinds, which is smaller than their name.
const sourceKinds = 3

// sourceKind is the place of a kind in reloader.SourceKinds.
type sourceKind uint8

func toSourceKind(kind reloader.SourceKind) (sourceKind, bool) {
	switch kind {
	case reloader.ConfigMap:
		return 0, true
	case reloader.Secret:
		return 1, true
	case reloader.SecretProviderClass:
		return 2, true
	}
	return 0, false
}

func (k sourceKind) kind() reloader.SourceKind {
	switch k {
	case 0:
		return reloader.ConfigMap
	case 1:
		return reloader.Secret
	}
	return reloader.SecretProviderClass
}

// dependency names a source within its namespace.
type dependency struct {
	kind sourceKind
	name string
}

// compare orders dependencies by kind and name.
func (d dependency) compare(other dependency) int {
	return cmp.Or(cmp.Compare(d.kind, other.kind), strings.Compare(d.name, other.name))
}

// source is an exact source on which at least one workload depends.
type source struct {
	dependency
	dependents []*node // in the order of compareNodes
}

// in returns s as a source of ns.
func (s *source) in(ns *namespace) reloader.Source {
	return reloader.Source{Kind: s.kind.kind(), Namespace: ns.name, Name: s.name}
}

// node is one workload. All but sources is immutable once the node is in the
// Index, so that it may be read without the lock.
type node struct {
	workload   reloader.Workload
	policy     *policy.Policy
	references []reference
	// reach stands for all that follows and the policy of a workload that is kept
	// by name; nil for others.
	reach *reach
	// sources are the exact ones, sorted; guarded by the lock of the Index.
	sources []*source
}

// reference is a reloader.Reference at half the size. Ten thousand workloads
// make tens of thousands of them, whose containers share a few names.
type reference struct {
	name      string
	container unique.Handle[string]
	keys      []string
	how       way
	kind      sourceKind
	init      bool
	optional  bool
}

// way is the place of a reloader.How in ways.
type way uint8

func ways() [8]reloader.How {
	return [...]reloader.How{
		reloader.HowEnv, reloader.HowEnvFrom, reloader.HowVolume, reloader.HowProjected, reloader.HowCSI,
		reloader.HowImagePull, reloader.HowNodePublish, reloader.HowVolumePlugin,
	}
}

func toWay(how reloader.How) (way, bool) {
	for i, known := range ways() {
		if how == known {
			return way(i), true
		}
	}
	return 0, false
}

func (w way) how() reloader.How {
	return ways()[w]
}

// newNode returns the node of e and the exact sources that it depends on,
// sorted and without a duplicate. A reference without a name, or of a kind or
// a way of use that is not in package reloader, is dropped.
func newNode(w reloader.Workload, e Entry, s policy.Settings) (*node, []dependency) {
	n := &node{workload: w, policy: e.Policy}
	if len(e.References) > 0 {
		n.references = make([]reference, 0, len(e.References))
	}
	for _, ref := range e.References {
		kind, knownKind := toSourceKind(ref.Kind)
		how, knownHow := toWay(ref.How)
		if ref.Name == "" || !knownKind || !knownHow {
			continue
		}
		n.references = append(n.references, reference{
			name:      ref.Name,
			container: unique.Make(ref.Container),
			keys:      slices.Clone(ref.Keys),
			how:       how,
			kind:      kind,
			init:      ref.Init,
			optional:  ref.Optional,
		})
	}
	return n, n.dependencies(s)
}

// dependencies returns the exact sources that n depends on: those that it
// references in a way that its policy follows, and those that its policy
// names. What the policy excludes is not among them.
func (n *node) dependencies(s policy.Settings) []dependency {
	if n.policy == nil || !n.policy.Active() {
		return nil
	}
	var found []dependency
	add := func(kind sourceKind, name string) {
		if !n.policy.Excludes(kind.kind(), name) {
			found = append(found, dependency{kind: kind, name: name})
		}
	}
	for i := range n.references {
		ref := &n.references[i]
		if s.Follows(ref.how.how()) && n.policy.Follows(ref.kind.kind()) {
			add(ref.kind, ref.name)
		}
	}
	for kind := range sourceKind(sourceKinds) {
		for _, name := range n.policy.Names(kind.kind()) {
			add(kind, name)
		}
	}
	slices.SortFunc(found, dependency.compare)
	return slices.Compact(found)
}

// source returns the exact source d of n; nil if n does not depend on it.
func (n *node) source(d dependency) *source {
	i, found := slices.BinarySearchFunc(n.sources, d, func(s *source, d dependency) int {
		return s.compare(d)
	})
	if !found {
		return nil
	}
	return n.sources[i]
}

// shareNames makes the references of n use the names of its sources, so that
// a name that many workloads reference is kept once.
func (n *node) shareNames() {
	for i := range n.references {
		ref := &n.references[i]
		if s := n.source(dependency{kind: ref.kind, name: ref.name}); s != nil {
			ref.name = s.name
		}
	}
}

// entry returns n as an Entry of its own.
func (n *node) entry() Entry {
	e := Entry{Policy: n.policy}
	if len(n.references) > 0 {
		e.References = make([]reloader.Reference, len(n.references))
	}
	for i, ref := range n.references {
		e.References[i] = reloader.Reference{
			Kind:      ref.kind.kind(),
			Name:      ref.name,
			Container: ref.container.Value(),
			Init:      ref.init,
			How:       ref.how.how(),
			Keys:      slices.Clone(ref.keys),
			Optional:  ref.optional,
		}
	}
	return e
}

// referencesTo reports whether n references the source in a way that s follows.
func (n *node) referencesTo(kind sourceKind, name string, s policy.Settings) bool {
	return slices.ContainsFunc(n.references, func(ref reference) bool {
		return ref.kind == kind && ref.name == name && s.Follows(ref.how.how())
	})
}

// patterns returns the patterns of n's policy for that kind.
func (n *node) patterns(kind sourceKind) pattern.Set {
	if n.policy == nil {
		return pattern.Set{}
	}
	return n.policy.Patterns(kind.kind())
}

// compareNodes orders the nodes of one namespace by kind and name.
func compareNodes(a, b *node) int {
	return cmp.Or(
		cmp.Compare(a.workload.Kind, b.workload.Kind),
		strings.Compare(a.workload.Name, b.workload.Name),
	)
}

// insertNode returns nodes with n in its place.
func insertNode(nodes []*node, n *node) []*node {
	i, found := slices.BinarySearchFunc(nodes, n, compareNodes)
	if found {
		nodes[i] = n
		return nodes
	}
	return slices.Insert(nodes, i, n)
}

// removeNode returns nodes without n; nil when it was the last.
func removeNode(nodes []*node, n *node) []*node {
	i, found := slices.BinarySearchFunc(nodes, n, compareNodes)
	if !found {
		return nodes
	}
	if len(nodes) == 1 {
		return nil
	}
	return slices.Delete(nodes, i, i+1)
}
