package pattern

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// Matcher is a Set made ready to match. It is immutable and may be shared
// between goroutines. A nil Matcher matches nothing.
type Matcher struct {
	// dotted entries would be literals but for their dots, as in "my.cm". They
	// are by far the most frequent regular expressions, so they are matched
	// without compiling them. Sorted, unique.
	dotted   []string
	compiled []*regexp.Regexp
	// size is the instructions of all compiled ones.
	size int
}

// Compile returns the Matcher of the set; nil if it is empty. Entries for which
// Check has a fault match nothing.
func (s Set) Compile() *Matcher {
	if s.Empty() {
		return nil
	}
	m := new(Matcher)
	for entry := range strings.SplitSeq(s.text.Value(), ",") {
		if IsName(entry) {
			m.dotted = append(m.dotted, entry)
			continue
		}
		size, why := Check(entry)
		if why != 0 {
			continue
		}
		if re, err := regexp.Compile(anchored(entry)); err == nil {
			m.size += size
			m.compiled = append(m.compiled, re)
		}
	}
	slices.Sort(m.dotted)
	m.dotted = slices.Clip(slices.Compact(m.dotted))
	return m
}

// Check returns how many instructions an entry compiles to, estimated from
// above and without compiling it, and why it cannot be used, if it cannot.
func Check(entry string) (size int, why Fault) {
	tree, why := parse(entry)
	if why != 0 {
		return 0, why
	}
	return sizeOf(tree), 0
}

// parse parses an entry within the bounds of one. It has to be a regular
// expression of its own: "a)(b" would only become one by the parentheses that
// anchor it.
func parse(entry string) (*syntax.Regexp, Fault) {
	if len(entry) > MaxLength {
		return nil, TooLong
	}
	if foldsWideRange(entry) || strings.Count(entry, `\p`)+strings.Count(entry, `\P`) > maxScripts {
		return nil, TooLarge
	}
	tree, err := syntax.Parse(entry, syntax.Perl)
	if err != nil {
		return nil, Broken
	}
	if strings.Contains(entry, `\Q`) { // which may quote the end of what anchors it
		if _, err := syntax.Parse(anchored(entry), syntax.Perl); err != nil {
			return nil, Broken
		}
	}
	if sizeOf(tree) > MaxSize {
		return nil, TooLarge
	}
	return tree, 0
}

// anchored is the expression that matches whole names.
func anchored(entry string) string { return "^(?:" + entry + ")$" }

// maxScripts is how many classes such as \pL an entry may have. Names have none
// of their hundreds of ranges, which take their time to read.
const maxScripts = 2

// foldsWideRange reports whether an entry may ask for a range of characters
// beyond ASCII whatever their case. The parser folds such a range one character
// at a time: 512 bytes of them take a tenth of a second. No name of an object
// needs one.
func foldsWideRange(entry string) bool {
	if !strings.Contains(entry, "(?") {
		return false
	}
	return strings.Contains(entry, `\x{`) || strings.Contains(entry, `\p`) || strings.Contains(entry, `\P`) ||
		strings.ContainsFunc(entry, func(r rune) bool { return r >= utf8.RuneSelf })
}

// perRange is how many characters of a class weigh as much as an instruction.
const perRange = 16

// sizeOf estimates the instructions that an expression compiles to, from above
// and without compiling it: a short one can become a huge program.
func sizeOf(re *syntax.Regexp) int {
	size := 0
	for _, sub := range re.Sub {
		size = min(size+sizeOf(sub), MaxSize+1)
	}
	switch re.Op {
	case syntax.OpLiteral:
		size += max(len(re.Rune), 1)
	case syntax.OpCharClass:
		size += 1 + len(re.Rune)/perRange
	case syntax.OpRepeat:
		size = size*max(re.Min, re.Max, 1) + max(re.Max-re.Min, 0) + 1
	case syntax.OpConcat:
	case syntax.OpAlternate:
		size += len(re.Sub)
	default:
		size += 2
	}
	return min(size, MaxSize+1)
}

// Match reports whether one of the patterns matches the whole name.
func (m *Matcher) Match(name string) bool {
	if m == nil {
		return false
	}
	for _, entry := range m.dotted {
		if dottedMatches(entry, name) {
			return true
		}
	}
	for _, re := range m.compiled {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}

// Cost bounds the steps that Match takes for a name, of which a core makes some
// hundred million a second.
func (m *Matcher) Cost(name string) int {
	if m == nil {
		return 0
	}
	return (m.size + len(m.dotted)) * (len(name) + 1)
}

// bytesPerInstruction is what a compiled program takes, measured.
const bytesPerInstruction = 200

// Bytes estimates the memory that the Matcher takes, from above.
func (m *Matcher) Bytes() int {
	if m == nil {
		return 0
	}
	return 64 + 24*len(m.dotted) + bytesPerInstruction*m.size + 512*len(m.compiled)
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
