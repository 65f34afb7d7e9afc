package policy

import (
	"slices"
	"strconv"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/pattern"
)

// Policy is what the annotations of one workload and the settings say, ready
// to decide. It is immutable and may be shared between goroutines.
type Policy struct {
	matchKey, ignoreKey string
	rules               [kinds]rules
}

// kinds is the number of source kinds.
const kinds = 3

// rules are the policy for one kind of source.
type rules struct {
	off    bool // the kind is switched off
	auto   bool // auto or the typed auto is true
	muted  bool // auto or the typed auto is there, and none is true
	all    bool // auto-reload-all applies
	search bool
	lists  *lists // nil if there are none
}

// lists are kept apart because most workloads have none.
type lists struct {
	named    *list
	excluded []string // sorted
}

// ordinal returns the place of a kind in Policy.rules.
func ordinal(kind reloader.SourceKind) (int, bool) {
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

// Parse reads the annotations of a workload and of its pod template (or what
// Keys.TemplateSubset keeps of them). It never fails: entries that cannot be
// used are skipped, and Judge reports them. Nil maps are fine; the maps
// are not kept.
func Parse(metadata, template map[string]string, s Settings) *Policy {
	p := &Policy{matchKey: s.Keys.Match, ignoreKey: s.Keys.Ignore}
	for i, kind := range reloader.SourceKinds() {
		p.rules[i] = parseRules(metadata, template, kind, s)
	}
	return p
}

func parseRules(metadata, template map[string]string, kind reloader.SourceKind, s Settings) rules {
	k := s.Keys
	if !s.Enabled(kind) {
		return rules{off: true}
	}
	speaking, templateExclude := metadata, ""
	if !speaks(metadata, kind, k) {
		speaking, templateExclude = template, template[k.Exclude(kind)]
	}
	auto, typed := speaking[k.Auto], speaking[k.TypedAuto(kind)]
	r := rules{
		auto:   isTrue(auto) || isTrue(typed),
		all:    s.AutoReloadAll && auto == "" && typed == "",
		search: speaking[k.Search] == "true",
	}
	r.muted = !r.auto && (auto != "" || typed != "")
	named := parseList(speaking[k.Named(kind)], nil)
	excluded := parseExcludes(nil, metadata[k.Exclude(kind)], templateExclude)
	if named != nil || excluded != nil {
		r.lists = &lists{named: named, excluded: excluded}
	}
	return r
}

// speaks reports whether annotations decide about a kind of source: by the
// presence of a key, whatever its value.
func speaks(annotations map[string]string, kind reloader.SourceKind, k annotation.Keys) bool {
	for _, key := range [...]string{k.Auto, k.TypedAuto(kind), k.Named(kind), k.Search} {
		if _, ok := annotations[key]; ok {
			return true
		}
	}
	return false
}

// isTrue reads the value of an auto annotation.
func isTrue(value string) bool {
	b, err := strconv.ParseBool(value)
	return err == nil && b
}

// Decide says whether a change of a source reloads the workload. Referenced is true
// if the workload has a reference to it that Settings.Follows. The caller handles
// namespaces, label selectors and ignored workload kinds. It runs the patterns of a
// tenant, so it must not be called under a lock; with known matches, call
// DecideMatched.
func (p *Policy) Decide(kind reloader.SourceKind, name string, sourceAnnotations map[string]string, referenced bool) reloader.Decision {
	return p.DecideMatched(kind, name, sourceAnnotations, referenced, p.MatchesPattern(kind, name))
}

// DecideMatched is Decide, given whether one of Patterns matches the name.
func (p *Policy) DecideMatched(kind reloader.SourceKind, name string, sourceAnnotations map[string]string, referenced, matched bool) reloader.Decision {
	i, ok := ordinal(kind)
	if !ok || p.rules[i].off {
		return no(reloader.ReasonKindOff)
	}
	r := &p.rules[i]
	if sourceAnnotations[p.ignoreKey] == "true" {
		return no(reloader.ReasonIgnored)
	}
	if r.excludes(name) {
		return no(reloader.ReasonExcluded)
	}
	if matched || r.named().names(name) {
		return yes(reloader.ReasonNamed)
	}
	searched := r.search && sourceAnnotations[p.matchKey] == "true"
	switch {
	case searched && referenced:
		return yes(reloader.ReasonSearchMatch)
	case r.auto && referenced:
		return yes(reloader.ReasonAuto)
	case r.all && referenced:
		return yes(reloader.ReasonAutoReloadAll)
	case searched, r.auto, r.all:
		return no(reloader.ReasonNotReferenced)
	case r.search:
		return no(reloader.ReasonNoMatch)
	case r.named() != nil:
		return no(reloader.ReasonNotNamed)
	case r.muted:
		return no(reloader.ReasonAutoOff)
	}
	return no(reloader.ReasonNotOptedIn)
}

func yes(r reloader.Reason) reloader.Decision { return reloader.Decision{Reload: true, Reason: r} }
func no(r reloader.Reason) reloader.Decision  { return reloader.Decision{Reason: r} }

// Equal reports whether two policies say the same.
func (p *Policy) Equal(other *Policy) bool {
	if p == nil || other == nil {
		return p == other
	}
	if p.matchKey != other.matchKey || p.ignoreKey != other.ignoreKey {
		return false
	}
	for i := range p.rules {
		if !p.rules[i].equal(&other.rules[i]) {
			return false
		}
	}
	return true
}

func (r *rules) equal(other *rules) bool {
	a, b := *r, *other
	a.lists, b.lists = nil, nil
	return a == b && r.named().equal(other.named()) && slices.Equal(r.excluded(), other.excluded())
}

// Active reports whether a change of any source can reload the workload.
func (p *Policy) Active() bool {
	for i := range p.rules {
		if p.rules[i].follows() || p.rules[i].named() != nil {
			return true
		}
	}
	return false
}

// Follows reports whether a reference to a source of this kind can be enough
// for a reload: by auto, the typed auto, search or auto-reload-all.
func (p *Policy) Follows(kind reloader.SourceKind) bool {
	i, ok := ordinal(kind)
	return ok && p.rules[i].follows()
}

// Names returns the entries of the named list that mean exactly one name,
// sorted. The caller may keep and change the result.
func (p *Policy) Names(kind reloader.SourceKind) []string {
	if l := p.list(kind); l != nil {
		return slices.Clone(l.literals)
	}
	return nil
}

// Excludes reports whether no change of the source reloads the workload,
// whatever its annotations: its kind is switched off, or its name excluded.
func (p *Policy) Excludes(kind reloader.SourceKind, name string) bool {
	i, ok := ordinal(kind)
	return !ok || p.rules[i].off || p.rules[i].excludes(name)
}

// Patterns returns the entries of the named list that can match more than one
// name.
func (p *Policy) Patterns(kind reloader.SourceKind) pattern.Set {
	if l := p.list(kind); l != nil {
		return l.patterns
	}
	return pattern.Set{}
}

// HasPatterns reports whether the named list has such entries.
func (p *Policy) HasPatterns(kind reloader.SourceKind) bool {
	return !p.Patterns(kind).Empty()
}

// MatchesPattern reports whether such an entry matches the name. It compiles
// them for that one answer.
func (p *Policy) MatchesPattern(kind reloader.SourceKind, name string) bool {
	return p.Patterns(kind).Compile().Match(name)
}

func (p *Policy) list(kind reloader.SourceKind) *list {
	i, ok := ordinal(kind)
	if !ok {
		return nil
	}
	return p.rules[i].named()
}

func (r *rules) follows() bool { return r.auto || r.all || r.search }

func (r *rules) named() *list {
	if r.lists == nil {
		return nil
	}
	return r.lists.named
}

func (r *rules) excluded() []string {
	if r.lists == nil {
		return nil
	}
	return r.lists.excluded
}

func (r *rules) excludes(name string) bool {
	_, found := slices.BinarySearch(r.excluded(), name)
	return found
}
