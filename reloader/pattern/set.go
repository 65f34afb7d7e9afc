package pattern

import (
	"strings"
	"unicode/utf8"
	"unique"
)

// Set is the patterns of one named list, in its order. Equal sets are equal by
// == and share their text. The zero value is the empty set.
type Set struct{ text unique.Handle[string] }

// NewSet returns the set of entries, none of which may have a comma in it.
func NewSet(entries []string) Set {
	if len(entries) == 0 {
		return Set{}
	}
	return Set{unique.Make(strings.Join(entries, ","))}
}

// Len returns the length of the text of the set.
func (s Set) Len() int {
	if s.Empty() {
		return 0
	}
	return len(s.text.Value())
}

// Empty reports whether the set has no pattern.
func (s Set) Empty() bool { return s == Set{} }

// IsLiteral reports whether an entry, taken as a regular expression, matches
// itself and nothing else.
func IsLiteral(entry string) bool {
	return IsName(entry) && strings.IndexByte(entry, '.') < 0
}

// IsName reports whether an entry reads as the name of an object: a literal but
// for dots. Names of Kubernetes objects are ASCII, so anything beyond may take
// the slow way.
func IsName(entry string) bool {
	for i := range len(entry) {
		switch c := entry[i]; c {
		case '\\', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$':
			return false
		default:
			if c >= utf8.RuneSelf {
				return false
			}
		}
	}
	return true
}
