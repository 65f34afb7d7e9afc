package policy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// Subject is what Judge needs of a workload.
type Subject struct {
	Kind        reloader.WorkloadKind
	Labels      map[string]string
	Annotations map[string]string
	// Template is the JSON path of the pod template; empty: spec.template.
	Template            string
	TemplateLabels      map[string]string
	TemplateAnnotations map[string]string
	// References of the pod template, in any order.
	References []reloader.Reference
	// Borrows is true if the pod template is another workload's, so that its
	// references are not known here.
	Borrows bool
	// OnDelete is true if the controller replaces no pod by itself.
	OnDelete bool
}

// argoRollout is the only kind that has a rollout strategy of its own.
const argoRollout = reloader.Rollout

// maxPerList bounds the reported entries of one list.
const maxPerList = 20

// Judge returns the problems of a workload, the worst first, then by field and key. The result is the same for the same input, and bounded.
func Judge(w Subject, s Settings) []reloader.Problem {
	return (&judge{Settings: s}).workload(w)
}

func (j *judge) workload(w Subject) []reloader.Problem {
	j.policy = Parse(w.Annotations, w.TemplateAnnotations, j.Settings)
	s := j.Settings
	path := cmp.Or(w.Template, "spec.template")
	metadata := place{field: "metadata.annotations", annotations: w.Annotations}
	template := place{field: path + ".metadata.annotations", annotations: w.TemplateAnnotations, template: true}
	for i, kind := range reloader.SourceKinds() {
		if speaks(w.Annotations, kind, s.Keys) {
			metadata.speaks[i] = true
		} else {
			template.speaks[i] = true
		}
	}
	for _, p := range []place{metadata, template} {
		j.switches(p)
		j.contradictions(p)
		for i, kind := range reloader.SourceKinds() {
			if p.speaks[i] {
				j.named(p, kind, metadata)
			}
			if p.speaks[i] || !p.template {
				j.excluded(p, kind)
			}
		}
		j.sourceKeys(p, w.Kind)
		j.pausePeriod(p, w.Kind)
		j.coalesceWindow(p, w.Kind)
		j.rolloutStrategy(p, w.Kind)
		j.csiOff(p)
		j.unknown(p, s.Keys.On(annotation.Workload))
	}
	j.hidden(metadata, template)
	j.labels("metadata.labels", w.Labels)
	j.labels(path+".metadata.labels", w.TemplateLabels)
	if !w.Borrows {
		j.references(path, w, metadata, template)
	}
	if w.Kind == reloader.CronJob {
		j.handedOn(template)
	}
	if w.OnDelete && j.policy.Active() {
		j.add(reloader.Notice, reloader.ReasonOnDelete, "spec.updateStrategy.type", "",
			fixed("updateStrategy OnDelete: a reload changes the template only, delete the pods for them to follow"))
	}
	return j.sorted()
}

// Introduced returns the problems that are in after and not in before: those that
// a request adds.
//
// A list reports only its first problems, and which ones depends on all of its
// entries. So in a list that was full of problems before, nothing counts as new, nor
// does an excess of entries that was there before: else a user who fixes a part of
// the list would be denied for its rest. The same holds for unknown keys of a map.
func Introduced(before, after []reloader.Problem) []reloader.Problem {
	type list struct{ field, key string }
	old := make(map[reloader.Problem]struct{}, len(before))
	told, unknown := make(map[list]int), make(map[string]int)
	for _, p := range before {
		old[identity(p)] = struct{}{}
		told[list{p.Field, p.Key}]++
		if p.Reason == reloader.ReasonKeyUnknown {
			unknown[p.Field]++
		}
	}
	var introduced []reloader.Problem
	for _, p := range after {
		full := told[list{p.Field, p.Key}] >= maxPerList || p.Reason == reloader.ReasonKeyUnknown && unknown[p.Field] >= maxUnknown
		if _, ok := old[identity(p)]; !ok && !full {
			introduced = append(introduced, p)
		}
	}
	return introduced
}

// identity is what a problem has in common with itself after an edit.
func identity(p reloader.Problem) reloader.Problem {
	if p.Reason == reloader.ReasonTooManyPatterns {
		p.Message = "" // names the entry at which the bound was met
	}
	return p
}

// judge collects problems.
type judge struct {
	Settings
	policy *Policy // nil for a source
	// limited is true if no more effort than is left may be spent on whether
	// patterns match anything, in instructions that they compile to.
	limited  bool
	effort   int
	problems []reloader.Problem
}

