package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
)

func TestPack(t *testing.T) {
	const digest = "00112233445566778899aabbccddeeff"
	tests := map[string]struct {
		fingerprint fingerprint.Fingerprint
		want        bool
	}{
		"of today":                    {"v1-" + digest, true},
		"of a later version":          {"v255-" + digest, true},
		"nothing":                     {"", false},
		"version zero":                {"v0-" + digest, false},
		"a version of two bytes":      {"v256-" + digest, false},
		"a leading zero":              {"v01-" + digest, false},
		"a sign":                      {"v+1-" + digest, false},
		"no version":                  {digest, false},
		"no letter before the number": {"1-" + digest, false},
		"capitals":                    {"v1-00112233445566778899AABBCCDDEEFF", false},
		"too short":                   {fingerprint.Fingerprint("v1-" + digest[2:]), false},
		"too long":                    {"v1-" + digest + "00", false},
		"no hexadecimal":              {"v1-0011223344556677-899aabbccddeef", false},
		"a space after it":            {"v1-" + digest + " ", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := Entry{Fingerprint: tc.fingerprint, Version: math.MaxUint64}
			p, ok := pack(e)
			require.Equal(t, tc.want, ok)
			if ok {
				assert.Equal(t, e, p.unpack())
			}
		})
	}
}

func TestIDsTellSourcesApart(t *testing.T) {
	seen := map[id]reloader.Source{}
	for _, s := range []reloader.Source{
		{},
		{Kind: "Secret", Namespace: "a", Name: "b"},
		{Kind: "ConfigMap", Namespace: "a", Name: "b"},
		{Kind: "Secret", Namespace: "b", Name: "a"},
		{Kind: "Secret", Namespace: "ab"},
		{Kind: "Secret", Namespace: "", Name: "ab"},
		{Kind: "Secreta", Namespace: "", Name: "b"},
		{Kind: "Secret", Namespace: "a/b", Name: "c"},
		{Kind: "Secret", Namespace: "a", Name: "b/c"},
		{Kind: "Secret", Namespace: "a", Name: string(bytes.Repeat([]byte{'b'}, 600))},
	} {
		before, found := seen[idOf(s)]
		assert.False(t, found, "%s and %s", before, s)
		seen[idOf(s)] = s
	}
}

// TestKnownAnswers fails when the format changes. Do not mend it: clusters hold
// checkpoints of today. Make a new format. The answers were worked out with
// another program, in Python.
func TestKnownAnswers(t *testing.T) {
	i := idOf(reloader.Source{Kind: reloader.Secret, Namespace: "a", Name: "b"})
	assert.Equal(t, "754a229f3d5257d50d0526160c2266d4", hex.EncodeToString(i[:]))
	stored := encode(testHeader(), testRecords(3))
	sum := sha256.Sum256(stored)
	assert.Len(t, stored, 55+3*41+16)
	assert.Equal(t, "0fd09faffec5e377bddd2e6b8772eacb", hex.EncodeToString(sum[:16]))
}

func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	for _, n := range []int{0, 1, 1000} {
		records := testRecords(n)
		want := map[id]packed{}
		for _, r := range records {
			want[id(r[:idSize])] = packed(r[idSize:])
		}
		stored := encode(testHeader(), records)
		h, entries, err := decode(stored, 3, keyOf("key-1"))
		require.NoError(t, err)
		assert.Equal(t, testHeader(), h)
		assert.Equal(t, want, entries)
		assert.Equal(t, want, mapOf(recordsOf(entries)))
	}
}

