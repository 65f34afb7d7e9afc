package fingerprint_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader/fingerprint"
)

type (
	data   = map[string]string
	binary = map[string][]byte

	objects = []fingerprint.Object
)

// TestKnownAnswers fails when the encoding changes. Do not mend it: clusters
// hold fingerprints of today. Make a new version. The answers were worked out
// with another program, in Python.
func TestKnownAnswers(t *testing.T) {
	k := testKey(t)
	tests := map[string]struct {
		got  fingerprint.Fingerprint
		want fingerprint.Fingerprint
	}{
		"an empty ConfigMap":        {k.ConfigMap(nil, nil), "v1-c198574484341523fe2df54ab4c7f978"},
		"a ConfigMap":               {k.ConfigMap(data{"a": "1", "b": "2"}, nil), "v1-449c5b35104e8adae6aeb37ce6a51fcd"},
		"a ConfigMap of both sorts": {k.ConfigMap(data{"a": "1"}, binary{"b": {0, 255}}), "v1-c22f333bd80aea8fcae402f5c525b329"},
		"an empty Secret":           {k.Secret(nil), "v1-8d77b6ebd05a7df92202909bcf12eb5c"},
		"a Secret":                  {k.Secret(binary{"password": []byte("hunter2"), "user": []byte("me")}), "v1-dc9ba254a23e6240fd804823a40262df"},
		"a Secret of 1 MiB":         {k.Secret(binary{"blob": bytes.Repeat([]byte{7}, 1<<20)}), "v1-1a9dfc6d7753de73854303f6759a0e40"},
		"an empty class":            {k.SecretProviderClass(nil), "v1-2fa508ead47c2747d17cd6c40a285a90"},
		"a class of two objects":    {k.SecretProviderClass(objects{{ID: "secret/db", Version: "7"}, {ID: "secret/api", Version: "12"}}), "v1-de3361cead4f24d14b3a2ce820584613"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, tc.got)
		})
	}
}

func TestSameContentSameFingerprint(t *testing.T) {
	k := testKey(t)
	tests := map[string]struct {
		a, b fingerprint.Fingerprint
	}{
		"nil and empty maps of a ConfigMap": {k.ConfigMap(nil, nil), k.ConfigMap(data{}, binary{})},
		"nil and empty maps of a Secret":    {k.Secret(nil), k.Secret(binary{})},
		"nil and empty values":              {k.Secret(binary{"a": nil}), k.Secret(binary{"a": {}})},
		"objects in another order": {
			k.SecretProviderClass(objects{{ID: "a", Version: "1"}, {ID: "b", Version: "2"}}),
			k.SecretProviderClass(objects{{ID: "b", Version: "2"}, {ID: "a", Version: "1"}}),
		},
		"an object twice": {
			k.SecretProviderClass(objects{{ID: "a", Version: "1"}}),
			k.SecretProviderClass(objects{{ID: "a", Version: "1"}, {ID: "a", Version: "1"}}),
		},
		"another key of the same bytes": {k.Secret(binary{"a": nil}), testKey(t).Secret(binary{"a": nil})},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.a, tc.b)
		})
	}
}

