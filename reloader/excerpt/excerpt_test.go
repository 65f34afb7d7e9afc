package excerpt

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// schema has a bit of everything.
func schema() Field {
	return Field{Members: []Member{
		Scalar("name"),
		Object("meta", Kept(Map("notes", 10, func(key []byte) bool { return strings.HasPrefix(string(key), "our/") }))),
		Kept(Object("spec", List("items", 100, Scalar("name"), Object("from", Scalar("key"))))),
		Whole("any"),
	}}
}

func TestTake(t *testing.T) {
	tests := map[string]struct {
		text     string
		want     string
		wantKept map[string]string
		wantErr  string
	}{
		"everything": {
			text:     `{"name":"a","meta":{"notes":{"our/a":"1","b":"2"},"c":3},"spec":{"items":[{"name":"x"}],"d":4},"any":[5]}`,
			want:     `{"name":"a","meta":{"notes":{"our/a":"1"}},"spec":{"items":[{"name":"x"}]}}`,
			wantKept: map[string]string{"meta.notes": `{"our/a":"1","b":"2"}`, "spec": `{"items":[{"name":"x"}],"d":4}`, "any": `[5]`},
		},
		"white space": {
			text:     " {\n\t\"name\" : \"a\" , \"spec\" : { \"items\" : [ { \"name\" : \"x\" } ] } } \r\n",
			want:     `{"name":"a","spec":{"items":[{"name":"x"}]}}`,
			wantKept: map[string]string{"spec": `{ "items" : [ { "name" : "x" } ] }`},
		},
		"nothing of it":               {text: `{"other":{"name":"a"}}`, want: "null"},
		"a null":                      {text: "null", want: "null"},
		"nulls":                       {text: `{"name":null,"meta":{"notes":null},"spec":null,"any":null}`, want: "null"},
		"nulls in lists and maps":     {text: `{"meta":{"notes":{"our/a":null}},"spec":{"items":[null,{"name":null}]}}`, want: `{"meta":{"notes":{}}}`, wantKept: map[string]string{"meta.notes": `{"our/a":null}`, "spec": `{"items":[null,{"name":null}]}`}},
		"elements of nothing":         {text: `{"spec":{"items":[{},{"a":1},{"name":"x"},{"from":{}},{"from":{"key":"k"}}]}}`, want: `{"spec":{"items":[{"name":"x"},{"from":{"key":"k"}}]}}`, wantKept: map[string]string{"spec": `{"items":[{},{"a":1},{"name":"x"},{"from":{}},{"from":{"key":"k"}}]}`}},
		"a map of others only":        {text: `{"meta":{"notes":{"a":{"b":1}}}}`, want: `{"meta":{"notes":{}}}`, wantKept: map[string]string{"meta.notes": `{"a":{"b":1}}`}},
		"escapes":                     {text: `{"n\u0061me":"\u0061\n","meta":{"notes":{"\u006fur\/a":"1"}}}`, want: `{"name":"\u0061\n","meta":{"notes":{"\u006fur\/a":"1"}}}`, wantKept: map[string]string{"meta.notes": `{"\u006fur\/a":"1"}`}},
		"another case":                {text: `{"Name":"a"}`, want: "null"},
		"numbers and booleans":        {text: `{"name":1e400}`, want: `{"name":1e400}`},
		"a duplicate that is skipped": {text: `{"a":1,"a":2}`, want: "null"},
		"a duplicate that is not":     {text: `{"spec":{"items":[{"name":"a","name":"b"}]}}`, wantErr: "spec.items.name: the field stands there twice"},
		"an object for a scalar":      {text: `{"name":{}}`, wantErr: "name: the field holds another kind of value"},
		"an array for an object":      {text: `{"spec":[]}`, wantErr: "spec: the field holds another kind of value"},
		"a string for a map":          {text: `{"meta":{"notes":"hunter2"}}`, wantErr: "meta.notes: the field holds another kind of value"},
		"an array at the top":         {text: `[]`, wantErr: "the field holds another kind of value"},
		"no text":                     {text: "", wantErr: "broken JSON"},
		"half a text":                 {text: `{"name":"a"`, wantErr: "broken JSON"},
		"half a string":               {text: `{"name":"hunter2`, wantErr: "name: broken JSON"},
		"half an array":               {text: `{"spec":{"items":[{"name":"a"}`, wantErr: "spec.items: broken JSON"},
		"no value":                    {text: `{"name":}`, wantErr: "name: broken JSON"},
		"the wrong end":               {text: `{"spec":{"items":[}}}`, wantErr: "spec.items: the field holds another kind of value"},
		"more than one value":         {text: `{"name":"a"} {}`, wantErr: "broken JSON"},
		"bytes that are no text":      {text: "{\"name\":\"\xff\xfe\"}", wantErr: "name: broken JSON"},
		"too deep":                    {text: `{"other":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, wantErr: "broken JSON"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Take([]byte(tc.text), schema(), 10_000)
			if tc.wantErr != "" {
				require.EqualError(t, err, tc.wantErr)
				assert.Empty(t, got)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, string(got.JSON))
			assert.Len(t, got.Kept, len(tc.wantKept))
			for path, want := range tc.wantKept {
				assert.Equal(t, want, string(got.Kept[path]), path)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	text := []byte(`{"spec":{"items":[{"name":"x"},{},{},{},{"name":"y"}]},"meta":{"notes":{"our/a":"1","b":"2"}}}`)
	const cost = len(`{"spec":{"items":[{"name":"x"},{"name":"y"}]},"meta":{"notes":{"our/a":"1"}}}`) + 2*100 + 10
	_, err := Take(text, schema(), cost)
	require.NoError(t, err)
	_, err = Take(text, schema(), cost-1)
	require.ErrorIs(t, err, ErrTooMuch)
}

func TestWhatIsNotTakenCostsNoMemory(t *testing.T) {
	text := []byte(`{"other":[` + strings.TrimSuffix(strings.Repeat(`{"a":{},"b":["c",1]},`, 200_000), ",") + `],"name":"a"}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Take(text, schema(), 100)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<10), "of %d bytes", len(text))
}

