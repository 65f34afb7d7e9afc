package printable

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns s as one line of printable text. Line breaks and other white
// space become spaces. Control characters, such as those that terminals take as
// commands, characters that hide or reorder text, and bytes that are no UTF-8
// become U+FFFD. Printable text is returned unchanged.
func Line(s string) string {
	if isLine(s) {
		return s
	}
	return strings.Map(replacement, s)
}

// Clip returns s as Line does, in at most size bytes. Longer text ends with
// an ellipsis, and no character is cut in two.
func Clip(s string, size int) string {
	const ellipsis = "..."
	// A replaced byte takes three, so nothing behind this can be of use.
	if len(s) > size {
		s = s[:size] + ellipsis
	}
	s = Line(s)
	if len(s) <= size {
		return s
	}
	end := max(0, size-len(ellipsis))
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis[:min(size, len(ellipsis))]
}

func isLine(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return !strings.ContainsFunc(s[i:], func(r rune) bool { return replacement(r) != r }) && utf8.ValidString(s[i:])
		}
	}
	return true
}

func replacement(r rune) rune {
	switch {
	case unicode.IsPrint(r):
		return r
	case unicode.IsSpace(r):
		return ' '
	}
	return utf8.RuneError
}
