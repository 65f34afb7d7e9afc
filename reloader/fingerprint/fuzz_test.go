package fingerprint_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader/fingerprint"
)

// FuzzConfigMap holds for any two ConfigMaps: their fingerprints are equal
// exactly if their contents are, and the order in which a map came to be makes
// no difference.
func FuzzConfigMap(f *testing.F) {
	f.Add([]byte("\x01abc"), []byte("\x02abc"))
	f.Add([]byte("\x01a1\x01b2"), []byte("\x01b2\x01a1"))
	f.Add([]byte(""), []byte("\x00"))
	f.Add([]byte("\x83abc\xff"), []byte("\x03abc\xff"))
	k := testKey(f)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		one, two := contentOf(a), contentOf(b)
		assert.Equal(t, one.equal(two), one.fingerprint(k) == two.fingerprint(k), "%q %q", one, two)
		assert.Equal(t, one.fingerprint(k), one.reversed().fingerprint(k))
	})
}

// FuzzSecret is the same for Secrets, and holds that none of them looks like
// a ConfigMap.
func FuzzSecret(f *testing.F) {
	f.Add([]byte("\x81abc"), []byte("\x82abc"))
	f.Add([]byte("\x81a1\x81b2"), []byte("\x81b2\x81a1"))
	k := testKey(f)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		one, two := contentOf(a).binary, contentOf(b).binary
		same := maps.EqualFunc(one, two, bytes.Equal)
		assert.Equal(t, same, k.Secret(one) == k.Secret(two), "%q %q", one, two)
		assert.NotEqual(t, k.Secret(one), k.ConfigMap(nil, two))
	})
}

// FuzzSecretProviderClass is the same for the sets of objects that pods mount.
func FuzzSecretProviderClass(f *testing.F) {
	f.Add([]byte("\x01abc"), []byte("\x02abc"))
	f.Add([]byte("\x01a1\x01b2"), []byte("\x01b2\x01a1\x01a1"))
	k := testKey(f)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		one, two := objectsOf(a), objectsOf(b)
		same := assert.ObjectsAreEqual(setOf(one), setOf(two))
		assert.Equal(t, same, k.SecretProviderClass(one) == k.SecretProviderClass(two), "%q %q", one, two)
		slices.Reverse(one)
		twice := slices.Concat(one, objectsOf(a))
		assert.Equal(t, k.SecretProviderClass(one), k.SecretProviderClass(twice))
	})
}

// objectsOf reads objects out of arbitrary bytes: a byte that tells the length
// of the next ID, the ID, and a version that reaches up to the next small byte.
func objectsOf(b []byte) (all objects) {
	for len(b) > 0 {
		n := min(int(b[0]&0x0f), len(b)-1)
		o := fingerprint.Object{ID: string(b[1 : 1+n])}
		b = b[1+n:]
		end := bytes.IndexFunc(b, func(r rune) bool { return r < 8 })
		if end < 0 {
			end = len(b)
		}
		o.Version = string(b[:end])
		all, b = append(all, o), b[end:]
	}
	return all
}

func setOf(all objects) map[fingerprint.Object]bool {
	set := map[fingerprint.Object]bool{}
	for _, o := range all {
		set[o] = true
	}
	return set
}

type content struct {
	data   data
	binary binary
}

// contentOf reads a ConfigMap out of arbitrary bytes: a byte that tells the
// length of the next key (low bits) and where the entry goes (top bit), the
// key, and a value that reaches up to the next small byte.
func contentOf(b []byte) content {
	c := content{data: data{}, binary: binary{}}
	for len(b) > 0 {
		toBinary, n := b[0]&0x80 != 0, min(int(b[0]&0x0f), len(b)-1)
		key := string(b[1 : 1+n])
		b = b[1+n:]
		end := bytes.IndexFunc(b, func(r rune) bool { return r < 8 })
		if end < 0 {
			end = len(b)
		}
		if toBinary {
			c.binary[key] = b[:end]
		} else {
			c.data[key] = string(b[:end])
		}
		b = b[end:]
	}
	return c
}

func (c content) fingerprint(k fingerprint.Key) fingerprint.Fingerprint {
	return k.ConfigMap(c.data, c.binary)
}

func (c content) equal(other content) bool {
	return maps.Equal(c.data, other.data) && maps.EqualFunc(c.binary, other.binary, bytes.Equal)
}

func (c content) reversed() content {
	r := content{data: data{}, binary: binary{}}
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(c.data))) {
		r.data[key] = c.data[key]
	}
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(c.binary))) {
		r.binary[key] = c.binary[key]
	}
	return r
}