// flaws are the ways in which stored bytes are of no use.
func flaws() map[string]struct {
	stored []byte
	want   error
} {
	good := encode(testHeader(), testRecords(10))
	edit := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(good)) }
	sealed := func(change func(b []byte)) []byte {
		return edit(func(b []byte) []byte {
			body := b[:len(b)-checksumSize]
			change(body)
			sum := sha256.Sum256(body)
			return append(body, sum[:checksumSize]...)
		})
	}
	other := testHeader()
	other.key = keyOf("key-2")
	otherKey := encode(other, testRecords(10))
	other = testHeader()
	other.shard = 4
	otherShard := encode(other, nil)
	return map[string]struct {
		stored []byte
		want   error
	}{
		"empty":                       {[]byte{}, errForeign},
		"something else":              {[]byte("hello: world"), errForeign},
		"the magic alone":             {[]byte(magic), errDamaged},
		"the beginning of a header":   {good[:20], errDamaged},
		"cut off in the entries":      {good[:200], errDamaged},
		"the last byte is missing":    {good[:len(good)-1], errDamaged},
		"bytes behind the end":        {append(bytes.Clone(good), 0), errDamaged},
		"one bit of an entry":         {edit(func(b []byte) []byte { b[100] ^= 1; return b }), errDamaged},
		"one bit of the checksum":     {edit(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), errDamaged},
		"another number of entries":   {sealed(func(b []byte) { b[14]++ }), errDamaged},
		"another number of shards":    {sealed(func(b []byte) { b[10] = 16 }), errDamaged},
		"a shard that does not exist": {sealed(func(b []byte) { b[9] = Shards }), errDamaged},
		"entries not in order": {sealed(func(b []byte) {
			first, second := b[headerSize:headerSize+recordSize], b[headerSize+recordSize:]
			copy(first, second[:recordSize])
		}), errDamaged},
		"an entry of another shard":       {sealed(func(b []byte) { b[headerSize]++ }), errDamaged},
		"a fingerprint without a version": {sealed(func(b []byte) { b[headerSize+idSize] = 0 }), errDamaged},
		"another format":                  {edit(func(b []byte) []byte { b[8] = 2; return b }), errOtherFormat},
		"a checkpoint of another key":     {otherKey, errOtherKey},
		"another shard":                   {otherShard, errOtherShard},
		"larger than the largest":         {append(bytes.Clone(good), make([]byte, storedSize)...), errTooLarge},
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range flaws() {
		t.Run(name, func(t *testing.T) {
			_, entries, err := decode(tc.stored, 3, keyOf("key-1"))
			assert.Equal(t, tc.want, err)
			assert.Nil(t, entries)
		})
	}
}

// TestSizeAt100000Sources shows what is stored and sent at the size the product
// is made for.
func TestSizeAt100000Sources(t *testing.T) {
	var shards [Shards]map[id]packed
	for n := range shards {
		shards[n] = map[id]packed{}
	}
	for n := range 100_000 {
		i := idOf(source(n))
		p, ok := pack(entry(n))
		require.True(t, ok)
		shards[i.shard()][i] = p
	}
	largest, asJSON := 0, 0
	for n := range shards {
		require.LessOrEqual(t, len(shards[n]), maxEntries)
		stored := encode(header{shard: n}, recordsOf(shards[n]))
		text, err := json.Marshal(stored)
		require.NoError(t, err)
		largest, asJSON = max(largest, len(stored)), max(asJSON, len(text))
	}
	t.Logf("largest shard: %d KiB, in JSON %d KiB", largest>>10, asJSON>>10)
	assert.Less(t, largest, 520<<10)
	assert.Less(t, asJSON, 700<<10)
}

// FuzzDecode holds that decode accepts nothing that encode would not make.
// Random bytes would never get past the checksum, so it is mended.
func FuzzDecode(f *testing.F) {
	for _, tc := range flaws() {
		if len(tc.stored) < 4096 {
			f.Add(tc.stored, true)
			f.Add(tc.stored, false)
		}
	}
	good := encode(testHeader(), testRecords(10))
	f.Add(good, false)
	f.Fuzz(func(t *testing.T, stored []byte, mend bool) {
		if mend && len(stored) >= checksumSize {
			stored = bytes.Clone(stored)
			body := stored[:len(stored)-checksumSize]
			sum := sha256.Sum256(body)
			copy(stored[len(body):], sum[:])
		}
		h, entries, err := decode(stored, 3, keyOf("key-1"))
		if err != nil {
			assert.Nil(t, entries)
			return
		}
		assert.Equal(t, stored, encode(h, recordsOf(entries)))
	})
}

// FuzzPack holds that what pack accepts comes back as it was.
func FuzzPack(f *testing.F) {
	f.Add("v1-00112233445566778899aabbccddeeff", uint64(1))
	f.Add("v01-00112233445566778899aabbccddeeff", uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, text string, version uint64) {
		e := Entry{Fingerprint: fingerprint.Fingerprint(text), Version: version}
		if p, ok := pack(e); ok {
			assert.Equal(t, e, p.unpack())
			assert.True(t, p.sound())
		}
	})
}

func testHeader() header {
	return header{
		shard: 3, key: keyOf("key-1"), writer: [writerSize]byte{1, 2, 3}, flushes: 7,
		written: time.UnixMilli(noon.UnixMilli()),
	}
}

// testRecords returns n entries of shard 3.
func testRecords(n int) []record {
	records := make([]record, 0, n)
	for k := 0; len(records) < n; k++ {
		i := idOf(source(k))
		if i.shard() != 3 {
			continue
		}
		p, _ := pack(entry(k))
		records = append(records, record(append(i[:], p[:]...)))
	}
	return records
}

func mapOf(records []record) map[id]packed {
	entries := map[id]packed{}
	for _, r := range records {
		entries[id(r[:idSize])] = packed(r[idSize:])
	}
	return entries
}
