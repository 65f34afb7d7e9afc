package excerpt

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// The errors of Take wrap one of these, and never quote the text.
var (
	ErrSyntax    = errors.New("broken JSON")
	ErrShape     = errors.New("the field holds another kind of value")
	ErrDuplicate = errors.New("the field stands there twice")
	ErrTooMuch   = errors.New("more fields than can be real")
)

// Excerpt is the selected part of a text.
type Excerpt struct {
	// JSON is a text of what the schema names; null if none of it is there. It
	// shares no memory with the text that it was taken from.
	JSON []byte
	// Kept are the values of Fields with Keep, as they stand, by their path, such
	// as spec.template. They are parts of the text. A null is not kept.
	Kept map[string][]byte
}

// Take returns the part of a JSON text that the schema selects. It reads the text
// once, and needs memory for the excerpt only. The budget, in bytes, bounds the
// length of the excerpt plus the Cost of its elements.
// Names are compared exactly: "Name" is not "name".
//
// The error wraps ErrSyntax, ErrShape, ErrDuplicate or ErrTooMuch, and names
// the field as the schema does.
func Take(text []byte, schema Field, budget int) (Excerpt, error) {
	t := taker{text: text, decoder: newDecoder(text), budget: budget}
	if !t.value(&schema) {
		t.out = append(t.out[:0], "null"...)
	}
	if t.err == nil && len(bytes.TrimLeft(text[t.decoder.InputOffset():], space)) > 0 {
		t.fail(ErrSyntax)
	}
	if t.err != nil {
		return Excerpt{}, t.err
	}
	return Excerpt{JSON: t.out, Kept: t.kept}, nil
}

const space = " \t\r\n"

// newDecoder returns a decoder that does not copy the text: what it returns is
// a part of it. It does not look for duplicate names, since to remember names
// would cost as much memory as they are long.
func newDecoder(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true))
}

// taker is one pass. After the first error it does nothing.
type taker struct {
	text    []byte
	decoder *jsontext.Decoder
	path    []string
	budget  int
	out     []byte
	kept    map[string][]byte
	unquote []byte
	err     error
}

// value reads a value, writes its selected part, and reports whether there is one.
func (t *taker) value(f *Field) bool {
	start, null := int(t.decoder.InputOffset()), t.decoder.PeekKind() == 'n'
	taken := false
	switch {
	case null, f.whole:
		t.skip()
	case f.Members != nil:
		taken = t.object(f)
	case f.Each != nil:
		taken = t.array(f)
	case f.Keys != nil:
		taken = t.byKey(f)
	default:
		taken = t.scalar()
	}
	if f.Keep && !null && t.err == nil {
		if t.kept == nil {
			t.kept = make(map[string][]byte)
		}
		// A value is preceded by a colon.
		t.kept[strings.Join(t.path, ".")] = bytes.TrimLeft(t.text[start:t.decoder.InputOffset()], ":"+space)
	}
	return taken
}

func (t *taker) scalar() bool {
	if kind := t.decoder.PeekKind(); kind == '{' || kind == '[' {
		t.fail(ErrShape)
		return false
	}
	value, err := t.decoder.ReadValue()
	if err != nil {
		t.fail(ErrSyntax)
		return false
	}
	t.write(value)
	return true
}

func (t *taker) object(f *Field) bool {
	if !t.open('{') {
		return false
	}
	taken, seen := 0, uint64(0)
	for t.more('}') {
		name, _ := t.name()
		at := slices.IndexFunc(f.Members, func(m Member) bool { return string(name) == m.Name })
		if at < 0 {
			t.skip()
			continue
		}
		m := &f.Members[at]
		t.path = append(t.path, m.Name)
		if seen&(1<<at) != 0 {
			t.fail(ErrDuplicate)
			return false
		}
		seen |= 1 << at
		mark := t.mark()
		t.write([]byte{between(taken, '{'), '"'})
		t.write([]byte(m.Name))
		t.write([]byte(`":`))
		if t.value(&m.Field) {
			taken++
		} else {
			t.reset(mark)
		}
		t.path = t.path[:len(t.path)-1]
	}
	return t.close('}', taken > 0)
}

func (t *taker) array(f *Field) bool {
	if !t.open('[') {
		return false
	}
	taken := 0
	for t.more(']') {
		mark := t.mark()
		t.write([]byte{between(taken, '[')})
		if !t.value(f.Each) {
			t.reset(mark)
			continue
		}
		taken++
		t.charge(f.Each.Cost)
	}
	return t.close(']', taken > 0)
}

func (t *taker) byKey(f *Field) bool {
	if !t.open('{') {
		return false
	}
	t.write([]byte{'{'})
	taken := 0
	for t.more('}') {
		name, quoted := t.name()
		if t.err != nil || !f.Keys(name) || t.decoder.PeekKind() == 'n' {
			t.skip()
			continue
		}
		if taken > 0 {
			t.write([]byte{','})
		}
		t.write(quoted)
		t.write([]byte{':'})
		t.scalar()
		taken++
		t.charge(f.Cost)
	}
	return t.close('}', true)
}

// between returns the text before an element, given how many were taken so far.
func between(taken int, first byte) byte {
	if taken == 0 {
		return first
	}
	return ','
}

// name reads the name of a member: what it stands for, which is valid until the
// next one, and as it stands.
func (t *taker) name() (name, quoted []byte) {
	quoted, err := t.decoder.ReadValue()
	if err != nil {
		t.fail(ErrSyntax)
		return nil, nil
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], quoted
	}
	if t.unquote, err = jsontext.AppendUnquote(t.unquote[:0], quoted); err != nil {
		t.fail(ErrSyntax)
	}
	return t.unquote, quoted
}

func (t *taker) skip() {
	if t.err == nil && t.decoder.SkipValue() != nil {
		t.fail(ErrSyntax)
	}
}

// open reads the beginning of an object or an array.
func (t *taker) open(want jsontext.Kind) bool {
	if kind := t.decoder.PeekKind(); kind != want && kind != 0 {
		t.fail(ErrShape)
	} else if _, err := t.decoder.ReadToken(); err != nil {
		t.fail(ErrSyntax)
	}
	return t.err == nil
}

// more reports whether another element comes before the end.
func (t *taker) more(end jsontext.Kind) bool {
	return t.err == nil && t.decoder.PeekKind() != end && t.decoder.PeekKind() != 0
}

// close reads the end of an object or an array, and writes it if anything of
// that was taken.
func (t *taker) close(end jsontext.Kind, taken bool) bool {
	if t.err != nil {
		return false
	}
	if token, err := t.decoder.ReadToken(); err != nil || token.Kind() != end {
		t.fail(ErrSyntax)
		return false
	}
	if taken {
		t.write([]byte{byte(end)})
	}
	return taken
}

// state is how much was written, and what that left of the budget.
type state struct{ out, budget int }

func (t *taker) mark() state { return state{len(t.out), t.budget} }

func (t *taker) reset(s state) { t.out, t.budget = t.out[:s.out], s.budget }

func (t *taker) write(text []byte) {
	if t.charge(len(text)); t.err == nil {
		t.out = append(t.out, text...)
	}
}

func (t *taker) charge(cost int) {
	if t.budget -= cost; t.budget < 0 {
		t.fail(ErrTooMuch)
	}
}

// fail keeps the first error, with the path to where it was found.
func (t *taker) fail(cause error) {
	if t.err != nil {
		return
	}
	t.err = cause
	if len(t.path) > 0 {
		t.err = fmt.Errorf("%s: %w", strings.Join(t.path, "."), cause)
	}
}