func TestDifferentContentDifferentFingerprint(t *testing.T) {
	k := testKey(t)
	other, err := fingerprint.NewKey(bytes.Repeat([]byte{1}, fingerprint.KeySize))
	require.NoError(t, err)
	tests := map[string]struct {
		a, b fingerprint.Fingerprint
	}{
		"another value":                       {k.ConfigMap(data{"a": "1"}, nil), k.ConfigMap(data{"a": "2"}, nil)},
		"another key":                         {k.ConfigMap(data{"a": "1"}, nil), k.ConfigMap(data{"b": "1"}, nil)},
		"a letter moved from value to key":    {k.ConfigMap(data{"a": "bc"}, nil), k.ConfigMap(data{"ab": "c"}, nil)},
		"values exchanged":                    {k.ConfigMap(data{"a": "1", "b": "2"}, nil), k.ConfigMap(data{"a": "2", "b": "1"}, nil)},
		"two entries that read like one":      {k.ConfigMap(data{"a": "1;b=2"}, nil), k.ConfigMap(data{"a": "1", "b": "2"}, nil)},
		"an empty value and no entry":         {k.ConfigMap(data{"a": ""}, nil), k.ConfigMap(nil, nil)},
		"data and binaryData":                 {k.ConfigMap(data{"a": "1"}, nil), k.ConfigMap(nil, binary{"a": []byte("1")})},
		"base64 in data and bytes":            {k.ConfigMap(data{"a": "MQ=="}, nil), k.ConfigMap(nil, binary{"a": []byte("1")})},
		"an entry moved from data to binary":  {k.ConfigMap(data{"a": "1", "b": "2"}, nil), k.ConfigMap(data{"a": "1"}, binary{"b": []byte("2")})},
		"a ConfigMap and a Secret":            {k.ConfigMap(data{"a": "1"}, nil), k.Secret(binary{"a": []byte("1")})},
		"an empty ConfigMap and empty Secret": {k.ConfigMap(nil, nil), k.Secret(nil)},
		"trailing zero bytes":                 {k.Secret(binary{"a": {0}}), k.Secret(binary{"a": {0, 0}})},
		"the last byte of a megabyte":         {k.Secret(binary{"a": bytes.Repeat([]byte{1}, 1<<20)}), k.Secret(binary{"a": append(bytes.Repeat([]byte{1}, 1<<20-1), 2)})},
		"another version of an object": {
			k.SecretProviderClass(objects{{ID: "a", Version: "1"}}), k.SecretProviderClass(objects{{ID: "a", Version: "2"}}),
		},
		"one object more": {
			k.SecretProviderClass(objects{{ID: "a", Version: "1"}}), k.SecretProviderClass(objects{{ID: "a", Version: "1"}, {ID: "b", Version: "1"}}),
		},
		"two versions of an object and one": {
			k.SecretProviderClass(objects{{ID: "a", Version: "1"}, {ID: "a", Version: "2"}}), k.SecretProviderClass(objects{{ID: "a", Version: "2"}}),
		},
		"a letter moved from version to ID": {
			k.SecretProviderClass(objects{{ID: "a", Version: "bc"}}), k.SecretProviderClass(objects{{ID: "ab", Version: "c"}}),
		},
		"an empty class and an empty Secret":   {k.SecretProviderClass(nil), k.Secret(nil)},
		"an empty class and one that is gone":  {k.SecretProviderClass(nil), fingerprint.Deleted},
		"the same content under different key": {k.Secret(binary{"a": nil}), other.Secret(binary{"a": nil})},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.NotEqual(t, tc.a, tc.b)
		})
	}
}

// TestBufferEdges covers values that end around the end of the buffer, where
// an encoding that loses bytes would show.
func TestBufferEdges(t *testing.T) {
	k := testKey(t)
	seen := map[fingerprint.Fingerprint]int{}
	for n := range 1200 {
		f := k.Secret(binary{"a": bytes.Repeat([]byte{1}, n)})
		before, found := seen[f]
		require.False(t, found, "%d and %d bytes", before, n)
		seen[f] = n
	}
}

func TestFingerprintFitsLabelsAndVariables(t *testing.T) {
	for _, f := range []fingerprint.Fingerprint{testKey(t).Secret(nil), testKey(t).SecretProviderClass(nil), fingerprint.Deleted} {
		assert.Regexp(t, `^v1-[0-9a-f]{32}$`, f)
	}
}

func TestZeroKeyMakesNothing(t *testing.T) {
	var k fingerprint.Key
	assert.True(t, k.IsZero())
	assert.Empty(t, k.Secret(binary{"a": []byte("1")}))
	assert.Empty(t, k.ConfigMap(data{"a": "1"}, nil))
	assert.Empty(t, k.SecretProviderClass(objects{{ID: "a", Version: "1"}}))
	assert.False(t, testKey(t).IsZero())
}

func TestNewKey(t *testing.T) {
	tests := map[string]struct {
		bytes   []byte
		wantErr string
	}{
		"32 bytes are a key":     {bytes: make([]byte, 32)},
		"nothing is not":         {wantErr: "fingerprint key: 0 bytes, want 32"},
		"31 bytes are too few":   {bytes: []byte(strings.Repeat("s", 31)), wantErr: "fingerprint key: 31 bytes, want 32"},
		"hexadecimal is no form": {bytes: []byte(strings.Repeat("ab", 32)), wantErr: "fingerprint key: 64 bytes, want 32"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			k, err := fingerprint.NewKey(tc.bytes)
			if tc.wantErr != "" {
				require.EqualError(t, err, tc.wantErr)
				assert.True(t, k.IsZero())
				return
			}
			require.NoError(t, err)
			assert.False(t, k.IsZero())
		})
	}
}

func TestNewKeyKeepsACopy(t *testing.T) {
	b := make([]byte, fingerprint.KeySize)
	k, err := fingerprint.NewKey(b)
	require.NoError(t, err)
	before := k.Secret(nil)
	b[0] = 1
	assert.Equal(t, before, k.Secret(nil))
}

