package pattern_test

import (
	"regexp"
	"regexp/syntax"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation"

	"k8s-reloader/reloader/pattern"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "app-config": true, "a.b": true, "0": true, "a--b": true, "kube-root-ca.crt": true,
		strings.Repeat("a", 253): true,
		"":                       false, "-a": false, "a-": false, ".a": false, "a.": false, "a..b": false, "a.-b": false, "a-.b": false,
		"App": false, "a_b": false, "a b": false, "a/b": false, "ä": false, "a\n": false, "a;b": false,
		strings.Repeat("a", 254): false,
	} {
		assert.Equal(t, want, pattern.ValidName(name), "%q", name)
		assert.Equal(t, want, len(validation.IsDNS1123Subdomain(name)) == 0, "%q, to the API server", name)
	}
}

func TestCanMatch(t *testing.T) {
	for entry, want := range map[string]bool{
		"a|b": true, "app-.*": true, "^app-config$": true, "(a|b)-config": true, ".*": true, ".+": true, "app": true,
		"app-*": true, "[a-z0-9.-]{1,253}": true, "[a-z0-9.-]{253}": true,
		"(?i)APP-CONFIG": true, `\w+`: true, `app\.config`: true, `\bapp\b`: true, `app\b-config`: true, "app.": true, ".app": true,
		"(?:app|App_X)": true, "[[:alnum:]]+": true, "": false,
		"App-.*": false, "app_.*": false, `app\.`: false, `\.app`: false, "app-": false, "-.*": false, "x.*-": false,
		"a/.*": false, "a b": false, "a;b": false, `"a"`: false, "a$b": false, "a^b": false, `a\bb`: false, `app\B-`: false,
		"{{name}}": false, "[A-Z]+": false, `\S+_\S+`: false, "a.{252}": true, "a.{253}": false, "(a..){85}": false,
		"а": false, "x[": false, `a\n`: false, `a\.-b`: false, `a\.\.b`: false, "(?:.*){990}x": false, // too large to be used
	} {
		assert.Equal(t, want, pattern.CanMatch(entry), "%q", entry)
	}
}

func TestSetsAreEqualByTheirText(t *testing.T) {
	a := pattern.NewSet([]string{"app-.*", strings.Clone("my.cm")})
	assert.Equal(t, a, pattern.NewSet([]string{strings.Clone("app-.*"), "my.cm"}))
	assert.NotEqual(t, a, pattern.NewSet([]string{"my.cm"}))
	assert.True(t, pattern.NewSet(nil).Empty())
	var none *pattern.Matcher
	assert.Equal(t, none, pattern.Set{}.Compile())
	assert.False(t, none.Match("a"))
	assert.Zero(t, none.Cost("a"))
	assert.Zero(t, none.Bytes())
}

func TestCompile(t *testing.T) {
	faults := map[string]pattern.Fault{
		"x[": pattern.Broken, "a)(b": pattern.Broken, "(?:.*){990}(?:.*){990}x": pattern.TooLarge, `\pL{1000}`: pattern.TooLarge,
		"((a{10}){10}){20}": pattern.Broken, `\Qa`: pattern.Broken, "(?i)[B-\U0001e942]": pattern.TooLarge, `(?i)\pL`: pattern.TooLarge,
		`\pL\PN\pL`: pattern.TooLarge, strings.Repeat("a", 513) + "*": pattern.TooLong,
	}
	entries := []string{"my.cm", "app-[0-9]+", "a|b"}
	for entry, want := range faults {
		_, why := pattern.Check(entry)
		assert.Equal(t, want, why, entry)
		entries = append(entries, entry)
	}
	m := pattern.NewSet(entries).Compile()
	for name, want := range map[string]bool{
		"my.cm": true, "my-cm": true, "app-12": true, "a": true, "b": true, "app-": false, "ab": false, "xmy.cm": false,
	} {
		assert.Equal(t, want, m.Match(name), name)
	}
}

func TestCostBoundsAMatch(t *testing.T) {
	size, why := pattern.Check("(?:.?){150}")
	require.Zero(t, why)
	m := pattern.NewSet([]string{"(?:.?){150}", "my.cm"}).Compile()
	assert.Equal(t, (size+1)*254, m.Cost(strings.Repeat("a", 253)))
}

// TestBytesIsAnUpperBound measures what compiled expressions of several shapes
// keep.
func TestBytesIsAnUpperBound(t *testing.T) {
	for name, entry := range map[string]string{
		"options": "(?:.?){190}x", "stars": "(?:.*){190}x", "literal": strings.Repeat("a", 500) + "+",
		"classes": strings.Repeat("[^a]", 120), "letters": strings.Repeat(`\pL`, 11), "small": "app-.*", "names": "a.b",
	} {
		t.Run(name, func(t *testing.T) {
			const copies = 200
			kept := make([]*pattern.Matcher, copies)
			set := pattern.NewSet([]string{entry})
			before := heap()
			for i := range kept {
				kept[i] = set.Compile()
				kept[i].Match(strings.Repeat("a", 253))
			}
			per := int(int64(heap())-int64(before)) / copies
			t.Logf("%d bytes, said to be %d", per, kept[0].Bytes())
			assert.LessOrEqual(t, per, kept[0].Bytes())
			runtime.KeepAlive(kept)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// FuzzMatch holds a set against Go's own matching, and what is said never to
// match against names.
func FuzzMatch(f *testing.F) {
	f.Add("app-.*", "app-x")
	f.Add(`\bapp\b-?`, "app")
	f.Add("(?i)A|b", "a")
	f.Add("my.cm", "my-cm")
	f.Add("(?m)^a$", "a")
	f.Add("App_*", "app")
	f.Fuzz(func(t *testing.T, entry, seed string) {
		if strings.Contains(entry, ",") || entry == "" {
			t.Skip()
		}
		size, why := pattern.Check(entry)
		if why != 0 {
			return
		}
		tree, err := syntax.Parse(entry, syntax.Perl)
		require.NoError(t, err)
		program, err := syntax.Compile(tree.Simplify())
		require.NoError(t, err)
		require.LessOrEqual(t, len(program.Inst), size+2, "instructions of %q", entry)
		m := pattern.NewSet([]string{entry}).Compile()
		can := pattern.CanMatch(entry)
		re, err := regexp.Compile("^(?:" + entry + ")$")
		require.NoError(t, err)
		for _, name := range []string{nameFrom(seed), nameFrom(entry), nameFrom(entry + seed), "a", "app-config", "a.b-c"} {
			require.Equal(t, re.MatchString(name), m.Match(name), "%q %q", entry, name)
			if m.Match(name) {
				require.True(t, can, "%q matches %q", entry, name)
			}
		}
	})
}

// nameFrom makes a valid name of any text.
func nameFrom(text string) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-."
	var b strings.Builder
	for i := range min(len(text), 250) {
		c := text[i]
		if !strings.ContainsRune(letters, rune(c)) {
			c = letters[int(c)%len(letters)]
		}
		if next := b.String() + string(c); pattern.ValidName(next + "a") {
			b.WriteByte(c)
		}
	}
	if name := b.String(); pattern.ValidName(name) {
		return name
	}
	return b.String() + "a"
}
