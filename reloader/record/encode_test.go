package record_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/record"
)

// fullRecord has every field; fullText is what it must look like for as long
// as Version is 2. Of version 1 only the number differs.
func fullRecord() record.Record {
	return record.Record{
		Version: 2, Namespace: "shop", Name: "web", UID: "u-1", Generation: 3,
		Template: "00ff", Container: "app",
		References: []reloader.Reference{
			{Kind: reloader.ConfigMap, Name: "settings", Container: "app", How: reloader.HowEnvFrom},
			{Kind: reloader.Secret, Name: "db", Container: "migrate", Init: true, How: reloader.HowEnv, Keys: []string{"a", "b"}, Optional: true},
			{Kind: reloader.SecretProviderClass, Name: "vault", How: reloader.HowCSI},
		},
		Annotations: map[string]string{"configmap.reloader.stakater.com/reload": "a|<b>&c"},
		Keys:        "abcd",
	}
}

const fullText = `{"v":2,"ns":"shop","n":"web","u":"u-1","g":3,"t":"00ff","k":"abcd","c":"app","r":[` +
	`{"k":"cm","n":"settings","c":"app","h":"envFrom"},` +
	`{"k":"secret","n":"db","c":"migrate","i":true,"h":"env","y":["a","b"],"o":true},` +
	`{"k":"spc","n":"vault","h":"csi"}],` +
	`"a":{"configmap.reloader.stakater.com/reload":"a|<b>&c"}}`

const smallText = `{"v":2,"ns":"shop","n":"web","g":3,"t":"00ff","k":"abcd"}`

func TestEncode(t *testing.T) {
	got, err := fullRecord().Encode()
	require.NoError(t, err)
	assert.Equal(t, fullText, got)

	decoded, err := record.Decode(got)
	require.NoError(t, err)
	assert.Equal(t, fullRecord(), decoded)

	small, err := record.Record{Version: 2, Namespace: "shop", Name: "web", Generation: 3, Template: "00ff", Keys: "abcd",
		References: []reloader.Reference{}, Annotations: map[string]string{}}.Encode()
	require.NoError(t, err)
	assert.Equal(t, smallText, small, "what is empty takes no room")
}

func TestRecordsOfVersion1AreReadAndCarriedForward(t *testing.T) {
	text := strings.Replace(fullText, `"v":2`, `"v":1`, 1)
	got, err := record.Decode(text)
	require.NoError(t, err)
	want := fullRecord()
	want.Version = 1
	assert.Equal(t, want, got)

	text, err = got.WithGeneration(4).Encode()
	require.NoError(t, err)
	assert.Equal(t, strings.NewReplacer(`"v":2`, `"v":1`, `"g":3`, `"g":4`).Replace(fullText), text)
}

func TestEncodeKnowsEveryWayOfUse(t *testing.T) {
	for _, how := range []reloader.How{
		reloader.HowEnv, reloader.HowEnvFrom, reloader.HowVolume, reloader.HowProjected, reloader.HowCSI,
		reloader.HowImagePull, reloader.HowNodePublish, reloader.HowVolumePlugin,
	} {
		for _, kind := range reloader.SourceKinds() {
			want := record.Record{Version: 2, References: []reloader.Reference{{Kind: kind, Name: "x", How: how}}}
			text, err := want.Encode()
			require.NoError(t, err)
			got, err := record.Decode(text)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(r *record.Record)
		want   error
	}{
		"another version":           {func(r *record.Record) { r.Version = 3 }, record.ErrVersion},
		"no version":                {func(r *record.Record) { r.Version = 0 }, record.ErrVersion},
		"a kind that is unknown":    {func(r *record.Record) { r.References[0].Kind = "Pod" }, record.ErrMalformed},
		"a way that is unknown":     {func(r *record.Record) { r.References[0].How = "telepathy" }, record.ErrMalformed},
		"a template of any length":  {func(r *record.Record) { r.Template = strings.Repeat("f", 129) }, record.ErrMalformed},
		"a reference to nothing":    {func(r *record.Record) { r.References[0].Name = "" }, record.ErrMalformed},
		"bytes that are not UTF-8":  {func(r *record.Record) { r.References[0].Keys = []string{"\xff"} }, record.ErrMalformed},
		"more than fits":            {func(r *record.Record) { r.Annotations["a"] = strings.Repeat("x", record.MaxSize) }, record.ErrTooLarge},
		"more than fits, escaped":   {func(r *record.Record) { r.Annotations["a"] = strings.Repeat("\n", record.MaxSize/2) }, record.ErrTooLarge},
		"an annotation not in UTF8": {func(r *record.Record) { r.Annotations["a"] = "\xc3" }, record.ErrMalformed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := fullRecord()
			tc.change(&r)
			text, err := r.Encode()
			require.ErrorIs(t, err, tc.want)
			assert.Empty(t, text)
		})
	}
}

