package policy

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/pattern"
)

// namedEntry judges an entry of a named list that counts: whether there can be
// an object that it matches, and whether it means what its writer has probably
// meant.
func (t *teller) namedEntry(entry string) {
	switch {
	case len(entry) > pattern.MaxLength:
		t.tell(reloader.Doubtful, reloader.ReasonEntryNeverMatches, fixed(": "), quoted(entry), fixed(" never matches: "+tooLong()))
	case isSwitch(entry):
		t.tell(reloader.Doubtful, reloader.ReasonEntryDoubtful, fixed(": "), quoted(entry),
			fixed(" is read as a name: to follow what is used, write the auto key"))
	case isGlob(entry):
		t.tell(reloader.Doubtful, reloader.ReasonEntryDoubtful, fixed(": "), quoted(entry),
			fixed(" is a regular expression, no glob: write "), quoted(unglob(entry)))
	case !t.judge.matchesSomething(entry):
		t.tell(reloader.Doubtful, reloader.ReasonEntryNeverMatches, fixed(": "), quoted(entry),
			fixed(" never matches: "+remedy(entry)))
	case pattern.IsName(entry) && strings.Trim(entry, ".") != entry:
		t.tell(reloader.Doubtful, reloader.ReasonEntryDoubtful, fixed(": "), quoted(entry),
			fixed(" begins or ends with a dot, which stands for any character: remove it"))
	case isOneOf(entry):
		t.tell(reloader.Doubtful, reloader.ReasonEntryDoubtful, fixed(": "), quoted(entry),
			fixed(" is one character of these: leave out the brackets"))
	}
}

// excludedEntry judges an entry of an exclude list, which has exact names only.
func (t *teller) excludedEntry(entry string) {
	switch {
	case len(entry) > pattern.MaxLength:
		t.tell(reloader.Doubtful, reloader.ReasonEntryNeverMatches, fixed(": "), quoted(entry), fixed(" excludes nothing: "+tooLong()))
	case isSwitch(entry):
		t.tell(reloader.Doubtful, reloader.ReasonEntryDoubtful, fixed(": "), quoted(entry),
			fixed(" is read as a name: list what to exclude, or remove it"))
	case pattern.ValidName(entry):
	case isExpression(entry):
		t.tell(reloader.Doubtful, reloader.ReasonExcludeNotExact, fixed(": "), quoted(entry),
			fixed(" is no exact name, excludes nothing: write full names"))
	default:
		t.tell(reloader.Doubtful, reloader.ReasonEntryNeverMatches, fixed(": "), quoted(entry),
			fixed(" excludes nothing: "+remedy(entry)))
	}
}

// emptyEntries judges a list without an entry, and empty entries between commas,
// which are harmless.
func (t *teller) emptyEntries(value, effect string) {
	if !hasEntries(value) {
		t.tell(reloader.Doubtful, reloader.ReasonEntryDoubtful, fixed(" "), quoted(value), fixed(effect+": list names, or remove it"))
		return
	}
	for part := range strings.SplitSeq(value, ",") {
		if strings.TrimSpace(part) == "" {
			t.tell(reloader.Notice, reloader.ReasonEntryDoubtful, fixed(" has an empty entry, which does nothing: remove the comma"))
			return
		}
	}
}

// matchesSomething reports whether an entry that counts matches a name that an
// object can have. One that takes more effort to judge than is left counts as if
// it did.
func (j *judge) matchesSomething(entry string) bool {
	if pattern.IsLiteral(entry) {
		return pattern.ValidName(entry)
	}
	if j.limited {
		if j.effort <= 0 {
			return true
		}
		size, _ := pattern.Check(entry)
		if j.effort -= size + perPattern; j.effort <= 0 {
			return true
		}
	}
	return pattern.CanMatch(entry)
}

// isSwitch reports whether an entry reads as the value of a switch. An object
// can have such a name.
func isSwitch(entry string) bool {
	if len(entry) > len("false") {
		return false
	}
	switch strings.ToLower(entry) {
	case "true", "false", "yes", "no", "on", "off":
		return true
	}
	return false
}

