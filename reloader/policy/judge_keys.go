package policy

import (
	"slices"
	"strings"

	"k8s-reloader/reloader"
)

const (
	// domain is where keys belong to the product: itself and what is below it.
	domain = "reloader.stakater.com"

	// maxUnknown is how many unknown keys of one map are told, and maxSuggested
	// the length of those for which it is searched what they were meant to be.
	maxUnknown   = 100
	maxSuggested = 128

	// maxShown is how much of a suggested key is shown: all of every usual one.
	maxShown = 64
)

// JudgeSource returns what is wrong or odd about the labels and annotations of
// a source, sorted as those of Judge. It needs no content, and takes none.
func JudgeSource(kind reloader.SourceKind, labels, annotations map[string]string, s Settings) []reloader.Problem {
	j := judge{Settings: s}
	p := place{field: "metadata.annotations", annotations: annotations}
	for _, key := range []string{s.Keys.Match, s.Keys.Ignore} {
		j.exactlyTrue(p, key)
		if _, ok := annotations[key]; ok && kind == reloader.SecretProviderClass && !s.CSI {
			j.add(reloader.Notice, reloader.ReasonCSIOff, p.field, key, p.key(key),
				fixed(" does nothing without --enable-csi-integration"))
		}
	}
	for _, key := range workloadKeys(s.Keys) {
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
	j.unknown(p, []string{s.Keys.Match, s.Keys.Ignore})
	j.labels("metadata.labels", labels)
	return j.sorted()
}

// workloadKeys are the keys that people write on workloads.
func workloadKeys(k Keys) []string {
	keys := []string{k.Auto, k.Search}
	for _, kind := range reloader.SourceKinds() {
		keys = append(keys, k.TypedAuto(kind), k.Named(kind), k.Exclude(kind))
	}
	return append(keys, k.RolloutStrategy, k.PausePeriod, k.CoalesceWindow)
}

// known returns every key.
func (k Keys) known() map[string]struct{} {
	all := append(workloadKeys(k), k.Match, k.Ignore, k.PausedAt, k.LastReloadedFrom, k.Index)
	known := make(map[string]struct{}, len(all))
	for _, key := range all {
		if key != "" {
			known[key] = struct{}{}
		}
	}
	return known
}

// underDomain reports whether a key looks like one of ours.
func underDomain(key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return prefix == domain || strings.HasSuffix(prefix, "."+domain)
}

// unknown judges keys that look like ours and are not. The candidates are
// what they may have been meant to be.
func (j *judge) unknown(p place, candidates []string) {
	known := j.Keys.known()
	var unknown []string
	for key := range p.annotations {
		if _, ok := known[key]; !ok && underDomain(key) {
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
	for key := range j.Keys.known() {
		if _, ok := labels[key]; ok {
			j.add(reloader.Doubtful, reloader.ReasonKeyAsLabel, field, key, raw(key),
				fixed(" does nothing as a label: write it as an annotation"))
		}
	}
}
