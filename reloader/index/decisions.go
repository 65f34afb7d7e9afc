package index

import (
	"iter"

	"k8s-reloader/reloader"
)

// Decisions returns what every workload that may depend on s decides about a
// change of it, sorted by kind and name: those for which Dependents says yes,
// and those that have it in a list or a reference and yet say no. Others, whose
// policy rules s out whatever its annotations, are not in the index for it. Those
// that are kept by name and may depend on s say yes, without a reason. m is what
// Match has returned.
func (x *Index) Decisions(s reloader.Source, m Matches, annotations map[string]string) iter.Seq2[reloader.Workload, reloader.Decision] {
	return func(yield func(reloader.Workload, reloader.Decision) bool) {
		kind, ok := toSourceKind(s.Kind)
		if !ok {
			return
		}
		for _, n := range x.candidates(kind, s, m) {
			if !yield(n.workload, x.decide(n, kind, s, annotations)) {
				return
			}
		}
	}
}
