package kind

import "k8s-reloader/reloader"

// Set is the kinds of workload that a program knows, in a fixed order. It is
// built once, where the program starts, and never changes.
type Set struct{ kinds []Kind }

// NewSet returns the set of these kinds. If two have one name, the first counts.
func NewSet(kinds ...Kind) Set { return Set{kinds} }

// BuiltIn returns the kinds that this package knows by itself.
func BuiltIn() Set {
	return NewSet(deployment(), statefulSet(), daemonSet(), cronJob(), job(), rollout(), deploymentConfig())
}

// Jobs returns the kind of the Jobs that reloads start.
func Jobs() Kind { return job() }

// All returns the kinds. The caller may keep and change the slice.
func (s Set) All() []Kind { return append([]Kind(nil), s.kinds...) }

// Empty reports whether the set is the zero value or has no kind.
func (s Set) Empty() bool { return len(s.kinds) == 0 }

// ByName returns the kind with that name.
func (s Set) ByName(name reloader.WorkloadKind) (Kind, bool) {
	for i := range s.kinds {
		if s.kinds[i].Name == name {
			return s.kinds[i], true
		}
	}
	return Kind{}, false
}

// ByGroupKind returns the kind with that API group and kind, whatever the
// version.
func (s Set) ByGroupKind(group, name string) (Kind, bool) {
	k, ok := s.ByName(reloader.WorkloadKind(name))
	if !ok || k.Resource.Group != group {
		return Kind{}, false
	}
	return k, true
}
