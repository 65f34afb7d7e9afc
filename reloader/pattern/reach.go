package pattern

import "regexp/syntax"

// MaxNameLength is how many characters the name of an object has at most.
const MaxNameLength = 253

// ValidName reports whether an object can have the name: a DNS subdomain.
func ValidName(name string) bool {
	at := start
	for i := range len(name) {
		next := classOf(name[i])
		if next == end || !at.before(next) {
			return false
		}
		at = next
	}
	return at.before(end) && len(name) <= MaxNameLength
}

// CanMatch reports whether there is a name that an object can have and that
// the entry matches. It is exact, for an entry that is used; of any other it is
// false.
//
// The program of the expression and the grammar of names walk side by side, one
// character a step, and each place in the program is entered once per class of
// the character before: so the time is that of the program's size, and the first
// way to the end is the shortest.
func CanMatch(entry string) bool {
	tree, why := parse(entry)
	if why != 0 {
		return false
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return false
	}
	w := walk{program: program, entered: make([]bool, len(program.Inst)*classes*classes)}
	w.ahead = []place{{pc: program.Start, last: start}}
	for range MaxNameLength + 1 {
		if w.step() {
			return true
		}
		if len(w.ahead) == 0 {
			return false
		}
	}
	return false
}

// class is a class of characters in the grammar of names, or one of its two ends.
type class uint8

const (
	start class = iota
	alphanumeric
	dash
	dot
	end
	classes = iota
)

// before reports whether next may follow in a name.
func (c class) before(next class) bool {
	switch c {
	case start, dot:
		return next == alphanumeric
	case alphanumeric:
		return next != start
	case dash:
		return next == alphanumeric || next == dash
	case end:
	}
	return false
}

// classOf returns the class of a character; end for one that no name has.
func classOf(c byte) class {
	switch {
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return alphanumeric
	case c == '-':
		return dash
	case c == '.':
		return dot
	}
	return end
}

// characters returns those of a class.
func (c class) characters() string {
	switch c {
	case alphanumeric:
		return "abcdefghijklmnopqrstuvwxyz0123456789"
	case dash:
		return "-"
	case dot:
		return "."
	case start, end:
	}
	return ""
}

// char returns one character of the class, to ask what holds between two; -1
// is none.
func (c class) char() rune {
	if c == start || c == end {
		return -1
	}
	return rune(c.characters()[0])
}

// place is an instruction, the class of the character before it, and that of
// the one after it once it is chosen.
type place struct {
	pc         int
	last, next class
}

func (p place) ordinal() int { return (p.pc*classes+int(p.last))*classes + int(p.next) }

// walk goes through all names at once.
type walk struct {
	program *syntax.Prog
	entered []bool // by place.ordinal
	// ahead are the places in front of the next character.
	ahead []place
}

// step takes one character, any that may come, and reports whether a name may
// end before it.
func (w *walk) step() bool {
	from := w.ahead
	w.ahead = nil
	for _, p := range from {
		for _, next := range [...]class{end, alphanumeric, dash, dot} {
			if p.last.before(next) && w.enter(place{p.pc, p.last, next}) {
				return true
			}
		}
	}
	return false
}

// enter follows a program up to its next character, which is of the class
// p.next, and reports whether it matches there.
func (w *walk) enter(p place) bool {
	for todo := []place{p}; len(todo) > 0; {
		p, todo = todo[len(todo)-1], todo[:len(todo)-1]
		if w.entered[p.ordinal()] {
			continue
		}
		w.entered[p.ordinal()] = true
		in := &w.program.Inst[p.pc]
		out := place{int(in.Out), p.last, p.next}
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			todo = append(todo, out, place{int(in.Arg), p.last, p.next})
		case syntax.InstCapture, syntax.InstNop:
			todo = append(todo, out)
		case syntax.InstEmptyWidth:
			if holds := syntax.EmptyOpContext(p.last.char(), p.next.char()); in.Arg&^uint32(holds) == 0 {
				todo = append(todo, out)
			}
		case syntax.InstMatch:
			if p.next == end {
				return true
			}
		case syntax.InstFail:
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			if takes(in, p.next) {
				w.ahead = append(w.ahead, place{pc: int(in.Out), last: p.next})
			}
		}
	}
	return false
}

// takes reports whether the instruction takes a character of the class.
func takes(in *syntax.Inst, c class) bool {
	for _, r := range c.characters() {
		if in.MatchRune(r) {
			return true
		}
	}
	return false
}
