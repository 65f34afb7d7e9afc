package excerpt

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// Comparison says what makes two texts equal, besides being the same.
type Comparison struct {
	// Except is the name of a member of the outermost object that does not
	// count; empty: all of them count.
	Except string
	// Loose takes a null and an empty array for a member that is not there, as
	// Go types do.
	Loose bool
	// Same reports whether two strings that differ mean the same; names are
	// those of the member that they stand in and of the one around it, which is
	// empty where there is none. Nil: no two do.
	Same func(outer, name string, a, b []byte) bool
}

// Equal reports whether two JSON texts hold the same. Members have to come in
// the same order: an API server sorts those of all objects in one way. It reads
// both texts side by side, and needs no memory for them. A text that breaks off
// equals none but itself; an empty one equals null.
func (c Comparison) Equal(a, b []byte) bool {
	if c.Except == "" && bytes.Equal(a, b) {
		return true
	}
	p := pair{Comparison: c, a: side{a, newDecoder(orNull(a))}, b: side{b, newDecoder(orNull(b))}}
	p.a.text, p.b.text = orNull(a), orNull(b)
	return p.values("", "", true)
}

func orNull(text []byte) []byte {
	if len(text) == 0 {
		return []byte("null")
	}
	return text
}

// pair is two texts that are being compared.
type pair struct {
	Comparison
	a, b side
}

type side struct {
	text    []byte
	decoder *jsontext.Decoder
}

// values compares the next value of both.
func (p *pair) values(outer, name string, outermost bool) bool {
	if outermost && p.Loose && p.a.absent() && p.b.absent() {
		return true
	}
	kind := p.a.decoder.PeekKind()
	if kind != p.b.decoder.PeekKind() {
		return false
	}
	if kind == '{' {
		return p.objects(name, outermost)
	}
	if kind == '[' {
		return p.arrays(outer, name)
	}
	a, errA := p.a.decoder.ReadValue()
	b, errB := p.b.decoder.ReadValue()
	if errA != nil || errB != nil {
		return false
	}
	return bytes.Equal(a, b) || kind == '"' && p.Same != nil && p.Same(outer, name, a[1:len(a)-1], b[1:len(b)-1])
}

func (p *pair) objects(outer string, outermost bool) bool {
	if !both(&p.a, &p.b) {
		return false
	}
	except := ""
	if outermost {
		except = p.Except
	}
	for {
		a, okA := p.member(&p.a, except)
		b, okB := p.member(&p.b, except)
		if !okA || !okB {
			return okA == okB && both(&p.a, &p.b)
		}
		if !bytes.Equal(a, b) || !p.values(outer, string(a), false) {
			return false
		}
	}
}

func (p *pair) arrays(outer, name string) bool {
	if !both(&p.a, &p.b) {
		return false
	}
	for p.a.more() && p.b.more() {
		if !p.values(outer, name, false) {
			return false
		}
	}
	return !p.a.more() && !p.b.more() && both(&p.a, &p.b)
}

// both reads the beginning or the end of an object or an array.
func both(a, b *side) bool {
	_, errA := a.decoder.ReadToken()
	_, errB := b.decoder.ReadToken()
	return errA == nil && errB == nil
}

// member reads the name of the next member that counts.
func (p *pair) member(s *side, except string) (name []byte, ok bool) {
	for s.more() {
		quoted, err := s.decoder.ReadValue()
		if err != nil {
			return nil, false
		}
		name := quoted[1 : len(quoted)-1]
		if (except == "" || string(name) != except) && (!p.Loose || !s.absent()) {
			return name, true
		}
		if s.decoder.SkipValue() != nil {
			return nil, false
		}
	}
	return nil, false
}

func (s *side) more() bool {
	kind := s.decoder.PeekKind()
	return kind != '}' && kind != ']' && kind != 0
}

// absent reports whether the next value is a null or an empty array.
func (s *side) absent() bool {
	kind := s.decoder.PeekKind()
	if kind == '[' {
		rest := bytes.TrimLeft(s.text[s.decoder.InputOffset():], ":,"+space)
		return len(rest) > 0 && bytes.HasPrefix(bytes.TrimLeft(rest[1:], space), []byte("]"))
	}
	return kind == 'n'
}
