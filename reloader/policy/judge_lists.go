package policy

import (
	"slices"
	"strings"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/pattern"
)

// named judges the named list of one kind, in the place that speaks for it.
func (j *judge) named(p place, kind reloader.SourceKind, metadata place) {
	key := j.Keys.Named(kind)
	value, ok := p.annotations[key]
	if !ok {
		return
	}
	var (
		excluded = parseExcludes(nil, p.annotations[j.Keys.Exclude(kind)], metadata.annotations[j.Keys.Exclude(kind)])
		t        = &teller{judge: j, place: p, key: key}
		judged   = map[string]struct{}{}
		beyond   = false
	)
	t.emptyEntries(value, " names nothing")
	skip := func(entry string, why pattern.Fault) {
		switch why {
		case 0:
		case pattern.Broken:
			if entry == "*" {
				t.tell(reloader.Doubtful, reloader.ReasonEntryNeverMatches,
					fixed(`: "*" never matches: write ".*" for every name`))
				return
			}
			t.tell(reloader.Broken, reloader.ReasonEntryInvalid, fixed(": "), quoted(entry),
				fixed(" is no regular expression and is skipped: "), fixed(mend(entry)))
		case pattern.TooLong:
			t.tell(reloader.Broken, reloader.ReasonTooManyPatterns, fixed(": "), quoted(entry),
				fixed(" "+why.String()+" and is skipped: shorten it"))
		default:
			// One message about entries beyond a bound is enough.
			if !beyond {
				beyond = true
				t.tell(reloader.Broken, reloader.ReasonTooManyPatterns, fixed(": "), quoted(entry),
					fixed(" "+why.String()+" and is skipped: simplify the list"))
			}
		}
	}
	parseList(value, func(entry string, why pattern.Fault) {
		if why != 0 {
			skip(entry, why)
			return
		}
		if _, again := judged[entry]; again || t.full() {
			return
		}
		judged[entry] = struct{}{}
		if _, both := slices.BinarySearch(excluded, entry); both && pattern.IsName(entry) {
			t.tell(reloader.Broken, reloader.ReasonNamedAndExcluded, fixed(" names "), quoted(entry),
				fixed(", which the exclude list of its kind excludes: remove one"))
			return
		}
		t.namedEntry(entry)
	})
}

// excluded judges the exclude list of one kind.
func (j *judge) excluded(p place, kind reloader.SourceKind) {
	key := j.Keys.Exclude(kind)
	value, ok := p.annotations[key]
	if !ok {
		return
	}
	t, beyond := &teller{judge: j, place: p, key: key}, false
	t.emptyEntries(value, " excludes nothing")
	for _, entry := range parseExcludes(func(entry string) {
		if !beyond {
			beyond = true
			t.tell(reloader.Broken, reloader.ReasonTooManyPatterns, fixed(": "), quoted(entry),
				fixed(" "+pattern.Crowded.String()+" and is not excluded: shorten the list"))
		}
	}, value) {
		if t.full() {
			return
		}
		t.excludedEntry(entry)
	}
}

// teller reports the problems of one list, at most maxPerList of them.
type teller struct {
	judge *judge
	place place
	key   string
	told  int
}

func (t *teller) full() bool { return t.told >= maxPerList }

func (t *teller) tell(severity reloader.Severity, reason reloader.Reason, message ...part) {
	if t.full() {
		return
	}
	t.told++
	t.judge.add(severity, reason, t.place.field, t.key, append([]part{t.place.key(t.key)}, message...)...)
}

// references judges what follows from what the pod template uses.
func (j *judge) references(path string, w Subject, metadata, template place) {
	used := make(map[reloader.SourceKind][]string, kinds)
	for _, r := range w.References {
		if j.Follows(r.How) && j.Enabled(r.Kind) {
			used[r.Kind] = append(used[r.Kind], r.Name)
		}
	}
	for _, p := range []place{metadata, template} {
		j.withoutReferences(p, used)
	}
	for _, kind := range reloader.SourceKinds() {
		j.collisions(path+".spec", kind, sortedUnique(used[kind]))
	}
}

func (j *judge) withoutReferences(p place, used map[reloader.SourceKind][]string) {
	if !p.speaksAtAll() {
		return
	}
	if isTrue(p.annotations[j.Keys.Auto]) && len(used) == 0 {
		j.add(reloader.Notice, reloader.ReasonAutoWithoutRefs, p.field, j.Keys.Auto, p.key(j.Keys.Auto),
			fixed(" follows nothing, no source is used: write "), raw(j.Keys.ConfigMapNamed))
		return
	}
	for i, kind := range reloader.SourceKinds() {
		key := j.Keys.TypedAuto(kind)
		if p.speaks[i] && j.Enabled(kind) && isTrue(p.annotations[key]) && len(used[kind]) == 0 {
			j.add(reloader.Notice, reloader.ReasonAutoWithoutRefs, p.field, key, p.key(key),
				fixed(" follows nothing, the template uses no "+string(kind)))
		}
	}
}

// maxMatching bounds the steps that the search for collisions spends on the
// patterns of one list: it is advice, and the patterns are a stranger's.
const maxMatching = 1_000_000

// collisions judges sources whose environment variables have the same name,
// among those of one kind that can reload the workload.
func (j *judge) collisions(field string, kind reloader.SourceKind, used []string) {
	if len(used) < 2 {
		return
	}
	i, _ := ordinal(kind)
	var (
		r     = &j.policy.rules[i]
		first = make(map[string]string, len(used))
		m     = j.policy.Patterns(kind).Compile()
		spent = 0
		told  = 0
	)
	for _, name := range used {
		if r.excludes(name) {
			continue
		}
		if !r.follows() && !r.named().names(name) {
			if spent += m.Cost(name); spent > maxMatching || !m.Match(name) {
				continue
			}
		}
		env := reloader.EnvName(kind, name)
		other, taken := first[env]
		if !taken {
			first[env] = name
			continue
		}
		if told++; told > maxPerList {
			return
		}
		j.add(reloader.Doubtful, reloader.ReasonEnvNamesCollide, field, "", fixed(string(kind)+"s "), quoted(other),
			fixed(" and "), quoted(name), fixed(" share "), raw(env), fixed(": rename one"))
	}
}

// hasEntries reports whether a list has an entry.
func hasEntries(value string) bool {
	return strings.Trim(value, ", \t\r\n") != ""
}