func TestEncodeReachesTheLimit(t *testing.T) {
	r := fullRecord()
	r.Annotations["a"] = ""
	text, err := r.Encode()
	require.NoError(t, err)
	r.Annotations["a"] = strings.Repeat("x", record.MaxSize-len(text))
	text, err = r.Encode()
	require.NoError(t, err)
	assert.Len(t, text, record.MaxSize)
	got, err := record.Decode(text)
	require.NoError(t, err)
	assert.Equal(t, r, got)
}

func TestDecodeRefuses(t *testing.T) {
	tests := map[string]struct {
		text string
		want error
	}{
		"nothing":                  {"", record.ErrMalformed},
		"null":                     {"null", record.ErrMalformed},
		"an empty object":          {"{}", record.ErrMalformed},
		"text":                     {"reloader", record.ErrMalformed},
		"an array":                 {"[" + smallText + "]", record.ErrMalformed},
		"a later version":          {`{"v":3,"whatever":[1]}`, record.ErrVersion},
		"version zero":             {`{"v":0,"ns":"shop","n":"web","g":3,"t":"00ff","k":"abcd"}`, record.ErrVersion},
		"a version out of range":   {`{"v":99999999999999999999}`, record.ErrVersion},
		"a negative version":       {`{"v":-1,"ns":"shop","n":"web","g":3,"t":"00ff","k":"abcd"}`, record.ErrVersion},
		"a version that is text":   {`{"v":"1"}`, record.ErrMalformed},
		"an unknown field":         {strings.Replace(smallText, `"g":3`, `"g":3,"x":1`, 1), record.ErrMalformed},
		"an unknown nested field":  {strings.Replace(fullText, `"n":"db"`, `"n":"db","x":1`, 1), record.ErrMalformed},
		"a template of any length": {strings.Replace(smallText, `"t":"00ff"`, `"t":"`+strings.Repeat("f", 129)+`"`, 1), record.ErrMalformed},
		"a field twice":            {strings.Replace(smallText, `"g":3`, `"g":2,"g":3`, 1), record.ErrMalformed},
		"a field in capitals":      {strings.Replace(smallText, `"g":3`, `"G":3`, 1), record.ErrMalformed},
		"a missing field":          {`{"v":2,"ns":"shop","n":"web","g":3,"t":"00ff"}`, record.ErrMalformed},
		"another order":            {`{"v":2,"n":"web","ns":"shop","g":3,"t":"00ff","k":"abcd"}`, record.ErrMalformed},
		"white space":              {strings.Replace(smallText, `,`, `, `, 1), record.ErrMalformed},
		"a line end":               {smallText + "\n", record.ErrMalformed},
		"a second record":          {smallText + smallText, record.ErrMalformed},
		"trailing text":            {smallText + "x", record.ErrMalformed},
		"an empty list":            {strings.Replace(smallText, `}`, `,"r":[]}`, 1), record.ErrMalformed},
		"a number for a name":      {strings.Replace(smallText, `"web"`, `1`, 1), record.ErrMalformed},
		"a generation with digits": {strings.Replace(smallText, `"g":3`, `"g":3.0`, 1), record.ErrMalformed},
		"an unknown kind":          {strings.Replace(fullText, `"k":"cm"`, `"k":"pod"`, 1), record.ErrMalformed},
		"a kind in full":           {strings.Replace(fullText, `"k":"cm"`, `"k":"ConfigMap"`, 1), record.ErrMalformed},
		"an unknown way":           {strings.Replace(fullText, `"h":"csi"`, `"h":"x"`, 1), record.ErrMalformed},
		"a reference to nothing":   {strings.Replace(fullText, `"n":"vault"`, `"n":""`, 1), record.ErrMalformed},
		"bytes that are not UTF-8": {strings.Replace(smallText, `web`, "\xff", 1), record.ErrMalformed},
		"half a surrogate pair":    {strings.Replace(smallText, `web`, `\ud800`, 1), record.ErrMalformed},
		"deep nesting":             {strings.Repeat(`{"r":[`, 10_000), record.ErrMalformed},
		"more than the limit":      {strings.Repeat("x", record.MaxSize+1), record.ErrTooLarge},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := record.Decode(tc.text)
			require.ErrorIs(t, err, tc.want)
			assert.Equal(t, record.Record{}, got)
		})
	}
}

