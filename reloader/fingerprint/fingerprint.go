package fingerprint

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
)

// Fingerprint is the digest of one source's content. Fingerprints made with
// the same key are equal if, and for all practical purposes only if, kind and
// content are. It is "v1-" and 32 hexadecimal digits, and fits an environment
// variable, an annotation and a label.
type Fingerprint string

const (
	prefix = "v1-"
	// size is the length of the truncated digest in bytes. 128 bits are far
	// beyond accidental collisions, and forging needs the key.
	size = 16
	// The tags keep the kinds apart, and this digest from whatever else the
	// key may be used for one day.
	configMapTag = "reloader/v1/ConfigMap"
	idTag        = "reloader/v1/id"
	secretTag    = "reloader/v1/Secret" //nolint:gosec // the name of a kind
	classTag     = "reloader/v1/SecretProviderClass"
	deriveTag    = "reloader/v1/derive"
	macTag       = "reloader/v1/mac"
)

// Deleted stands in place of a fingerprint for a source that is gone. No
// content has it.
const Deleted Fingerprint = prefix + "00000000000000000000000000000000"

// ConfigMap returns the fingerprint of a ConfigMap's data and binaryData. An
// empty map and a nil one are the same content; the same key and value in data
// and in binaryData are not. The zero Key returns an empty Fingerprint.
func (k Key) ConfigMap(data map[string]string, binaryData map[string][]byte) Fingerprint {
	if k.IsZero() {
		return ""
	}
	w := newWriter(k, configMapTag)
	writeMap(w, data)
	writeMap(w, binaryData)
	return w.sum()
}

// Secret returns the fingerprint of a Secret's data. An empty map and a nil
// one are the same content. The zero Key returns an empty Fingerprint.
func (k Key) Secret(data map[string][]byte) Fingerprint {
	if k.IsZero() {
		return ""
	}
	w := newWriter(k, secretTag)
	writeMap(w, data)
	return w.sum()
}

// Object is one secret that a CSI volume has brought into a pod.
type Object struct {
	ID      string
	Version string
}

// SecretProviderClass returns the fingerprint of what a pod has mounted of a
// class: the set of its objects. Neither their order nor one that stands there
// twice makes a difference. The zero Key returns an empty Fingerprint.
func (k Key) SecretProviderClass(objects []Object) Fingerprint {
	if k.IsZero() {
		return ""
	}
	objects = slices.Clone(objects)
	slices.SortFunc(objects, func(a, b Object) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Version, b.Version))
	})
	objects = slices.Compact(objects)
	w := newWriter(k, classTag)
	w.writeLen(len(objects))
	for _, o := range objects {
		writeText(w, o.ID)
		writeText(w, o.Version)
	}
	return w.sum()
}

// writer feeds a MAC with an encoding that two different contents never share:
// every map is preceded by its number of entries, every string by its length.
type writer struct {
	mac hash.Hash
	// buf holds bytes that are not written to mac yet. Strings pass through it because
	// converting one to bytes would leave a copy of the content on the heap.
	buf [512]byte
	n   int
}

func newWriter(k Key, tag string) *writer {
	w := &writer{mac: hmac.New(sha256.New, (*k.secret)[:])}
	writeText(w, tag)
	return w
}

// writeMap writes m in the order of its keys.
func writeMap[V ~string | ~[]byte](w *writer, m map[string]V) {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	w.writeLen(len(keys))
	for _, key := range keys {
		writeText(w, key)
		writeText(w, m[key])
	}
}

// writeText writes the length of s and s.
func writeText[T ~string | ~[]byte](w *writer, s T) {
	w.writeLen(len(s))
	for len(s) > 0 {
		if w.n == len(w.buf) {
			w.flush()
		}
		n := copy(w.buf[w.n:], s)
		w.n += n
		s = s[n:]
	}
}

func (w *writer) writeLen(n int) {
	if len(w.buf)-w.n < 8 {
		w.flush()
	}
	binary.BigEndian.PutUint64(w.buf[w.n:], uint64(n)) //nolint:gosec // a length is never negative
	w.n += 8
}

func (w *writer) flush() {
	// A hash never returns an error.
	_, _ = w.mac.Write(w.buf[:w.n])
	w.n = 0
}

// sum ends the encoding and returns its fingerprint.
func (w *writer) sum() Fingerprint {
	digest := w.digest()
	var text [len(prefix) + 2*size]byte
	copy(text[:], prefix)
	hex.Encode(text[len(prefix):], digest[:size])
	return Fingerprint(text[:])
}

// digest ends the encoding, and clears the content that remains in the buffer.
func (w *writer) digest() (mac [sha256.Size]byte) {
	w.flush()
	clear(w.buf[:])
	w.mac.Sum(mac[:0])
	return mac
}
