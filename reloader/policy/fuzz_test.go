package policy_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

// naive is the decision table of docs/annotations.md for ConfigMaps, word by word and
// without any of the work that Parse does ahead.
func naive(w, template, source map[string]string, name string, referenced bool, s policy.Settings) bool {
	k := s.Keys
	if s.IgnoreConfigMaps { // 1
		return false
	}
	if source[k.Ignore] == "true" { // 2
		return false
	}
	speaks, templateSpeaks := w, true // 3
	for _, key := range []string{k.ConfigMapNamed, k.Auto, k.ConfigMapAuto, k.Search} {
		if _, ok := w[key]; ok {
			templateSpeaks = false
		}
	}
	excluded := strings.Split(w[k.ConfigMapExclude], ",") // 4
	if templateSpeaks {
		speaks = template
		excluded = append(excluded, strings.Split(template[k.ConfigMapExclude], ",")...)
	}
	for _, entry := range excluded {
		if entry = strings.TrimSpace(entry); entry != "" && entry == name {
			return false
		}
	}
	for entry := range strings.SplitSeq(speaks[k.ConfigMapNamed], ",") { // 5
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if _, err := regexp.Compile(entry); err != nil {
			continue
		}
		anchored, err := regexp.Compile("^(?:" + entry + ")$")
		if err == nil && anchored.MatchString(name) {
			return true
		}
	}
	if speaks[k.Search] == "true" && source[k.Match] == "true" && referenced { // 6
		return true
	}
	isTrue := func(v string) bool { // 7
		return v == "1" || v == "t" || v == "T" || v == "true" || v == "TRUE" || v == "True"
	}
	auto, typed := speaks[k.Auto], speaks[k.ConfigMapAuto]
	if isTrue(auto) || isTrue(typed) {
		return referenced
	}
	return auto == "" && typed == "" && s.AutoReloadAll && referenced // 8
}

// FuzzDecide holds Parse and Decide against naive, and Judge against panics
// and long lines, for any values in any subset of the keys.
func FuzzDecide(f *testing.F) {
	f.Add(uint32(0xffff), "true", "a|b,my.cm,x[", "app", "true", "my-cm", byte(7))
	f.Add(uint32(0x8), "", "app", "", "false", "app", byte(3))
	f.Add(uint32(0x318), "yes", `a\,.*`, "a,b", "True", "a\nb", byte(1))
	f.Add(uint32(0x11), "1", `\Qa`, "*", "x", `a`, byte(5))
	f.Fuzz(func(t *testing.T, present uint32, auto, named, excluded, other, name string, flags byte) {
		if len(named) > 512 || strings.ContainsAny(named, "{") || strings.Contains(strings.ToLower(named), `\p`) {
			t.Skip("bounded lists have a test of their own")
		}
		k := annotation.DefaultKeys()
		s := policy.Settings{Keys: k, AutoReloadAll: flags&1 != 0, IgnoreConfigMaps: flags&8 != 0}
		subset := func(bits uint32, values ...string) map[string]string {
			m := make(map[string]string)
			for i, key := range []string{k.Auto, k.ConfigMapAuto, k.ConfigMapNamed, k.Search, k.ConfigMapExclude} {
				if bits>>i&1 != 0 {
					m[key] = values[i]
				}
			}
			return m
		}
		w := subset(present, auto, other, named, other, excluded)
		template := subset(present>>5, other, auto, excluded, auto, named)
		source := map[string]string{}
		if present>>10&1 != 0 {
			source[k.Match] = other
		}
		if present>>11&1 != 0 {
			source[k.Ignore] = auto
		}
		if present>>12&1 != 0 && template[k.ConfigMapNamed] != "" {
			template[k.ConfigMapNamed] = named
		}
		referenced := flags&2 != 0
		if len(excluded) > 512 || strings.ContainsAny(excluded, "{") || strings.Contains(strings.ToLower(excluded), `\p`) {
			t.Skip("bounded lists have a test of their own")
		}

		p := policy.Parse(w, template, s)
		got := p.Decide(reloader.ConfigMap, name, source, referenced)
		require.Equal(t, naive(w, template, source, name, referenced, s), got.Reload, "%v", got)
		if got.Reload {
			require.True(t, p.Active())
		}
		if got.Reload && got.Reason != reloader.ReasonNamed {
			require.True(t, p.Follows(reloader.ConfigMap))
		}

		// A broken entry never disturbs the others.
		for _, m := range []map[string]string{w, template} {
			if list, ok := m[k.ConfigMapNamed]; ok {
				m[k.ConfigMapNamed] = "x[,*," + list + ",y(,\xff"
			}
		}
		disturbed := policy.Parse(w, template, s).Decide(reloader.ConfigMap, name, source, referenced)
		require.Equal(t, got.Reload, disturbed.Reload)

		problems := policy.Judge(policy.Subject{
			Kind: reloader.Deployment, Annotations: w, TemplateAnnotations: template, Labels: map[string]string{auto: other},
			References: []reloader.Reference{{Kind: reloader.ConfigMap, Name: name, How: reloader.HowEnv}, {Kind: reloader.ConfigMap, Name: other, How: reloader.HowEnv}},
		}, s)
		source["x."+k.Match+auto] = other
		for _, p := range append(problems, policy.JudgeSource(reloader.Secret, w, source, s)...) {
			assertLine(t, p.Message)
		}
		assert.Empty(t, policy.Introduced(problems, problems))
	})
}

// FuzzNearest holds the suggestion against the Levenshtein distance.
func FuzzNearest(f *testing.F) {
	f.Add("reloader.stakater.com/atuo")
	f.Add("configmaps.reloader.stakater.com/reload")
	f.Fuzz(func(t *testing.T, key string) {
		if len(key) > 100 {
			t.Skip()
		}
		for _, other := range []string{"", "a", "auto", "reloader.stakater.com/auto", "configmap.reloader.stakater.com/reload"} {
			for limit := 1; limit < 6; limit++ {
				require.Equal(t, min(limit, levenshtein(key, other)), policy.Distance(key, other, limit), "%q %q %d", key, other, limit)
				require.Equal(t, min(limit, levenshtein(key, other)), policy.Distance(other, key, limit), "%q %q %d", other, key, limit)
			}
		}
	})
}

func levenshtein(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
		}
	}
	return d[len(a)][len(b)]
}

// assertLine holds what every message promises.
func assertLine(t *testing.T, message string) {
	t.Helper()
	assert.LessOrEqual(t, len(message), 120, "%q", message)
	assert.NotEmpty(t, message)
	assert.True(t, utf8.ValidString(message), "%q", message)
	assert.NotRegexp(t, `[[:cntrl:]]`, message)
}
