package policy_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/pattern"
	"k8s-reloader/reloader/policy"
)

// TestEntriesThatNeverMatch is a table of what stands in lists of public
// repositories and does not do what it was written for.
func TestEntriesThatNeverMatch(t *testing.T) {
	const (
		never    = reloader.ReasonEntryNeverMatches
		doubtful = reloader.ReasonEntryDoubtful
		invalid  = reloader.ReasonEntryInvalid
		inexact  = reloader.ReasonExcludeNotExact
	)
	type told struct {
		reason reloader.Reason // none: nothing is told
		advice string          // the end of the message
	}
	tests := map[string]struct {
		value           string
		named, excluded told
	}{
		"a switch":                  {`true`, told{doubtful, `write the auto key`}, told{doubtful, `remove it`}},
		"a switch with a capital":   {`False`, told{doubtful, `write the auto key`}, told{doubtful, `remove it`}},
		"a glob":                    {`app-*`, told{doubtful, `write "app-.*"`}, told{inexact, "write full names"}},
		"a glob in the middle":      {`app-*-config`, told{doubtful, `write "app-.*-config"`}, told{inexact, "write full names"}},
		"a glob at the beginning":   {`*-config`, told{invalid, "write .* for *"}, told{inexact, "write full names"}},
		"newlines":                  {"app-config\nother-config\n", told{never, "separate names with commas"}, told{never, "separate names with commas"}},
		"a list of YAML":            {"- app-config\n- other-config", told{never, "separate names with commas"}, told{never, "separate names with commas"}},
		"blanks":                    {"app-config other-config", told{never, "separate names with commas"}, told{never, "separate names with commas"}},
		"a tab":                     {"app-config\tother-config", told{never, "separate names with commas"}, told{never, "separate names with commas"}},
		"semicolons":                {"app-config; other-config", told{never, "separate names with commas"}, told{never, "separate names with commas"}},
		"a semicolon alone":         {"app-config;other-config", told{never, "separate names with commas"}, told{never, "separate names with commas"}},
		"double quotes":             {`"app-config"`, told{never, "leave out the quotes"}, told{never, "leave out the quotes"}},
		"single quotes":             {`'app-config'`, told{never, "leave out the quotes"}, told{never, "leave out the quotes"}},
		"capitals":                  {"App-Config", told{never, "names have no capitals"}, told{never, "names have no capitals"}},
		"capitals and a pattern":    {"App-.*", told{never, "names have no capitals"}, told{inexact, "write full names"}},
		"underscores":               {"app_config", told{never, "names have no underscores"}, told{never, "names have no underscores"}},
		"underscores and a pattern": {`app_\d+`, told{never, "names have no underscores"}, told{inexact, "write full names"}},
		"a namespace":               {"shop/app-config", told{never, "leave out the namespace"}, told{never, "leave out the namespace"}},
		"a namespace and a pattern": {"shop/app-.*", told{never, "leave out the namespace"}, told{never, "leave out the namespace"}},
		"braces":                    {"{app-config}", told{never, "leave out the brackets, a comma separates entries"}, told{never, "leave out the brackets, a comma separates entries"}},
		"brackets":                  {"[app]", told{doubtful, "leave out the brackets"}, told{inexact, "write full names"}},
		"brackets and a range":      {"[app-config]", told{invalid, "leave out the brackets"}, told{inexact, "write full names"}},
		"a half of a list of JSON":  {`["app-config"`, told{invalid, "leave out the brackets"}, told{never, "leave out the quotes"}},
		"a Helm expression":         {"{{ .Release.Name }}-config", told{never, "nothing has replaced its placeholder"}, told{never, "nothing has replaced its placeholder"}},
		"a shell variable":          {"${APP}-config", told{never, "nothing has replaced its placeholder"}, told{never, "nothing has replaced its placeholder"}},
		"an angle placeholder":      {"<configmap-name>", told{never, "nothing has replaced its placeholder"}, told{never, "nothing has replaced its placeholder"}},
		"a dash at the end":         {"app-", told{never, "begins and ends with a letter or digit"}, told{never, "begins and ends with a letter or digit"}},
		"a dash at the beginning":   {"-app", told{never, "begins and ends with a letter or digit"}, told{never, "begins and ends with a letter or digit"}},
		"a dot at the end":          {"app.", told{doubtful, "remove it"}, told{never, "begins and ends with a letter or digit"}},
		"a dot at the beginning":    {".app", told{doubtful, "remove it"}, told{never, "begins and ends with a letter or digit"}},
		"a colon":                   {"configmap:app", told{never, "names have only a-z, 0-9, - and ."}, told{never, "names have only a-z, 0-9, - and ."}},
		"an equals sign":            {"name=app", told{never, "names have only a-z, 0-9, - and ."}, told{never, "names have only a-z, 0-9, - and ."}},
		"a long name":               {strings.Repeat("a", 254), told{never, "no name has more than 253 characters"}, told{never, "no name has more than 253 characters"}},
		"an en dash":                {"app–config", told{never, "no name has its U+2013, type it again"}, told{never, "no name has its U+2013, type it again"}},
		"a Cyrillic a":              {"аpp", told{never, "no name has its U+0430, type it again"}, told{never, "no name has its U+0430, type it again"}},
		"a no-break space":          {"app\u00a0config", told{never, "no name has its U+00A0, type it again"}, told{never, "no name has its U+00A0, type it again"}},
		"a zero-width space":        {"app\u200b", told{never, "no name has its U+200B, type it again"}, told{never, "no name has its U+200B, type it again"}},
		"no valid text":             {"app\xff", told{invalid, "correct it"}, told{never, "type it again"}},
		"nothing":                   {"", told{doubtful, "list names, or remove it"}, told{doubtful, "list names, or remove it"}},
		"commas only":               {" , ,", told{doubtful, "list names, or remove it"}, told{doubtful, "list names, or remove it"}},
		"a comma at the end":        {"app-config,", told{doubtful, "remove the comma"}, told{doubtful, "remove the comma"}},

		"a name":              {value: "app-config"},
		"names":               {value: "app-config, kube-root-ca.crt,a"},
		"alternatives":        {value: "a|b", excluded: told{inexact, "write full names"}},
		"a pattern":           {value: "app-.*", excluded: told{inexact, "write full names"}},
		"an anchored pattern": {value: "^app-config$", excluded: told{inexact, "write full names"}},
		"a group":             {value: "(a|b)-config", excluded: told{inexact, "write full names"}},
		"everything":          {value: ".*", excluded: told{inexact, "write full names"}},
		"an escaped dot":      {value: `app\.config`, excluded: told{inexact, "write full names"}},
		"digits":              {value: `app-\d*`, excluded: told{inexact, "write full names"}},
		"a class":             {value: `app-[a-z0-9]+`, excluded: told{inexact, "write full names"}},
		"any case":            {value: `(?i)App-Config`, excluded: told{inexact, "write full names"}},
		"a plural":            {value: `configs?`, excluded: told{inexact, "write full names"}},
	}
	s := policy.Settings{Keys: annotation.DefaultKeys(), CSI: true}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, kind := range reloader.SourceKinds() {
				for key, want := range map[string]told{s.Keys.Named(kind): tc.named, s.Keys.Exclude(kind): tc.excluded} {
					list := map[string]string{key: tc.value}
					for place, w := range map[string]policy.Subject{
						"metadata": {Kind: reloader.Deployment, Annotations: list},
						"template": {Kind: reloader.Deployment, TemplateAnnotations: list},
					} {
						problems := policy.Judge(w, s)
						if want == (told{}) {
							assert.Empty(t, problems, "%s %s", place, key)
							continue
						}
						if assert.NotEmpty(t, problems, "%s %s", place, key) {
							assert.Equal(t, want.reason, problems[0].Reason, problems[0].Message)
							assert.True(t, strings.HasSuffix(problems[0].Message, want.advice), problems[0].Message)
							assertLine(t, problems[0].Message)
						}
						for _, p := range problems {
							assert.Equal(t, p.Reason == invalid, policy.ModeDefault.Denies(p.Severity), p.Message)
						}
						faults := policy.Faults(reloader.Deployment, w.Annotations, w.TemplateAnnotations, s)
						assert.Equal(t, problems[0].Severity > reloader.Notice, len(faults) > 0, "%s %s", place, key)
					}
				}
			}
		})
	}
}