// TestKeyIsNotPrinted prints a key in every way, also from inside structs
// whose fields fmt may not call methods of, and looks for its bytes in decimal,
// hexadecimal and as text.
func TestKeyIsNotPrinted(t *testing.T) {
	secret := []byte("0123456789abcdefghijklmnopqrstuv")
	k, err := fingerprint.NewKey(secret)
	require.NoError(t, err)
	type Exported struct{ Key fingerprint.Key }
	type unexported struct{ key fingerprint.Key }
	values := map[string]any{
		"a key":                     k,
		"a pointer to a key":        &k,
		"an exported field":         Exported{k},
		"an unexported field":       unexported{k},
		"a pointer to a field":      &unexported{k},
		"a slice":                   []fingerprint.Key{k},
		"a slice of structs":        []unexported{{k}},
		"a map":                     map[string]fingerprint.Key{"k": k},
		"a map of pointers to some": map[string]*unexported{"k": {k}},
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%p", "%e", "%T", "%10.3s"} {
				fmt.Fprintf(&out, verb+"\n", value)
			}
			fmt.Fprint(&out, value)
			fmt.Fprintln(&out, value)
			if text, err := json.Marshal(value); err == nil {
				out.Write(text)
			}
			printed := strings.ToLower(out.String())
			for _, form := range []string{
				string(secret[:4]), hex.EncodeToString(secret[:4]), "30 31 32 33", "48 49 50 51", "48, 49, 50", "0x30, 0x31", "60 61 62 63", "u+0030",
			} {
				assert.NotContains(t, printed, form)
			}
		})
	}
	assert.Equal(t, "fingerprint.Key(hidden)", fmt.Sprint(k))
	assert.Equal(t, "fingerprint.Key(hidden)", fmt.Sprintf("%#v", k))
}

func BenchmarkSecret(b *testing.B) {
	k := testKey(b)
	for name, content := range map[string]binary{
		"3 keys of 32 bytes":  {"a": make([]byte, 32), "b": make([]byte, 32), "c": make([]byte, 32)},
		"1 key of 1 MiB":      {"a": make([]byte, 1<<20)},
		"1000 keys of 1 byte": manyKeys(1000),
	} {
		b.Run(name, func(b *testing.B) {
			size := 0
			for key, value := range content {
				size += len(key) + len(value)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_ = k.Secret(content)
			}
		})
	}
}

func manyKeys(n int) binary {
	m := make(binary, n)
	for i := range n {
		m[fmt.Sprintf("key-%d", i)] = []byte{1}
	}
	return m
}

func testKey(t testing.TB) fingerprint.Key {
	t.Helper()
	b := make([]byte, fingerprint.KeySize)
	for i := range b {
		b[i] = byte(i)
	}
	k, err := fingerprint.NewKey(b)
	require.NoError(t, err)
	return k
}

// TestTheIDTellsTheVersion: what was kept with fingerprints of another version
// is not compared with those of this one.
func TestTheIDTellsTheVersion(t *testing.T) {
	key, err := fingerprint.NewKey(bytes.Repeat([]byte{1}, fingerprint.KeySize))
	require.NoError(t, err)
	version, _, found := strings.Cut(string(key.ConfigMap(data{"a": "1"}, nil)), "-")
	require.True(t, found)
	assert.True(t, strings.HasPrefix(key.ID(), version+"-"), key.ID())
}

func TestDerivedKeysTellNothingOfEachOther(t *testing.T) {
	key, err := fingerprint.NewKey(bytes.Repeat([]byte{7}, fingerprint.KeySize))
	require.NoError(t, err)
	marks, carriers := key.Derive("marks"), key.Derive("carriers")

	assert.Equal(t, marks.MAC("a"), key.Derive("marks").MAC("a"))
	assert.Len(t, marks.MAC("a"), 32)
	assert.NotEqual(t, marks.MAC("a"), carriers.MAC("a"))
	assert.NotEqual(t, marks.MAC("a"), key.MAC("a"))
	assert.NotEqual(t, marks.ID(), key.ID())
	assert.True(t, fingerprint.Key{}.Derive("marks").IsZero())
}

func TestMACsOfTextsCutDifferentlyDiffer(t *testing.T) {
	key, err := fingerprint.NewKey(bytes.Repeat([]byte{7}, fingerprint.KeySize))
	require.NoError(t, err)

	assert.NotEqual(t, key.MAC("ab", "c"), key.MAC("a", "bc"))
	assert.NotEqual(t, key.MAC("a"), key.MAC("a", ""))
	assert.Empty(t, fingerprint.Key{}.MAC("a"))
}
