package index

import "k8s-reloader/reloader"

// Named reports whether a workload references s or has its name in a list. What
// only patterns match is not named.
func (x *Index) Named(s reloader.Source) bool {
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
	_, named := ns.sources[kind][s.Name]
	return named
}