func TestDecodeRefusesEveryPart(t *testing.T) {
	for n := range len(fullText) {
		_, err := record.Decode(fullText[:n])
		require.Error(t, err, "the first %d bytes", n)
	}
}

func TestDecodeErrorsDoNotQuote(t *testing.T) {
	for _, text := range []string{
		strings.Replace(smallText, `"g":3`, `"hunter2":3`, 1),
		strings.Replace(smallText, `"g":3`, `"g":"hunter2"`, 1),
		strings.Replace(fullText, `"h":"csi"`, `"h":"hunter2"`, 1),
		"hunter2",
	} {
		_, err := record.Decode(text)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

// FuzzEncode holds for any record: either it is refused, or it decodes to
// itself, and half of it to nothing.
func FuzzEncode(f *testing.F) {
	f.Add("shop", "web", "u-1", int64(3), "00ff", "app", "db,cache", "a,b", "true", uint8(0))
	f.Add("", "", "", int64(-1), "\x00", "\n", "x", "", "\xff<>&\u2028", uint8(0xff))
	f.Fuzz(func(t *testing.T, namespace, name, uid string, generation int64, template, container, sources, keys, value string, bits uint8) {
		r := record.New(record.Identity{Namespace: namespace, Name: name, UID: uid, Generation: generation}, testTemplate(), "", annotation.DefaultKeys())
		r.Template, r.Container = template, container
		hows := []reloader.How{reloader.HowEnv, reloader.HowVolume, reloader.HowCSI, reloader.HowImagePull}
		for i, source := range strings.Split(sources, ",") {
			ref := reloader.Reference{
				Kind: reloader.SourceKinds()[(int(bits)+i)%3], Name: source, Container: container,
				How: hows[(int(bits)+i)%len(hows)], Init: bits&4 != 0, Optional: bits&8 != 0,
			}
			if bits&16 != 0 {
				ref.Keys = strings.Split(keys, ",")
			}
			r.References = append(r.References, ref)
		}
		r.Annotations = map[string]string{value: keys, name: value}

		text, err := r.Encode()
		if err != nil {
			assert.Empty(t, text)
			return
		}
		got, err := record.Decode(text)
		require.NoError(t, err)
		assert.Equal(t, r, got)
		_, err = record.Decode(text[:len(text)/2])
		assert.Error(t, err, "half a record")
	})
}

// FuzzDecode holds for any text: no panic, and what is accepted is exactly
// what its record encodes to.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", smallText, fullText, fullText[:len(fullText)/2], smallText + " ",
		strings.ReplaceAll(fullText, "r", "R"), fmt.Sprintf(`{"v":%d}`, 3), strings.Replace(fullText, `"v":2`, `"v":1`, 1),
		`{"v":2,"ns":"\u0073","n":"","g":-0,"t":"","k":""}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := record.Decode(text)
		if err != nil {
			assert.Equal(t, record.Record{}, r)
			return
		}
		again, err := r.Encode()
		require.NoError(t, err)
		assert.Equal(t, text, again)

		bound, unbound := record.Bind(text, "u-2")
		assert.Equal(t, r.UID == "", unbound)
		if unbound {
			r.UID = "u-2"
		}
		got, err := record.Decode(bound)
		if len(bound) <= record.MaxSize {
			require.NoError(t, err)
			assert.Equal(t, r, got)
		}
	})
}

func TestAhead(t *testing.T) {
	full := fullRecord()
	tests := map[string]struct {
		text string
		g    int64
		want bool
	}{
		"no record":                   {"", 0, false},
		"no generation":               {`{"v":2}`, 0, false},
		"a broken one":                {`{"v":2,"g":`, 0, false},
		"more than a generation":      {`{"v":2,"ns":"","n":"","g":99999999999999999999,`, 0, false},
		"less than one":               {`{"v":2,"ns":"","n":"","g":-1,`, -2, false},
		"the next":                    {fullText, 2, true},
		"a later one":                 {smallText, 1, true},
		"the present one":             {fullText, 3, false},
		"one before":                  {fullText, 4, false},
		"of the version before":       {strings.Replace(fullText, `"v":2`, `"v":1`, 1), 2, true},
		"a generation within a name":  {strings.Replace(smallText, "shop", `\",\"g\":9`, 1), 3, false},
		"one that a UID seems to end": {strings.Replace(fullText, "u-1", `,`, 1), 2, true},
		"far behind":                  {strings.Repeat(" ", 2_000) + smallText, 1, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, record.Ahead(tc.text, tc.g)) })
	}
	assert.Zero(t, testing.AllocsPerRun(10, func() { record.Ahead(fullText, full.Generation) }))
}

// FuzzAhead holds that nobody can hide from Ahead what Decode accepts.
func FuzzAhead(f *testing.F) {
	for _, seed := range []string{"", smallText, fullText, strings.Replace(smallText, "shop", `,\"g\":9`, 1)} {
		f.Add(seed, int64(2))
	}
	f.Fuzz(func(t *testing.T, text string, g int64) {
		ahead := record.Ahead(text, g)
		r, err := record.Decode(text)
		if err != nil || g < 0 || len(r.Namespace)+len(r.Name)+len(r.UID) > 63+253+36 || strings.Contains(text[:min(len(text), 1<<10)], `\u`) {
			return
		}
		assert.Equal(t, r.Generation > g, ahead)
	})
}

func TestBind(t *testing.T) {
	tests := map[string]struct {
		text, want string
		wantBound  bool
	}{
		"a record without UID": {
			smallText, `{"v":2,"ns":"shop","n":"web","u":"u-2","g":3,"t":"00ff","k":"abcd"}`, true,
		},
		"a record with UID": {fullText, fullText, false},
		"a name that looks like fields": {
			`{"v":2,"ns":"shop","n":"a\",\"g\":1","g":3,"t":"00ff","k":"abcd"}`,
			`{"v":2,"ns":"shop","n":"a\",\"g\":1","u":"u-2","g":3,"t":"00ff","k":"abcd"}`, true,
		},
		"something else": {"true", "true", false},
		"nothing":        {},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, bound := record.Bind(tc.text, "u-2")
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.wantBound, bound)
		})
	}
}

func TestDecodeIsBoundedInMemory(t *testing.T) {
	for name, entry := range map[string]string{"references": "{},", "their keys": `{"y":[]},`} {
		t.Run(name, func(t *testing.T) {
			text := `{"v":2,"r":[` + strings.Repeat(entry, (record.MaxSize-100)/len(entry)) + `{}]}`
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := record.Decode(text)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, record.ErrMalformed)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16*len(text)))
		})
	}
}
