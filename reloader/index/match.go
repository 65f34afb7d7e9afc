package index

import (
	"slices"
	"sort"
	"strings"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/pattern"
)

// patterns are those of one kind in a namespace. Everything in it is guarded by
// the lock of the Index.
type patterns struct {
	// sets in the order in which they came in, which is that of their numbers;
	// equal lists are one.
	sets   []*patternSet
	byText map[pattern.Set]*patternSet
	last   uint64
	// known is what names match, as far as there is memory for it.
	known map[string]Matches
	// gone counts the sets that were taken out since known was last cleared of
	// them.
	gone int
	// bytes and compiled estimate the memory of known and of the matchers.
	bytes, compiled int
}

// patternSet is one list of patterns and the workloads that have it.
type patternSet struct {
	text   pattern.Set
	number uint64
	// What follows is guarded by the lock of the Index.
	nodes   []*node          // in the order of compareNodes; none: it is gone
	matcher *pattern.Matcher // nil if it has to be compiled (again)
}

// Matches is which patterns of its namespace match a source, as far as they have
// been tried. The zero value is that none has been.
type Matches struct {
	tried uint64 // the sets up to this number
	sets  []*patternSet
}

// live reports whether a workload has patterns that match. The lock is held.
func (m Matches) live() bool {
	return slices.ContainsFunc(m.sets, func(set *patternSet) bool { return len(set.nodes) > 0 })
}

// all reports whether all patterns have been tried. The lock is held.
func (p *patterns) all(m Matches) bool {
	return len(p.sets) == 0 || p.sets[len(p.sets)-1].number <= m.tried
}

const (
	// maxMemory bounds what is remembered of patterns: half for the results of
	// names, half for compiled sets. Namespaces with patterns share it alike,
	// each has at most maxShare, and at least enough for the work at hand.
	maxMemory = 16 << 20
	maxShare  = 1 << 20
	minShare  = 8 << 10
	// perName is what is remembered of a name besides the name.
	perName = 128
	// bytesPerStep is how many bytes of a program are compiled in the time of a
	// step, and trialSteps what a trial costs besides.
	bytesPerStep = 8
	trialSteps   = 16
	// maxGone is how many sets that were taken out known may hold on to, each with
	// a text of up to pattern.MaxText.
	maxGone = 16
	// maxTrials is how many sets one Match tries at most.
	maxTrials = 256
)

// share is what a namespace may have remembered of one kind. The lock is held.
func (x *Index) share() int {
	return min(max(maxMemory/2/sourceKinds/max(x.patterned, 1), minShare), maxShare)
}

// trial is a set to try, with its matcher if that is at hand.
type trial struct {
	set     *patternSet
	matcher *pattern.Matcher
}

// Match finds out which patterns match s, as far as that has not been done, in
// about so many steps: one more pattern list is begun as long as they are not
// spent. It returns what is known now, the steps that it has taken, and whether
// that is all; if not, another call goes on from there. It must not be called
// under a lock: it runs regular expressions of strangers.
func (x *Index) Match(s reloader.Source, steps int) (m Matches, spent int, complete bool) {
	kind, ok := toSourceKind(s.Kind)
	if !ok {
		return Matches{}, 0, true
	}
	m, trials, complete := x.untried(kind, s)
	if len(trials) == 0 {
		return m, 0, true
	}
	for i, t := range trials {
		if spent >= steps {
			complete = false
			trials = trials[:i]
			break
		}
		if t.matcher == nil {
			t.matcher = t.set.text.Compile()
			spent += CompileSteps(t.matcher)
			trials[i].matcher = t.matcher
		}
		spent += TrialSteps(t.matcher, s.Name)
		if t.matcher.Match(s.Name) {
			m.sets = append(m.sets, t.set)
		}
		m.tried = t.set.number
	}
	if len(trials) > 0 {
		x.remember(kind, s, m, trials)
	}
	return m, spent, complete
}

// CompileSteps is what it takes to compile the patterns of a matcher, in the steps
// of Match.
func CompileSteps(m *pattern.Matcher) int { return m.Bytes() / bytesPerStep }

// TrialSteps is what it takes to try them on a name.
func TrialSteps(m *pattern.Matcher, name string) int { return trialSteps + m.Cost(name) }

// untried returns what is known of s, and sets that have not been tried: all if
// complete is true.
func (x *Index) untried(kind sourceKind, s reloader.Source) (m Matches, trials []trial, complete bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns := x.namespaces[s.Namespace]
	if ns == nil || len(ns.patterns[kind].sets) == 0 {
		return Matches{}, nil, true
	}
	p := &ns.patterns[kind]
	m = p.known[s.Name]
	m.sets = slices.Clip(m.sets)
	first := sort.Search(len(p.sets), func(i int) bool { return p.sets[i].number > m.tried })
	rest := p.sets[first:]
	for _, set := range rest[:min(len(rest), maxTrials)] {
		trials = append(trials, trial{set, set.matcher})
	}
	return m, trials, len(trials) == len(rest)
}

