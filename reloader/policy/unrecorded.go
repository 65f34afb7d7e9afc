package policy

import (
	"reflect"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// Unrecorded returns the problems if the references of a pod template differ from
// those in its index record: the template was changed after the record was made. Both lists are in the order of reference.Of.
func Unrecorded(recorded, actual []reloader.Reference, k annotation.Keys) []reloader.Problem {
	if len(recorded) == 0 && len(actual) == 0 || reflect.DeepEqual(recorded, actual) {
		return nil
	}
	type source struct {
		kind reloader.SourceKind
		name string
	}
	known := make(map[source]struct{}, len(recorded))
	for _, r := range recorded {
		known[source{r.Kind, r.Name}] = struct{}{}
	}
	var j judge
	for _, r := range actual {
		s := source{r.Kind, r.Name}
		if _, ok := known[s]; ok {
			continue
		}
		known[s] = struct{}{}
		j.add(reloader.Notice, reloader.ReasonReferenceUnrecorded, "metadata.annotations", k.Index, fixed(string(r.Kind)+" "),
			quoted(r.Name), fixed(" came in after Reloader's webhook: it counts from the next full pass on"))
	}
	if j.problems == nil {
		j.add(reloader.Notice, reloader.ReasonReferenceUnrecorded, "metadata.annotations", k.Index,
			fixed("the references changed after Reloader's webhook saw them: they count from the next full pass on"))
	}
	return j.sorted()
}
