package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of one named list. What goes beyond is skipped, and Judge says so.
const (
	maxNames         = 1000   // entries without regular expressions: each has a place in the index
	maxPatterns      = 100    // entries that are parsed, whatever comes of it
	maxPatternLength = 512    // bytes of one entry
	maxPatternSize   = 10_000 // instructions of all compiled entries together
)

// list is a named list, read once. The zero value matches nothing.
type list struct {
	// literals mean exactly themselves; sorted, unique.
	literals []string
	// dotted entries would be literals but for their dots, as in "my.cm". They
	// are by far the most frequent regular expressions, so they are matched
	// without compiling them. Sorted, unique.
	dotted   []string
	compiled []*regexp.Regexp
}

// entryFault says why an entry of a named list is skipped.
type entryFault int

const (
	entryBroken   entryFault = iota + 1 // no regular expression
	entryTooLong                        // longer than maxPatternLength
	entryTooLarge                       // beyond maxPatternSize
	entryTooMany                        // beyond maxPatterns
	entryCrowded                        // beyond maxNames
)

// entries splits an annotation value at commas and yields what is left of each
// part after trimming, in order, without the empty ones.
func entries(value string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); part != "" && !yield(part) {
				return
			}
		}
	}
}

// parseList reads a named list. It tells fault, unless that is nil, about
// every entry that it skips.
func parseList(value string, fault func(entry string, why entryFault)) *list {
	var (
		l     list
		tried map[string]struct{} // parsed so far
		size  int
	)
	for entry := range entries(value) {
		if isName(entry) {
			switch {
			case len(l.literals)+len(l.dotted) >= maxNames:
				if fault != nil {
					fault(entry, entryCrowded)
				}
			case isLiteral(entry):
				l.literals = append(l.literals, entry)
			default:
				l.dotted = append(l.dotted, entry)
			}
			continue
		}
		if _, ok := tried[entry]; ok {
			continue
		}
		re, cost, why := compileEntry(entry, len(tried), size)
		if why != entryTooLong && why != entryTooMany {
			if tried == nil {
				tried = make(map[string]struct{})
			}
			tried[entry] = struct{}{}
		}
		if why != 0 {
			if fault != nil {
				fault(entry, why)
			}
			continue
		}
		size += cost
		l.compiled = append(l.compiled, re)
	}
	if l.literals == nil && l.dotted == nil && l.compiled == nil {
		return nil
	}
	l.literals = sortedUnique(l.literals)
	l.dotted = sortedUnique(l.dotted)
	return &l
}

// compileEntry compiles one entry after count others were tried, those that
// compiled being of the given size.
func compileEntry(entry string, count, size int) (*regexp.Regexp, int, entryFault) {
	if len(entry) > maxPatternLength {
		return nil, 0, entryTooLong
	}
	if count >= maxPatterns {
		return nil, 0, entryTooMany
	}
	if foldsWideRange(entry) {
		return nil, 0, entryTooLarge
	}
	// The entry has to be a regular expression of its own: "a)(b" would only
	// become one by the parentheses that anchor it.
	tree, err := syntax.Parse(entry, syntax.Perl)
	if err != nil {
		return nil, 0, entryBroken
	}
	// A short expression can compile to a huge program: a{1000} repeated.
	cost := programSize(tree)
	if size+cost > maxPatternSize {
		return nil, 0, entryTooLarge
	}
	re, err := regexp.Compile("^(?:" + entry + ")$")
	if err != nil {
		return nil, 0, entryBroken
	}
	return re, cost, 0
}

// foldsWideRange reports whether an entry may ask for a range of characters
// beyond ASCII whatever their case. The parser folds such a range one character
// at a time: 512 bytes of them take a tenth of a second. No name of an object
// needs one.
func foldsWideRange(entry string) bool {
	if !strings.Contains(entry, "(?") {
		return false
	}
	return strings.Contains(entry, `\x{`) ||
		strings.ContainsFunc(entry, func(r rune) bool { return r >= utf8.RuneSelf })
}

// programSize estimates the instructions that an expression compiles to, from
// above and without compiling it.
func programSize(re *syntax.Regexp) int {
	const enough = maxPatternSize + 1
	size := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		size += programSize(sub) + 1
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 1)
	}
	return min(size, enough)
}

func (l *list) matches(name string) bool {
	if l == nil {
		return false
	}
	_, ok := slices.BinarySearch(l.literals, name)
	return ok || l.matchesPattern(name)
}

func (l *list) matchesPattern(name string) bool {
	if l == nil {
		return false
	}
	for _, entry := range l.dotted {
		if dottedMatches(entry, name) {
			return true
		}
	}
	for _, re := range l.compiled {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}

// dottedMatches matches a regular expression that has no meaning beyond dots.
func dottedMatches(entry, name string) bool {
	if len(entry) > len(name) {
		return false
	}
	for i := range len(entry) {
		if name == "" {
			return false
		}
		r, width := utf8.DecodeRuneInString(name)
		if entry[i] == '.' {
			if r == '\n' {
				return false
			}
		} else if r != rune(entry[i]) {
			return false
		}
		name = name[width:]
	}
	return name == ""
}

// isLiteral reports whether an entry, taken as a regular expression, matches
// itself and nothing else. Names of Kubernetes objects are ASCII, so anything
// beyond may take the slow way.
func isLiteral(entry string) bool {
	for i := range len(entry) {
		if entry[i] >= utf8.RuneSelf {
			return false
		}
	}
	return !strings.ContainsAny(entry, `\.+*?()|[]{}^$`)
}

// isName reports whether an entry reads as the name of an object: a literal but
// for dots.
func isName(entry string) bool {
	return isLiteral(strings.ReplaceAll(entry, ".", ""))
}

func sortedUnique(names []string) []string {
	slices.Sort(names)
	return slices.Clip(slices.Compact(names))
}

// names reads a list of exact names: sorted, unique, nil if there are none.
func names(values ...string) []string {
	var all []string
	for _, value := range values {
		for entry := range entries(value) {
			all = append(all, entry)
		}
	}
	return sortedUnique(all)
}

var _ fmt.Stringer = entryFault(0)

// String returns what is wrong with the entry, for people.
func (f entryFault) String() string {
	switch f {
	case entryBroken:
		return "is no regular expression"
	case entryTooLong:
		return fmt.Sprintf("has more than %d bytes", maxPatternLength)
	case entryTooLarge:
		return "makes the list too complex"
	case entryTooMany:
		return fmt.Sprintf("comes after %d patterns", maxPatterns)
	case entryCrowded:
		return fmt.Sprintf("comes after %d names", maxNames)
	}
	return "is fine"
}