func TestEqual(t *testing.T) {
	same := func(outer, _ string, a, b []byte) bool {
		return outer == "limits" && strings.TrimLeft(string(a), "0") == strings.TrimLeft(string(b), "0")
	}
	strict, loose := Comparison{}, Comparison{Loose: true, Same: same}
	tests := map[string]struct {
		a, b       string
		want, weak bool
	}{
		"the same":                    {`{"a":[1,"b",{"c":true}]}`, `{"a":[1,"b",{"c":true}]}`, true, true},
		"white space":                 {`{"a":[1,{}]}`, ` { "a" : [ 1 , { } ] } `, true, true},
		"another number":              {`{"a":1}`, `{"a":2}`, false, false},
		"another string":              {`{"a":"1"}`, `{"a":"2"}`, false, false},
		"another type":                {`{"a":"1"}`, `{"a":1}`, false, false},
		"another boolean":             {`{"a":true}`, `{"a":false}`, false, false},
		"another name":                {`{"a":1}`, `{"b":1}`, false, false},
		"one more member":             {`{"a":1}`, `{"a":1,"b":1}`, false, false},
		"one member less":             {`{"a":1,"b":1}`, `{"a":1}`, false, false},
		"one more element":            {`[1]`, `[1,2]`, false, false},
		"another order":               {`[1,2]`, `[2,1]`, false, false},
		"a null for nothing":          {`{"a":null,"b":1}`, `{"b":1}`, false, true},
		"an empty array for nothing":  {`{"a":[ ],"b":1}`, `{"b":1}`, false, true},
		"an empty array for a null":   {`{"a":[]}`, `{"a":null}`, false, true},
		"an empty object is no null":  {`{"a":{}}`, `{"a":null}`, false, false},
		"an array with a null":        {`{"a":[null]}`, `{}`, false, false},
		"no text is a null":           {``, `null`, true, true},
		"no text is no object":        {``, `{}`, false, false},
		"strings that mean the same":  {`{"limits":{"cpu":"1"}}`, `{"limits":{"cpu":"01"}}`, false, true},
		"strings of the same, beside": {`{"others":{"cpu":"1"}}`, `{"others":{"cpu":"01"}}`, false, false},
		"both broken, differently":    {`{"a":`, `{"a":[`, false, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, strict.Equal([]byte(tc.a), []byte(tc.b)))
			assert.Equal(t, tc.want, strict.Equal([]byte(tc.b), []byte(tc.a)))
			assert.Equal(t, tc.weak, loose.Equal([]byte(tc.a), []byte(tc.b)))
			assert.Equal(t, tc.weak, loose.Equal([]byte(tc.b), []byte(tc.a)))
		})
	}
	t.Run("but for one member", func(t *testing.T) {
		c := Comparison{Except: "x"}
		assert.True(t, c.Equal([]byte(`{"a":1,"x":1}`), []byte(`{"a":1,"x":2}`)))
		assert.True(t, c.Equal([]byte(`{"a":1,"x":1}`), []byte(`{"a":1}`)))
		assert.False(t, c.Equal([]byte(`{"a":{"x":1}}`), []byte(`{"a":{"x":2}}`)), "only of the outermost object")
		assert.False(t, c.Equal([]byte(`{"a":1,"x":1}`), []byte(`{"a":2,"x":1}`)))
	})
}

func TestLength(t *testing.T) {
	for text, want := range map[string]int{
		``:                         0,
		`null`:                     0,
		`[]`:                       0,
		`{}`:                       0,
		`{"a":"bc"}`:               3,
		`{"a":"\u00e9\n","x":"y"}`: 4,
		`{"a":{"b":"c"},"d":"e"}`:  3,
	} {
		assert.Equal(t, want, Length([]byte(text), "x"), text)
	}
}

// FuzzTake: an excerpt is JSON, within the budget, and an excerpt of itself; a
// text that encoding/json refuses has none.
func FuzzTake(f *testing.F) {
	f.Add([]byte(`{"name":"a","meta":{"notes":{"our/a":"1","b":"2"},"c":3},"spec":{"items":[{"name":"x"},{}],"d":4},"any":[5]}`))
	f.Add([]byte(`{"n\u0061me":1e5,"any":{"name":1}}`))
	f.Add([]byte("{\"name\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		const budget = 1000
		got, err := Take(text, schema(), budget)
		if err != nil {
			assert.Less(t, len(err.Error()), 100)
			return
		}
		require.True(t, json.Valid(text))
		require.True(t, json.Valid(got.JSON))
		require.LessOrEqual(t, len(got.JSON), budget)
		for _, kept := range got.Kept {
			require.True(t, json.Valid(kept))
			require.True(t, Comparison{Loose: true}.Equal(kept, kept))
		}
		again, err := Take(got.JSON, schema(), budget)
		require.NoError(t, err)
		require.Equal(t, string(got.JSON), string(again.JSON))
	})
}