// remember keeps what has been found out of s, and what was compiled for it, in
// place of something else of the same namespace if there is no room.
func (x *Index) remember(kind sourceKind, s reloader.Source, m Matches, trials []trial) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespaces[s.Namespace]
	if ns == nil || len(ns.patterns[kind].sets) == 0 {
		return
	}
	p, share := &ns.patterns[kind], x.share()
	for _, t := range trials {
		p.keep(t, share)
	}
	// What was tried last is there still, so it is the same namespace.
	last := trials[len(trials)-1].set
	if p.byText[last.text] == last && m.tried > p.known[s.Name].tried {
		p.know(s.Name, m, share)
	}
}

// keep keeps a matcher, unless it is larger than the share.
func (p *patterns) keep(t trial, share int) {
	size := t.matcher.Bytes()
	if t.set.matcher != nil || p.byText[t.set.text] != t.set || size > share {
		return
	}
	if p.compiled+size > share {
		for _, set := range p.sets {
			set.matcher = nil
		}
		p.compiled = 0
	}
	t.set.matcher = t.matcher
	p.compiled += size
}

// know keeps what a name matches, in place of others if need be.
func (p *patterns) know(name string, m Matches, share int) {
	p.forget(name)
	// Which others is left to the map: whoever asks again has them back.
	for other := range p.known {
		if p.bytes+sizeOf(name, m) <= share {
			break
		}
		p.forget(other)
	}
	if p.known == nil {
		p.known = make(map[string]Matches)
	}
	p.known[strings.Clone(name)] = m
	p.bytes += sizeOf(name, m)
}

func (p *patterns) forget(name string) {
	if m, ok := p.known[name]; ok {
		p.bytes -= sizeOf(name, m)
		delete(p.known, name)
	}
}

func sizeOf(name string, m Matches) int { return perName + len(name) + 8*len(m.sets) }

// Matched reports whether the patterns of w are among m, what s in the namespace
// of w matches, or w is kept by name and may depend on s.
func (x *Index) Matched(w reloader.Workload, s reloader.Source, m Matches) bool {
	n, kind, ok := x.node(w), sourceKind(0), false
	if n != nil {
		kind, ok = toSourceKind(s.Kind)
	}
	if x.reached(n, s) {
		return true
	}
	return ok && slices.ContainsFunc(m.sets, func(set *patternSet) bool { return set.text == n.patterns(kind) })
}

// addPatterns puts n among those that have the patterns. The lock is held.
func (x *Index) addPatterns(ns *namespace, kind sourceKind, text pattern.Set, n *node) {
	p := &ns.patterns[kind]
	set := p.byText[text]
	if set == nil {
		if !ns.hasPatterns() {
			x.patterned++
		}
		if p.byText == nil {
			p.byText = make(map[pattern.Set]*patternSet)
		}
		p.last++
		set = &patternSet{text: text, number: p.last}
		p.byText[text] = set
		p.sets = append(p.sets, set)
	}
	set.nodes = insertNode(set.nodes, n)
}

// removePatterns takes n out of those that have the patterns. The lock is held.
func (x *Index) removePatterns(ns *namespace, kind sourceKind, text pattern.Set, n *node) {
	p := &ns.patterns[kind]
	set := p.byText[text]
	if set == nil {
		return
	}
	if set.nodes = removeNode(set.nodes, n); len(set.nodes) > 0 {
		return
	}
	delete(p.byText, text)
	p.sets = slices.DeleteFunc(p.sets, func(other *patternSet) bool { return other == set })
	if set.matcher != nil {
		p.compiled -= set.matcher.Bytes()
		set.matcher = nil
	}
	if len(p.sets) == 0 {
		// Numbers go on, so that what was known before counts for nothing.
		*p = patterns{last: p.last}
		if !ns.hasPatterns() {
			x.patterned--
		}
		return
	}
	if p.gone++; p.gone >= maxGone {
		p.clearGone()
	}
}

// clearGone takes out of what is known the sets that are gone. Callers may still
// use what they have of it.
func (p *patterns) clearGone() {
	p.gone = 0
	gone := func(set *patternSet) bool { return len(set.nodes) == 0 }
	for name, m := range p.known {
		if slices.ContainsFunc(m.sets, gone) {
			p.bytes -= sizeOf(name, m)
			m.sets = slices.DeleteFunc(slices.Clone(m.sets), gone)
			p.known[name] = m
			p.bytes += sizeOf(name, m)
		}
	}
}

func (ns *namespace) hasPatterns() bool {
	return slices.ContainsFunc(ns.patterns[:], func(p patterns) bool { return len(p.sets) > 0 })
}
