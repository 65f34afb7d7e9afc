package policy

import (
	"slices"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// Faults returns what is broken about the annotations of a workload: values
// that cannot be used, so that something the user asked for does not happen,
// and entries of lists that do nothing, or hardly what they were written for.
// They are those of Judge that need nothing but annotations; of the template's,
// what Keys.TemplateSubset keeps is enough. Most workloads have none, and cost
// no more than a few look-ups; of many patterns in one, or large ones, not all are
// judged, since this runs for each event of a workload.
func Faults(kind reloader.WorkloadKind, metadata, template map[string]string, s Settings) []reloader.Problem {
	if !canBreak(metadata, s.Keys) && !canBreak(template, s.Keys) {
		return nil
	}
	j := judge{Settings: s, limited: true, effort: maxEffort}
	problems := j.workload(Subject{Kind: kind, Annotations: metadata, TemplateAnnotations: template})
	problems = slices.DeleteFunc(problems, func(p reloader.Problem) bool { return !isFault(p) })
	return slices.Clip(problems)
}

// maxEffort is what Faults spends on patterns at most, about a millisecond: that of
// seventy ordinary ones.
const (
	maxEffort  = 3_000
	perPattern = 30
)

func isFault(p reloader.Problem) bool {
	ofEntry := []reloader.Reason{reloader.ReasonEntryNeverMatches, reloader.ReasonEntryDoubtful, reloader.ReasonExcludeNotExact}
	if slices.Contains(ofEntry, p.Reason) {
		return p.Severity >= reloader.Doubtful
	}
	return p.Severity == reloader.Broken
}

// canBreak reports whether one of the annotations has a value that need not be
// usable.
func canBreak(annotations map[string]string, k annotation.Keys) bool {
	for a := range k.All() {
		if a.Role != annotation.List && a.Role != annotation.Setting {
			continue
		}
		if _, ok := annotations[a.Key]; ok {
			return true
		}
	}
	return false
}
