package policy

import (
	"slices"
	"strings"

	"k8s-reloader/reloader/pattern"
)

// list is a named list, read once. A nil list matches nothing.
type list struct {
	// literals mean exactly themselves; sorted, unique.
	literals []string
	// patterns are the other entries that can be used.
	patterns pattern.Set
}

// entries splits an annotation value at commas and yields the trimmed parts in
// order, without empty ones.
func entries(value string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); part != "" && !yield(part) {
				return
			}
		}
	}
}

// parseList reads a named list. It calls each, unless that is nil, with every
// entry, and with why it is skipped; 0 if it counts. Nothing is compiled here:
// this runs for every event of a workload.
func parseList(value string, each func(entry string, why pattern.Fault)) *list {
	var (
		literals, patterns []string
		names, text, size  int
		tried              map[string]struct{} // patterns so far
	)
	for entry := range entries(value) {
		var why pattern.Fault
		switch {
		case pattern.IsName(entry):
			switch {
			case names >= pattern.MaxNames:
				why = pattern.Crowded
			case pattern.IsLiteral(entry):
				literals = append(literals, entry)
			default:
				patterns = append(patterns, entry)
			}
			names++
		case has(tried, entry):
		case len(entry) > pattern.MaxLength:
			why = pattern.TooLong
		case len(tried) >= pattern.MaxPatterns:
			why = pattern.TooMany
		case text+len(entry) > pattern.MaxText:
			text, why = pattern.MaxText, pattern.TooMuch // and so is all that follows
		default:
			if tried == nil {
				tried = make(map[string]struct{})
			}
			tried[entry] = struct{}{}
			text += len(entry)
			var own int
			if own, why = pattern.Check(entry); why == 0 && size+own > pattern.MaxSizes {
				why = pattern.TooMuch
			}
			if why == 0 {
				size += own
				patterns = append(patterns, entry)
			}
		}
		if each != nil {
			each(entry, why)
		}
	}
	if literals == nil && patterns == nil {
		return nil
	}
	return &list{literals: compact(literals), patterns: pattern.NewSet(patterns)}
}

func has(set map[string]struct{}, entry string) bool {
	_, ok := set[entry]
	return ok
}

// equal reports whether two lists say the same.
func (l *list) equal(other *list) bool {
	if l == nil || other == nil {
		return l == other
	}
	return l.patterns == other.patterns && slices.Equal(l.literals, other.literals)
}

// names reports whether the list has the name itself.
func (l *list) names(name string) bool {
	if l == nil {
		return false
	}
	_, ok := slices.BinarySearch(l.literals, name)
	return ok
}

func sortedUnique(names []string) []string {
	slices.Sort(names)
	return slices.Clip(slices.Compact(names))
}

// compact returns names sorted and without duplicates, in memory of their own:
// they are parts of a long annotation, which must not be kept for their sake.
func compact(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	names = sortedUnique(names)
	text, own := strings.Join(names, ""), make([]string, len(names))
	for i, name := range names {
		own[i], text = text[:len(name)], text[len(name):]
	}
	return own
}

// parseExcludes reads exclude lists, to each of which the bound of names
// applies, and returns the names that are excluded: sorted, unique, nil if
// there are none. It calls skipped, unless that is nil, with the others.
func parseExcludes(skipped func(entry string), values ...string) []string {
	var all []string
	for _, value := range values {
		count := 0
		for entry := range entries(value) {
			if count++; count <= pattern.MaxNames {
				all = append(all, entry)
			} else if skipped != nil {
				skipped(entry)
			}
		}
	}
	return compact(all)
}
