package fingerprint

import (
	"encoding/hex"
	"fmt"
	"io"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// hidden is printed in place of a key.
const hidden = "fingerprint.Key(hidden)"

var (
	_ fmt.Formatter  = Key{}
	_ fmt.Stringer   = Key{}
	_ fmt.GoStringer = Key{}
)

// Key is the secret that fingerprints are made with. It is immutable, safe for
// concurrent use and may be copied. The zero Key is no key: what it makes is
// empty.
//
// Whatever prints a Key shows that it is one and nothing more.
type Key struct {
	// A pointer to a pointer, because fmt does not call the methods of an
	// unexported field of another struct: there it prints pointers as
	// addresses, but follows a first one when the verb does not fit.
	secret **[KeySize]byte
}

// NewKey returns the key that b holds, which must be KeySize bytes long. It
// keeps a copy. The error says how long b is, and nothing else of it.
func NewKey(b []byte) (Key, error) {
	if len(b) != KeySize {
		return Key{}, fmt.Errorf("fingerprint key: %d bytes, want %d", len(b), KeySize)
	}
	secret := new([KeySize]byte)
	copy(secret[:], b)
	return Key{secret: &secret}, nil
}

// ID identifies the key without revealing it.
func (k Key) ID() string {
	w := newWriter(k, idTag)
	return string(w.sum())
}

// Derive returns the key for one purpose. Keys of different purposes reveal nothing
// about each other, nor about k. The zero Key derives the zero Key.
func (k Key) Derive(purpose string) Key {
	if k.IsZero() {
		return Key{}
	}
	w := newWriter(k, deriveTag)
	writeText(w, purpose)
	secret := w.digest()
	derived := &secret
	return Key{secret: &derived}
}

// MAC returns a message authentication code over parts, as 32 hexadecimal
// digits. Different lists of parts have different codes, however the same text
// is cut. The zero Key returns an empty text.
func (k Key) MAC(parts ...string) string {
	if k.IsZero() {
		return ""
	}
	w := newWriter(k, macTag)
	w.writeLen(len(parts))
	for _, part := range parts {
		writeText(w, part)
	}
	digest := w.digest()
	return hex.EncodeToString(digest[:size])
}

// IsZero reports whether k is the zero Key.
func (k Key) IsZero() bool {
	return k.secret == nil
}

// String returns a text that is the same for every key.
func (k Key) String() string {
	return hidden
}

// GoString returns a text that is the same for every key.
func (k Key) GoString() string {
	return hidden
}

// Format writes a text that is the same for every key and every verb.
func (k Key) Format(s fmt.State, _ rune) {
	// The state of fmt buffers and does not fail.
	_, _ = io.WriteString(s, hidden)
}

// MarshalText returns a text that is the same for every key.
func (k Key) MarshalText() ([]byte, error) {
	return []byte(hidden), nil
}
