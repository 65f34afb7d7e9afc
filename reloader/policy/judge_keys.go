package policy

import (
	"slices"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

const (
	// maxUnknown bounds the reported unknown keys of one map, and maxSuggested the
	// length of keys for which a similar key is suggested.
	maxUnknown   = 100
	maxSuggested = 128

	// maxShown is how much of a suggested key is shown: all of every usual one.
	maxShown = 64
)

// JudgeSource returns the problems of the labels and annotations of a source, in the
// order of Judge. It needs no content.
func JudgeSource(kind reloader.SourceKind, labels, annotations map[string]string, s Settings) []reloader.Problem {
	j := judge{Settings: s}
	p := place{field: "metadata.annotations", annotations: annotations}
	own := s.Keys.On(annotation.Source)
	for _, key := range own {
		j.exactlyTrue(p, key)
		if _, ok := annotations[key]; ok && kind == reloader.SecretProviderClass && !s.CSI {
			j.add(reloader.Notice, reloader.ReasonCSIOff, p.field, key, p.key(key),
				fixed(" does nothing without --enable-csi-integration"))
		}
	}
	for _, key := range s.Keys.On(annotation.Workload) {
		if _, ok := annotations[key]; !ok {
			continue
		}
		instead := fixed(": put it on the workload")
		if key == s.Keys.Search {
			instead = fixed(": write " + line(raw(s.Keys.Match)) + ` "true"`)
		}
		j.add(reloader.Doubtful, reloader.ReasonKeyMisplaced, p.field, key, p.key(key),
			fixed(" does nothing on a "+string(kind)), instead)
	}
	j.unknown(p, own)
	j.labels("metadata.labels", labels)
	return j.sorted()
}

// known returns every key of ours.
func known(k annotation.Keys) map[string]struct{} {
	known := make(map[string]struct{})
	for a := range k.All() {
		if a.Key != "" {
			known[a.Key] = struct{}{}
		}
	}
	return known
}

// Relevant returns a filter for the keys of annotations and labels that have a
// meaning here: those of k, and those that Judge takes for misspelled ones.
func Relevant(k annotation.Keys) func(key []byte) bool {
	known := known(k)
	return func(key []byte) bool {
		if _, ok := known[string(key)]; ok { // makes no string
			return true
		}
		return len(key) >= len(annotation.Domain) && annotation.Ours(string(key))
	}
}

// unknown judges keys that look like ours and are not. The candidates are
// what they may have been meant to be.
func (j *judge) unknown(p place, candidates []string) {
	ours := known(j.Keys)
	var unknown []string
	for key := range p.annotations {
		if _, ok := ours[key]; !ok && annotation.Ours(key) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown[:min(len(unknown), maxUnknown)] {
		advice := []part{fixed(" is unknown and does nothing: correct or remove it")}
		if len(key) <= maxSuggested {
			if meant, ok := nearest(key, candidates); ok {
				advice = []part{fixed(" is unknown: did you mean " + raw(meant).show(maxShown) + "?")}
			}
		}
		j.add(reloader.Doubtful, reloader.ReasonKeyUnknown, p.field, key, append([]part{p.key(key)}, advice...)...)
	}
}

// labels judges keys of ours that were written as labels.
func (j *judge) labels(field string, labels map[string]string) {
	if len(labels) == 0 {
		return
	}
	for key := range known(j.Keys) {
		if _, ok := labels[key]; ok {
			j.add(reloader.Doubtful, reloader.ReasonKeyAsLabel, field, key, raw(key),
				fixed(" does nothing as a label: write it as an annotation"))
		}
	}
}