// place is one map of annotations.
type place struct {
	field       string
	annotations map[string]string
	template    bool
	// speaks says for which kinds of source these annotations decide.
	speaks [kinds]bool
}

func (p place) speaksAtAll() bool { return p.speaks != [kinds]bool{} }

// key shows a key, and where it stands unless that is obvious.
func (p place) key(key string) part {
	if p.template {
		return raw("template's " + key)
	}
	return raw(key)
}

func (j *judge) add(severity reloader.Severity, reason reloader.Reason, field, key string, message ...part) {
	j.problems = append(j.problems, reloader.Problem{
		Severity: severity, Reason: reason, Field: field, Key: key, Message: line(message...),
	})
}

func (j *judge) sorted() []reloader.Problem {
	slices.SortFunc(j.problems, func(a, b reloader.Problem) int {
		return cmp.Or(
			cmp.Compare(b.Severity, a.Severity),
			strings.Compare(a.Field, b.Field),
			strings.Compare(a.Key, b.Key),
			strings.Compare(string(a.Reason), string(b.Reason)),
			strings.Compare(a.Message, b.Message),
		)
	})
	return slices.Compact(j.problems)
}

// switches judges the values of auto, the typed ones and search.
func (j *judge) switches(p place) {
	if !p.speaksAtAll() {
		return
	}
	keys := []string{j.Keys.Auto}
	for i, kind := range reloader.SourceKinds() {
		if p.speaks[i] {
			keys = append(keys, j.Keys.TypedAuto(kind))
		}
	}
	for _, key := range keys {
		switch v, ok := p.annotations[key]; {
		case !ok || isTrue(v) || isFalse(v):
		case v != "":
			j.add(reloader.Doubtful, reloader.ReasonValueNotBoolean, p.field, key, p.key(key), fixed(" "), quoted(v),
				fixed(` counts as false, for --auto-reload-all too: write "true" or "false"`))
		case p.template:
			j.add(reloader.Doubtful, reloader.ReasonValueNotBoolean, p.field, key, p.key(key),
				fixed(` "" does nothing: write "true" or "false"`))
		default:
			j.add(reloader.Doubtful, reloader.ReasonValueNotBoolean, p.field, key, p.key(key),
				fixed(` "" opts nothing in, yet hides the template's keys: write "true" or "false"`))
		}
	}
	j.exactlyTrue(p, j.Keys.Search)
}

// exactlyTrue judges a key that only the value "true" switches on.
func (j *judge) exactlyTrue(p place, key string) {
	if v, ok := p.annotations[key]; ok && v != "true" && !isFalse(v) {
		j.add(reloader.Doubtful, reloader.ReasonValueNotBoolean, p.field, key, p.key(key), fixed(" "), quoted(v),
			fixed(` does nothing: write "true"`))
	}
}

// contradictions judges switches that do not do what they seem to say
// together.
func (j *judge) contradictions(p place) {
	if !p.speaksAtAll() {
		return
	}
	auto, search := p.annotations[j.Keys.Auto], p.annotations[j.Keys.Search] == "true"
	if isTrue(auto) && search {
		j.add(reloader.Doubtful, reloader.ReasonAutoBeatsSearch, p.field, j.Keys.Search, p.key(j.Keys.Search),
			fixed(" does not restrict "), raw(j.Keys.Auto), fixed(` "true": remove one of them`))
	}
	stronger := func(key string) {
		j.add(reloader.Doubtful, reloader.ReasonAutoFalseNotOff, p.field, key, raw(j.Keys.Auto),
			fixed(` "false" does not stop `), p.key(key), fixed(": remove one of them"))
	}
	if isFalse(auto) && search {
		stronger(j.Keys.Search)
	}
	for i, kind := range reloader.SourceKinds() {
		if !p.speaks[i] {
			continue
		}
		typed := j.Keys.TypedAuto(kind)
		if isTrue(auto) && isFalse(p.annotations[typed]) {
			j.add(reloader.Doubtful, reloader.ReasonTypedAutoNotOff, p.field, typed, p.key(typed),
				fixed(` "false" does not restrict auto "true": write typed keys only`))
		}
		if isFalse(auto) && isTrue(p.annotations[typed]) {
			stronger(typed)
		}
		if isFalse(auto) && hasEntries(p.annotations[j.Keys.Named(kind)]) {
			stronger(j.Keys.Named(kind))
		}
	}
}

