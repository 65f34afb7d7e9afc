package policy

import (
	"slices"
	"strings"

	"k8s-reloader/reloader"
)

// named judges the named list of one kind, in the place that speaks for it.
func (j *judge) named(p place, kind reloader.SourceKind, metadata place) {
	var (
		key      = j.Keys.Named(kind)
		list     = p.annotations[key]
		excluded = names(p.annotations[j.Keys.Exclude(kind)], metadata.annotations[j.Keys.Exclude(kind)])
		told     = 0
	)
	tell := func(severity reloader.Severity, reason reloader.Reason, message ...part) {
		if told++; told <= maxPerList {
			j.add(severity, reason, p.field, key, append([]part{p.key(key)}, message...)...)
		}
	}
	for _, entry := range names(list) {
		switch _, both := slices.BinarySearch(excluded, entry); {
		case both && isName(entry):
			tell(reloader.Broken, reloader.ReasonNamedAndExcluded, fixed(" names "), quoted(entry),
				fixed(", which the exclude list of its kind excludes: remove one"))
		case entry == "*":
			tell(reloader.Doubtful, reloader.ReasonEntryNeverMatches, fixed(`: "*" never matches: write ".*" for every name`))
		case neverMatches(entry):
			tell(reloader.Doubtful, reloader.ReasonEntryNeverMatches, fixed(": "), quoted(entry),
				fixed(" never matches: leave out the namespace"))
		}
	}
	crowded := false
	parseList(list, func(entry string, why entryFault) {
		switch {
		case entry == "*":
		case why == entryBroken:
			tell(reloader.Broken, reloader.ReasonEntryInvalid, fixed(": "), quoted(entry),
				fixed(" is no regular expression and is skipped: correct it"))
		case why == entryTooLong:
			tell(reloader.Broken, reloader.ReasonTooManyPatterns, fixed(": "), quoted(entry),
				fixed(" "+why.String()+" and is skipped: shorten it"))
		case !crowded:
			crowded = true
			tell(reloader.Broken, reloader.ReasonTooManyPatterns, fixed(": "), quoted(entry),
				fixed(" "+why.String()+" and is skipped: simplify the list"))
		}
	})
}

// excluded judges the exclude list of one kind.
func (j *judge) excluded(p place, kind reloader.SourceKind) {
	key, told := j.Keys.Exclude(kind), 0
	for _, entry := range names(p.annotations[key]) {
		if told >= maxPerList {
			return
		}
		switch {
		case strings.Contains(entry, "/"):
			j.add(reloader.Doubtful, reloader.ReasonEntryNeverMatches, p.field, key, p.key(key), fixed(": "), quoted(entry),
				fixed(" excludes nothing: leave out the namespace"))
			told++
		case !isName(entry):
			j.add(reloader.Doubtful, reloader.ReasonExcludeNotExact, p.field, key, p.key(key), fixed(": "), quoted(entry),
				fixed(" is no exact name, excludes nothing: write full names"))
			told++
		}
	}
}

// neverMatches reports whether an entry is a name with a namespace.
func neverMatches(entry string) bool {
	return strings.Contains(entry, "/") && isName(entry)
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

// collisions judges sources whose environment variables have the same name,
// among those of one kind that can reload the workload.
func (j *judge) collisions(field string, kind reloader.SourceKind, used []string) {
	first := make(map[string]string, len(used))
	told := 0
	for _, name := range used {
		i, _ := ordinal(kind)
		r := &j.policy.rules[i]
		if r.excludes(name) || !r.follows() && !r.named().matches(name) {
			continue
		}
		env := EnvName(kind, name)
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