// FuzzEntries holds that what is judged never to match matches no name that an
// object can have.
func FuzzEntries(f *testing.F) {
	f.Add("app-*", "app")
	f.Add("App_Config", "app-config")
	f.Add("a;b|c", "c")
	f.Add("{a|b}", "b")
	f.Add(`\Aa\z`, "a")
	f.Fuzz(func(t *testing.T, value, name string) {
		s := policy.Settings{Keys: annotation.DefaultKeys()}
		if strings.Contains(value, ",") || !pattern.ValidName(name) {
			t.Skip()
		}
		for key, says := range map[string]bool{s.Keys.ConfigMapNamed: true, s.Keys.ConfigMapExclude: false} {
			list := map[string]string{key: value, s.Keys.ConfigMapAuto: "true"}
			decision := policy.Parse(list, nil, s).Decide(reloader.ConfigMap, name, nil, !says)
			for _, p := range policy.Judge(policy.Subject{Kind: reloader.Deployment, Annotations: list}, s) {
				assertLine(t, p.Message)
				if p.Reason == reloader.ReasonEntryNeverMatches || p.Reason == reloader.ReasonExcludeNotExact {
					assert.NotEqual(t, says, decision.Reload, "%q and %q: %v, though %s", value, name, decision, p.Message)
				}
			}
		}
	})
}