// isFalse reports whether a value means false to every reader.
func isFalse(value string) bool {
	switch value {
	case "0", "f", "F", "false", "FALSE", "False":
		return true
	}
	return false
}

// sourceKeys judges keys on a workload that only mean something on a source.
func (j *judge) sourceKeys(p place, kind reloader.WorkloadKind) {
	if _, ok := p.annotations[j.Keys.Ignore]; ok {
		j.add(reloader.Doubtful, reloader.ReasonKeyMisplaced, p.field, j.Keys.Ignore, p.key(j.Keys.Ignore),
			fixed(" does nothing on a "+string(kind)+": put it on the source, or use an exclude list"))
	}
	if _, ok := p.annotations[j.Keys.Match]; ok {
		j.add(reloader.Doubtful, reloader.ReasonKeyMisplaced, p.field, j.Keys.Match, p.key(j.Keys.Match),
			fixed(" does nothing on a "+string(kind)+": put it on the ConfigMap or Secret"))
	}
}

func (j *judge) pausePeriod(p place, kind reloader.WorkloadKind) {
	key := j.Keys.PausePeriod
	v, ok := p.annotations[key]
	if !ok {
		return
	}
	d, err := time.ParseDuration(v)
	switch {
	case kind != reloader.Deployment:
		j.add(reloader.Doubtful, reloader.ReasonPauseWithoutEffect, p.field, key, p.key(key),
			fixed(" does nothing on a "+string(kind)+", only on a Deployment: remove it"))
	case p.template:
		j.add(reloader.Doubtful, reloader.ReasonPauseWithoutEffect, p.field, key, p.key(key),
			fixed(" does nothing: move it to the Deployment's metadata"))
	case err != nil || d <= 0:
		j.add(reloader.Broken, reloader.ReasonPausePeriodInvalid, p.field, key, raw(key), fixed(" "), quoted(v),
			fixed(` is not a duration above zero: write one such as "5m"`))
	case !j.policy.Active():
		j.add(reloader.Doubtful, reloader.ReasonPauseWithoutEffect, p.field, key, raw(key),
			fixed(" does nothing without an opt-in: add "), raw(j.Keys.Auto), fixed(` "true"`))
	}
}

func (j *judge) rolloutStrategy(p place, kind reloader.WorkloadKind) {
	key := j.Keys.RolloutStrategy
	v, ok := p.annotations[key]
	switch {
	case !ok:
	case kind != argoRollout:
		j.add(reloader.Doubtful, reloader.ReasonStrategyWrongKind, p.field, key, p.key(key),
			fixed(" does nothing on a "+string(kind)+", only on an Argo Rollout: remove it"))
	case p.template:
		j.add(reloader.Doubtful, reloader.ReasonKeyMisplaced, p.field, key, p.key(key),
			fixed(" does nothing: move it to the Rollout's metadata"))
	case v != "rollout" && v != "restart":
		j.add(reloader.Broken, reloader.ReasonStrategyUnknown, p.field, key, raw(key), fixed(" "), quoted(v),
			fixed(` is unknown: write "rollout" or "restart"`))
	}
}

func (j *judge) csiOff(p place) {
	if j.CSI {
		return
	}
	for a := range j.Keys.All() {
		if _, ok := p.annotations[a.Key]; ok && a.Source == reloader.SecretProviderClass {
			j.add(reloader.Notice, reloader.ReasonCSIOff, p.field, a.Key, p.key(a.Key),
				fixed(" does nothing without --enable-csi-integration"))
		}
	}
}

// hidden judges keys of the template that those of the metadata silence. A
// key that says the same in both places loses nothing.
func (j *judge) hidden(metadata, template place) {
	tell := func(key string) {
		v, ok := template.annotations[key]
		if own, both := metadata.annotations[key]; !ok || both && own == v {
			return
		}
		j.add(reloader.Doubtful, reloader.ReasonTemplateHidden, template.field, key, template.key(key),
			fixed(" is hidden by the keys on the workload: move it there"))
	}
	for a := range j.Keys.All() {
		if i, one := ordinal(a.Source); a.On(annotation.Template) && (one && metadata.speaks[i] || !one && metadata.speaksAtAll()) {
			tell(a.Key)
		}
	}
}