// globbed finds a star that repeats a letter, which is hardly ever intended.
var globbed = regexp.MustCompile(`(^|[^\\])([A-Za-z0-9_-])\*|^\*`)

// isGlob reports whether an entry has a star as in a glob.
func isGlob(entry string) bool { return strings.Contains(entry, "*") && globbed.MatchString(entry) }

// unglob returns the regular expression that says what the glob does.
func unglob(entry string) string { return globbed.ReplaceAllString(entry, "$1$2.*") }

// isOneOf reports whether an entry is a set of characters that reads like a
// name in brackets.
func isOneOf(entry string) bool {
	inner, ok := strings.CutPrefix(entry, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	return ok && closed && pattern.ValidName(inner)
}

// isExpression reports whether an entry was intended as a pattern: it has syntax of
// patterns, and no characters that neither patterns nor names have.
func isExpression(entry string) bool {
	return !pattern.IsName(entry) && strings.ContainsAny(entry, `*+?|^\()[]`) && !strings.ContainsAny(entry, "/;\"'` \t\r\n{}")
}

// remedy returns what to do about an entry that no name matches.
func remedy(entry string) string {
	bare := escapes.ReplaceAllString(entry, "")
	switch {
	case placeholder.MatchString(entry):
		return "nothing has replaced its placeholder"
	case strings.ContainsAny(entry, "\"'`"):
		return "leave out the quotes"
	case strings.ContainsFunc(entry, func(r rune) bool { return r == ';' || r < utf8.RuneSelf && unicode.IsSpace(r) }):
		return "separate names with commas"
	case strings.Contains(entry, "/"):
		return "leave out the namespace"
	case strings.ContainsFunc(entry, func(r rune) bool { return r >= utf8.RuneSelf }):
		return foreign(entry)
	case len(entry) > pattern.MaxNameLength && pattern.IsName(entry):
		return tooLong()
	case strings.ContainsAny(bare, "{}[]"):
		return "leave out the brackets, a comma separates entries"
	case strings.ContainsAny(bare, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
		return "names have no capitals"
	case strings.Contains(bare, "_"):
		return "names have no underscores"
	case strings.ContainsFunc(bare, func(r rune) bool { return !strings.ContainsRune(namesAndSyntax, r) }):
		return "names have only a-z, 0-9, - and ."
	}
	return "a name begins and ends with a letter or digit"
}

func tooLong() string {
	return fmt.Sprintf("no name has more than %d characters", pattern.MaxNameLength)
}

const namesAndSyntax = `abcdefghijklmnopqrstuvwxyz0123456789-.*+?|^$()[]\`

// mend returns what to do about an entry that is no regular expression.
func mend(entry string) string {
	switch {
	case placeholder.MatchString(entry):
		return "replace its placeholder"
	case isGlob(entry):
		return "write .* for *"
	case (entry[0] == '[' || entry[len(entry)-1] == ']') && pattern.ValidName(strings.Trim(entry, "[]\"' ")):
		return "leave out the brackets"
	}
	return "correct it"
}

var (
	// escapes are characters of an expression that mean something else.
	escapes = regexp.MustCompile(`\\.|\[\[:[a-z]+:\]\]|\(\?[A-Za-z<>-]*:?`)
	// placeholder finds what a template engine should have replaced.
	placeholder = regexp.MustCompile(`\{\{|\}\}|\$\{|\$\(|<[A-Za-z_-]+>|%[A-Za-z_]+%`)
)

// foreign says which character an entry has that no name has.
func foreign(entry string) string {
	for _, r := range entry {
		switch {
		case r == utf8.RuneError:
			return "it is no valid text, type it again"
		case r >= utf8.RuneSelf:
			return fmt.Sprintf("no name has its %U, type it again", r)
		}
	}
	return "type it again"
}
