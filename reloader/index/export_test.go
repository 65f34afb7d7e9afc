package index

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"k8s-reloader/reloader"
)

// Namespaces returns the namespaces that hold workloads, sorted.
func (x *Index) Namespaces() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Sorted(maps.Keys(x.namespaces))
}

// Sources returns all exact sources on which a workload depends, sorted by
// namespace, then kind and name. Each namespace is a snapshot of its own. The
// Index may be used, and changed, during the iteration.
func (x *Index) Sources() iter.Seq[reloader.Source] {
	return func(yield func(reloader.Source) bool) {
		for _, name := range x.Namespaces() {
			for _, s := range x.sourcesIn(name) {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// sourcesIn returns the exact sources of one namespace, sorted.
func (x *Index) sourcesIn(name string) []reloader.Source {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns := x.namespaces[name]
	if ns == nil {
		return nil
	}
	var sources []reloader.Source
	for kind := range ns.sources {
		from := len(sources)
		for _, s := range ns.sources[kind] {
			sources = append(sources, s.in(ns))
		}
		slices.SortFunc(sources[from:], func(a, b reloader.Source) int {
			return strings.Compare(a.Name, b.Name)
		})
	}
	return sources
}
