package policy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxMessage is the length of a message in bytes: API servers cut warnings
// beyond 120 characters when there are many.
const maxMessage = 120

const ellipsis = "…"

// part is a piece of a message: fixed text, or something from a manifest that
// may be shortened to make room for the text.
type part struct {
	text     string
	flexible bool
	quoted   bool
}

// fixed is a part that says what the message is about.
func fixed(s string) part { return part{text: s} }

// raw is a key or a name as it stands in the manifest, shortened if need be.
func raw(s string) part { return part{text: s, flexible: true} }

// quoted is the same in quotes.
func quoted(s string) part { return part{text: s, flexible: true, quoted: true} }

// minValue is how many bytes of a value are shown at least, when long keys
// take up the room.
const minValue = 16

// line joins parts into one printable line of at most maxMessage bytes. What
// came from the manifest is shortened, values before keys, so that the advice
// stays readable whatever a stranger wrote.
func line(parts ...part) string {
	var (
		shown        = make([]string, len(parts))
		keys, values []int
		room         = maxMessage
		keySize      int
	)
	for i, p := range parts {
		switch {
		case !p.flexible:
			shown[i] = p.text
			room -= len(p.text)
		case p.quoted:
			shown[i] = p.show(maxMessage)
			values = append(values, i)
		default:
			shown[i] = p.show(maxMessage)
			keys = append(keys, i)
			keySize += len(shown[i])
		}
	}
	forValues := max(room-keySize, minValue*len(values))
	room -= forValues - shorten(parts, shown, values, forValues)
	shorten(parts, shown, keys, room)
	return clip(strings.Join(shown, ""), maxMessage)
}

// shorten makes the chosen parts fit into room, the longest first, and returns
// the room that is left.
func shorten(parts []part, shown []string, chosen []int, room int) int {
	slices.SortStableFunc(chosen, func(a, b int) int { return cmp.Compare(len(shown[a]), len(shown[b])) })
	for n, i := range chosen {
		// What the shorter ones leave over goes to the longer ones.
		if share := max(room/(len(chosen)-n), 0); len(shown[i]) > share {
			shown[i] = parts[i].show(share)
		}
		room -= len(shown[i])
	}
	return room
}

// show returns the part in at most size bytes, printable and valid UTF-8. Its
// work is bounded by size, not by the length of the text.
func (p part) show(size int) string {
	open, shut := "", ""
	if p.quoted {
		open, shut = `"`, `"`
	}
	room := size - len(open) - len(shut)
	if room < len(ellipsis) {
		return clip(open+ellipsis+shut, size)
	}
	var (
		out  = []byte(open)
		end  = len(open) + room
		last = len(open) // where the ellipsis still fits
	)
	for rest := p.text; rest != ""; {
		r, width := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && width == 1:
			out = append(out, `\x`...)
			out = append(out, "0123456789abcdef"[rest[0]>>4], "0123456789abcdef"[rest[0]&15])
		case r == '"' && !p.quoted:
			out = append(out, '"')
		default:
			q := strconv.AppendQuoteRune(nil, r)
			q = q[1 : len(q)-1]
			switch string(q) {
			case `\'`:
				q = []byte("'")
			case `"`:
				q = []byte(`\"`)
			}
			out = append(out, q...)
		}
		if len(out) > end {
			return string(out[:last]) + ellipsis + shut
		}
		if len(out) <= end-len(ellipsis) {
			last = len(out)
		}
		rest = rest[width:]
	}
	return string(out) + shut
}

// clip cuts a string to at most size bytes at the boundary of a character.
func clip(s string, size int) string {
	if len(s) <= size {
		return s
	}
	if size < len(ellipsis) {
		return ""
	}
	cut := size - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}