// TestExcludeListsAreBounded: what is beyond the bound is not excluded, as what
// is beyond that of a named list is not named, and is told.
func TestExcludeListsAreBounded(t *testing.T) {
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	long := make([]string, 46_000)
	for i := range long {
		long[i] = fmt.Sprintf("%05x", i)
	}
	text := strings.Join(long, ",")
	annotations := map[string]string{s.Keys.Auto: "true", s.Keys.ConfigMapExclude: text}
	p := policy.Parse(annotations, nil, s)
	assert.Equal(t, reloader.ReasonExcluded, p.Decide(reloader.ConfigMap, long[999], nil, true).Reason)
	assert.Equal(t, reloader.ReasonAuto, p.Decide(reloader.ConfigMap, long[1000], nil, true).Reason)

	const want = `configmaps.exclude.reloader.stakater.com/reload: "003e8" comes after 1000 names and is not excluded: shorten the list`
	for name, problems := range map[string][]reloader.Problem{
		"admission": policy.Judge(policy.Subject{Kind: reloader.Deployment, Annotations: annotations, References: []reloader.Reference{{Kind: reloader.ConfigMap, Name: "a", How: reloader.HowEnv}}}, s),
		"engine":    policy.Faults(reloader.Deployment, annotations, nil, s),
	} {
		if assert.Len(t, problems, 1, name) {
			assert.Equal(t, reloader.Broken, problems[0].Severity)
			assert.Equal(t, reloader.ReasonTooManyPatterns, problems[0].Reason)
			assert.Equal(t, want, problems[0].Message)
			assertLine(t, problems[0].Message)
		}
	}

	const copies = 20
	kept, before := make([]*policy.Policy, copies), heap()
	for i := range kept {
		kept[i] = policy.Parse(map[string]string{s.Keys.Auto: "true", s.Keys.ConfigMapExclude: strings.Clone(text)}, nil, s)
	}
	per := int(int64(heap())-int64(before)) / copies
	t.Logf("a list of %d bytes keeps %d bytes", len(text), per)
	assert.Less(t, per, 32<<10)
	runtime.KeepAlive(kept)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestUnknownKeysAreBounded(t *testing.T) {
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	subject := func(from, to int) policy.Subject {
		w := policy.Subject{Kind: reloader.Deployment, Annotations: map[string]string{}}
		for i := from; i < to; i++ {
			w.Annotations[fmt.Sprintf("reloader.stakater.com/autoo%04d", i)] = ""
		}
		return w
	}
	many := policy.Judge(subject(0, 4000), s)
	assert.Len(t, many, 100)
	assert.Empty(t, policy.Introduced(many, policy.Judge(subject(50, 4000), s)), "who mends some is not denied for the others")
	assert.Len(t, policy.Introduced(policy.Judge(subject(0, 10), s), policy.Judge(subject(0, 12), s)), 2)
}
