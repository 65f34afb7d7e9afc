package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

// notes are annotations with the usual domain left out: "auto" is
// reloader.stakater.com/auto, "configmap/reload" the named list.
type notes map[string]string

func (n notes) expand() map[string]string {
	if n == nil {
		return nil
	}
	all := make(map[string]string, len(n))
	for short, value := range n {
		prefix, name, typed := strings.Cut(short, "/")
		if typed {
			all[prefix+".reloader.stakater.com/"+name] = value
		} else {
			all["reloader.stakater.com/"+short] = value
		}
	}
	return all
}

func yes(r reloader.Reason) reloader.Decision { return reloader.Decision{Reload: true, Reason: r} }
func no(r reloader.Reason) reloader.Decision  { return reloader.Decision{Reason: r} }

// The table of docs/annotations.md. The source is the ConfigMap
// "app" unless the row says otherwise, and referenced unless it says it is not.
func TestDecide(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		workload, template, source notes
		kind                       reloader.SourceKind
		name                       string
		unreferenced               bool
		settings                   func(*policy.Settings)
		want                       reloader.Decision
	}{
		"nothing speaks": {
			want: no(reloader.ReasonNotOptedIn),
		},

		// 1: what is switched off.
		"ConfigMaps are switched off": {
			workload: notes{"auto": "true", "configmap/reload": "app"},
			settings: func(s *policy.Settings) { s.IgnoreConfigMaps = true },
			want:     no(reloader.ReasonKindOff),
		},
		"Secrets are switched off, ConfigMaps are not": {
			workload: notes{"auto": "true"},
			settings: func(s *policy.Settings) { s.IgnoreSecrets = true },
			want:     yes(reloader.ReasonAuto),
		},
		"Secrets are switched off": {
			workload: notes{"auto": "true"}, kind: reloader.Secret,
			settings: func(s *policy.Settings) { s.IgnoreSecrets = true },
			want:     no(reloader.ReasonKindOff),
		},
		"CSI is off unless a flag switches it on": {
			workload: notes{"auto": "true"}, kind: reloader.SecretProviderClass,
			want: no(reloader.ReasonKindOff),
		},
		"CSI is on": {
			workload: notes{"auto": "true"}, kind: reloader.SecretProviderClass,
			settings: func(s *policy.Settings) { s.CSI = true },
			want:     yes(reloader.ReasonAuto),
		},
		"a kind that does not exist": {
			workload: notes{"auto": "true"}, kind: "Pod",
			want: no(reloader.ReasonKindOff),
		},

		// 2: ignore.
		"the source is ignored, which beats a named list": {
			workload: notes{"configmap/reload": "app", "auto": "true"}, source: notes{"ignore": "true"},
			want: no(reloader.ReasonIgnored),
		},
		"ignore: True does nothing": {
			workload: notes{"auto": "true"}, source: notes{"ignore": "True"},
			want: yes(reloader.ReasonAuto),
		},
		"ignore on a workload does nothing": {
			workload: notes{"auto": "true", "ignore": "true"}, template: notes{"ignore": "true"},
			want: yes(reloader.ReasonAuto),
		},

		// 3: which annotations speak.
		"the template speaks if the metadata is silent": {
			template: notes{"auto": "true"},
			want:     yes(reloader.ReasonAuto),
		},
		"the template's named list": {
			template: notes{"configmap/reload": "app"}, unreferenced: true,
			want: yes(reloader.ReasonNamed),
		},
		"the template's search": {
			template: notes{"search": "true"}, source: notes{"match": "true"},
			want: yes(reloader.ReasonSearchMatch),
		},
		"auto: false on the metadata hides a named list on the template": {
			workload: notes{"auto": "false"}, template: notes{"configmap/reload": "app"},
			want: no(reloader.ReasonAutoOff),
		},
		"auto: empty counts as absent but makes the metadata speak": {
			workload: notes{"auto": ""}, template: notes{"auto": "true"},
			want: no(reloader.ReasonNotOptedIn),
		},
		"search: false makes the metadata speak": {
			workload: notes{"search": "false"}, template: notes{"auto": "true"},
			want: no(reloader.ReasonNotOptedIn),
		},
		"an empty named list makes the metadata speak": {
			workload: notes{"configmap/reload": ""}, template: notes{"auto": "true"},
			want: no(reloader.ReasonNotOptedIn),
		},
		"an empty typed auto makes the metadata speak": {
			workload: notes{"configmap/auto": ""}, template: notes{"auto": "true"},
			want: no(reloader.ReasonNotOptedIn),
		},
		"keys of another kind do not make the metadata speak": {
			workload: notes{"secret/reload": "app", "secret/auto": "true"}, template: notes{"auto": "true"},
			want: yes(reloader.ReasonAuto),
		},
		"an exclude list does not make the metadata speak": {
			workload: notes{"configmaps.exclude/reload": "other"}, template: notes{"auto": "true"},
			want: yes(reloader.ReasonAuto),
		},
		"other keys do not make the metadata speak": {
			workload: notes{"match": "true", "ignore": "true", "rollout-strategy": "restart", "deployment/pause-period": "5m"},
			template: notes{"auto": "true"},
			want:     yes(reloader.ReasonAuto),
		},

		// 4: excluded.
		"excluded beats a named list": {
			workload: notes{"configmap/reload": "app", "configmaps.exclude/reload": "app"},
			want:     no(reloader.ReasonExcluded),
		},
		"excluded beats auto-reload-all": {
			workload: notes{"configmaps.exclude/reload": " other , app ,"},
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     no(reloader.ReasonExcluded),
		},
		"an exclude list holds exact names": {
			workload: notes{"auto": "true", "configmaps.exclude/reload": "ap.,app.*,.*"},
			want:     yes(reloader.ReasonAuto),
		},
		"the exclude list of another kind": {
			workload: notes{"auto": "true", "secrets.exclude/reload": "app"},
			want:     yes(reloader.ReasonAuto),
		},
		"an exclude list of Secrets": {
			workload: notes{"auto": "true", "secrets.exclude/reload": "app"}, kind: reloader.Secret,
			want: no(reloader.ReasonExcluded),
		},
		"an exclude list of SecretProviderClasses": {
			workload: notes{"auto": "true", "secretproviderclasses.exclude/reload": "app"}, kind: reloader.SecretProviderClass,
			settings: func(s *policy.Settings) { s.CSI = true },
			want:     no(reloader.ReasonExcluded),
		},
		"an exclude list on the template, which speaks": {
			template: notes{"auto": "true", "configmaps.exclude/reload": "app"},
			want:     no(reloader.ReasonExcluded),
		},
		"an exclude list on the metadata counts also when the template speaks": {
			workload: notes{"configmaps.exclude/reload": "app"},
			template: notes{"auto": "true", "configmaps.exclude/reload": "other"},
			want:     no(reloader.ReasonExcluded),
		},
		"an exclude list on the template, where the metadata speaks": {
			workload: notes{"auto": "true"}, template: notes{"configmaps.exclude/reload": "app"},
			want: yes(reloader.ReasonAuto),
		},

		// 5: named.
		"named and referenced": {
			workload: notes{"configmap/reload": "app"},
			want:     yes(reloader.ReasonNamed),
		},
		"named and not referenced": {
			workload: notes{"configmap/reload": "app"}, unreferenced: true,
			want: yes(reloader.ReasonNamed),
		},
		"a named Secret": {
			workload: notes{"secret/reload": "app"}, kind: reloader.Secret,
			want: yes(reloader.ReasonNamed),
		},
		"a named SecretProviderClass": {
			workload: notes{"secretproviderclass/reload": "app"}, kind: reloader.SecretProviderClass,
			settings: func(s *policy.Settings) { s.CSI = true },
			want:     yes(reloader.ReasonNamed),
		},
		"the named list of another kind": {
			workload: notes{"secret/reload": "app"},
			want:     no(reloader.ReasonNotOptedIn),
		},
		"named among others, with blanks": {
			workload: notes{"configmap/reload": " a ,\tapp\n, b,,"},
			want:     yes(reloader.ReasonNamed),
		},
		"a named list that names others": {
			workload: notes{"configmap/reload": "a,application,ap"},
			want:     no(reloader.ReasonNotNamed),
		},
		"an expression matches the whole name": {
			workload: notes{"configmap/reload": "app-.*"}, name: "app-blue",
			want: yes(reloader.ReasonNamed),
		},
		"an expression does not match a part of the name": {
			workload: notes{"configmap/reload": "app-.*"}, name: "my-app-blue",
			want: no(reloader.ReasonNotNamed),
		},
		"a|b means a or b: a": {
			workload: notes{"configmap/reload": "a|b"}, name: "a",
			want: yes(reloader.ReasonNamed),
		},
		"a|b means a or b: not ab": {
			workload: notes{"configmap/reload": "a|b"}, name: "ab",
			want: no(reloader.ReasonNotNamed),
		},
		"a|b means a or b: not a and more": {
			workload: notes{"configmap/reload": "a|b"}, name: "a-more",
			want: no(reloader.ReasonNotNamed),
		},
		"a dot is any character": {
			workload: notes{"configmap/reload": "my.cm"}, name: "my-cm",
			want: yes(reloader.ReasonNamed),
		},
		"a dot is itself too": {
			workload: notes{"configmap/reload": "my.cm"}, name: "my.cm",
			want: yes(reloader.ReasonNamed),
		},
		"a dot is one character": {
			workload: notes{"configmap/reload": "my.cm"}, name: "mycm",
			want: no(reloader.ReasonNotNamed),
		},
		"a broken entry does not disturb those around it": {
			workload: notes{"configmap/reload": "a[,app,b(,c)"},
			want:     yes(reloader.ReasonNamed),
		},
		"a list of broken entries only": {
			workload: notes{"configmap/reload": "app[,*,app)(app"},
			want:     no(reloader.ReasonNotOptedIn),
		},
		"an entry that only the anchoring would make an expression": {
			workload: notes{"configmap/reload": "app)(.*"},
			want:     no(reloader.ReasonNotOptedIn),
		},
		"a namespace is part of no name": {
			workload: notes{"configmap/reload": "default/app"},
			want:     no(reloader.ReasonNotNamed),
		},
		"auto: false does not stop a named list": {
			workload: notes{"auto": "false", "configmap/reload": "app"},
			want:     yes(reloader.ReasonNamed),
		},
		"a typed auto: false does not stop a named list": {
			workload: notes{"configmap/auto": "false", "configmap/reload": "app"},
			want:     yes(reloader.ReasonNamed),
		},

		// 6: search and match.
		"search and match": {
			workload: notes{"search": "true"}, source: notes{"match": "true"},
			want: yes(reloader.ReasonSearchMatch),
		},
		"search and match without a reference": {
			workload: notes{"search": "true"}, source: notes{"match": "true"}, unreferenced: true,
			want: no(reloader.ReasonNotReferenced),
		},
		"search without match": {
			workload: notes{"search": "true"},
			want:     no(reloader.ReasonNoMatch),
		},
		"match without search": {
			source: notes{"match": "true"},
			want:   no(reloader.ReasonNotOptedIn),
		},
		"search: True does nothing": {
			workload: notes{"search": "True"}, source: notes{"match": "true"},
			want: no(reloader.ReasonNotOptedIn),
		},
		"match: True does nothing": {
			workload: notes{"search": "true"}, source: notes{"match": "True"},
			want: no(reloader.ReasonNoMatch),
		},
		"auto: false does not stop search": {
			workload: notes{"auto": "false", "search": "true"}, source: notes{"match": "true"},
			want: yes(reloader.ReasonSearchMatch),
		},
		"auto wins over an unmatched search": {
			workload: notes{"auto": "true", "search": "true"},
			want:     yes(reloader.ReasonAuto),
		},
		"auto: false and an unmatched search": {
			workload: notes{"auto": "false", "search": "true"},
			want:     no(reloader.ReasonNoMatch),
		},

		// 7: auto.
		"auto without a reference": {
			workload: notes{"auto": "true"}, unreferenced: true,
			want: no(reloader.ReasonNotReferenced),
		},
		"auto: 1":    {workload: notes{"auto": "1"}, want: yes(reloader.ReasonAuto)},
		"auto: t":    {workload: notes{"auto": "t"}, want: yes(reloader.ReasonAuto)},
		"auto: T":    {workload: notes{"auto": "T"}, want: yes(reloader.ReasonAuto)},
		"auto: TRUE": {workload: notes{"auto": "TRUE"}, want: yes(reloader.ReasonAuto)},
		"auto: True": {workload: notes{"auto": "True"}, want: yes(reloader.ReasonAuto)},
		"auto: tRUE": {workload: notes{"auto": "tRUE"}, want: no(reloader.ReasonAutoOff)},
		"auto: yes counts as false": {
			workload: notes{"auto": "yes"},
			want:     no(reloader.ReasonAutoOff),
		},
		"typed auto": {
			workload: notes{"configmap/auto": "true"},
			want:     yes(reloader.ReasonAuto),
		},
		"typed auto of a Secret": {
			workload: notes{"secret/auto": "true"}, kind: reloader.Secret,
			want: yes(reloader.ReasonAuto),
		},
		"typed auto of a SecretProviderClass": {
			workload: notes{"secretproviderclass/auto": "true"}, kind: reloader.SecretProviderClass,
			settings: func(s *policy.Settings) { s.CSI = true },
			want:     yes(reloader.ReasonAuto),
		},
		"typed auto of another kind": {
			workload: notes{"secret/auto": "true"},
			want:     no(reloader.ReasonNotOptedIn),
		},
		"auto: false does not stop a typed true": {
			workload: notes{"auto": "false", "configmap/auto": "true"},
			want:     yes(reloader.ReasonAuto),
		},
		"a typed false does not stop auto: true": {
			workload: notes{"auto": "true", "configmap/auto": "false"},
			want:     yes(reloader.ReasonAuto),
		},
		"auto-reload-all": {
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     yes(reloader.ReasonAutoReloadAll),
		},
		"auto-reload-all without a reference": {
			settings: func(s *policy.Settings) { s.AutoReloadAll = true }, unreferenced: true,
			want: no(reloader.ReasonNotReferenced),
		},
		"auto: false blocks auto-reload-all": {
			workload: notes{"auto": "false"},
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     no(reloader.ReasonAutoOff),
		},
		"auto: yes blocks auto-reload-all": {
			workload: notes{"auto": "yes"},
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     no(reloader.ReasonAutoOff),
		},
		"a typed false blocks auto-reload-all for its kind": {
			workload: notes{"configmap/auto": "false"},
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     no(reloader.ReasonAutoOff),
		},
		"a typed false does not block auto-reload-all for another kind": {
			workload: notes{"configmap/auto": "false"}, kind: reloader.Secret,
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     yes(reloader.ReasonAutoReloadAll),
		},
		"auto: empty counts as absent for auto-reload-all": {
			workload: notes{"auto": ""},
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     yes(reloader.ReasonAutoReloadAll),
		},
		"a named list does not restrict auto-reload-all": {
			workload: notes{"configmap/reload": "other"},
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     yes(reloader.ReasonAutoReloadAll),
		},
		"an unmatched search does not restrict auto-reload-all": {
			workload: notes{"search": "true"},
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     yes(reloader.ReasonAutoReloadAll),
		},
		"auto: false on the template blocks auto-reload-all": {
			template: notes{"auto": "false"},
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			want:     no(reloader.ReasonAutoOff),
		},
		"a key that a flag renamed": {
			workload: notes{"auto": "false", "other": "true"},
			settings: func(s *policy.Settings) { s.Keys.Auto = "reloader.stakater.com/other" },
			want:     yes(reloader.ReasonAuto),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := policy.Settings{Keys: annotation.DefaultKeys()}
			if tc.settings != nil {
				tc.settings(&s)
			}
			if tc.kind == "" {
				tc.kind = reloader.ConfigMap
			}
			if tc.name == "" {
				tc.name = "app"
			}
			template := tc.template.expand()
			p := policy.Parse(tc.workload.expand(), template, s)
			got := p.Decide(tc.kind, tc.name, tc.source.expand(), !tc.unreferenced)
			assert.Equal(t, tc.want, got)
			assert.False(t, got.Reload && !p.Active(), "a policy that reloads is active")

			recorded := policy.Parse(tc.workload.expand(), s.Keys.TemplateSubset(template), s)
			assert.Equal(t, tc.want, recorded.Decide(tc.kind, tc.name, tc.source.expand(), !tc.unreferenced),
				"the subset of the template decides as the template does")
		})
	}
}

func TestPolicyForTheIndex(t *testing.T) {
	t.Parallel()
	s := policy.Settings{Keys: annotation.DefaultKeys()}

	p := policy.Parse(notes{"configmap/reload": "b, a,b, my.cm, x-.*,y[", "secret/auto": "true"}.expand(), nil, s)
	assert.True(t, p.Active())
	assert.Equal(t, []string{"a", "b"}, p.Names(reloader.ConfigMap))
	assert.True(t, p.HasPatterns(reloader.ConfigMap))
	assert.True(t, p.MatchesPattern(reloader.ConfigMap, "my.cm"))
	assert.True(t, p.MatchesPattern(reloader.ConfigMap, "x-1"))
	assert.False(t, p.MatchesPattern(reloader.ConfigMap, "a"), "a literal is no pattern")
	assert.False(t, p.Follows(reloader.ConfigMap))
	assert.True(t, p.Follows(reloader.Secret))
	assert.Nil(t, p.Names(reloader.Secret))
	assert.False(t, p.HasPatterns(reloader.Secret))
	assert.False(t, p.Follows(reloader.SecretProviderClass))
	assert.False(t, p.Follows("Pod"))

	names := p.Names(reloader.ConfigMap)
	names[0] = "changed"
	assert.Equal(t, []string{"a", "b"}, p.Names(reloader.ConfigMap), "the caller may change what it got")

	for name, metadata := range map[string]notes{
		"no annotations":               nil,
		"auto: false":                  {"auto": "false"},
		"an empty list":                {"configmap/reload": " , "},
		"a list of a kind that is off": {"secretproviderclass/reload": "a"},
		"broken entries only":          {"configmap/reload": "a[,b("},
		"an exclude list":              {"configmaps.exclude/reload": "a"},
	} {
		assert.False(t, policy.Parse(metadata.expand(), nil, s).Active(), name)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	var s policy.Settings
	assert.True(t, s.Follows(reloader.HowEnv))
	assert.False(t, s.Follows(reloader.HowImagePull))
	s.FollowAll = true
	assert.True(t, s.Follows(reloader.HowImagePull))
	assert.True(t, s.Enabled(reloader.ConfigMap))
	assert.False(t, s.Enabled("Pod"))
}

func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	parse := func(list string) *policy.Policy {
		return policy.Parse(map[string]string{s.Keys.ConfigMapNamed: list}, nil, s)
	}

	t.Run("the hundredth pattern counts and the next does not", func(t *testing.T) {
		t.Parallel()
		var b strings.Builder
		for i := range 200 {
			b.WriteString("p" + strings.Repeat("x", i) + "[0-9],")
		}
		b.WriteString("literal")
		p := parse(b.String())
		assert.True(t, p.MatchesPattern(reloader.ConfigMap, "p"+strings.Repeat("x", 99)+"7"))
		assert.False(t, p.MatchesPattern(reloader.ConfigMap, "p"+strings.Repeat("x", 100)+"7"))
		assert.Equal(t, []string{"literal"}, p.Names(reloader.ConfigMap))
	})
	t.Run("an entry of 512 bytes counts and a longer one does not", func(t *testing.T) {
		t.Parallel()
		assert.True(t, parse(strings.Repeat("a", 511)+"*").HasPatterns(reloader.ConfigMap))
		assert.False(t, parse(strings.Repeat("a", 512)+"*").HasPatterns(reloader.ConfigMap))
	})
	t.Run("short expressions that compile to huge programs", func(t *testing.T) {
		t.Parallel()
		p := parse(strings.Repeat("a{1000}", 60) + "," + strings.Repeat(`\pL{1000}`, 50) + ",((a{10}){10}){10}b,x+")
		assert.True(t, p.MatchesPattern(reloader.ConfigMap, "xx"))
		assert.False(t, p.MatchesPattern(reloader.ConfigMap, strings.Repeat("a", 60_000)))
		assert.True(t, p.MatchesPattern(reloader.ConfigMap, strings.Repeat("a", 1000)+"b"))
	})
	t.Run("ranges that the parser folds one character at a time", func(t *testing.T) {
		t.Parallel()
		var b strings.Builder
		for i := range 500 {
			fmt.Fprintf(&b, `(?i)%d%s,(?i)%d%s,`, i, strings.Repeat("[B-\U0001e942]", 60), i, strings.Repeat(`[B-\x{1e942}]`, 36))
		}
		p := parse(b.String() + "(?i)app-[A-F]")
		assert.False(t, p.HasPatterns(reloader.ConfigMap), "what comes after too many that are broken is not looked at")
		assert.True(t, parse("(?i)app-[A-F]").MatchesPattern(reloader.ConfigMap, "app-f"))
	})
	t.Run("ten thousand names", func(t *testing.T) {
		t.Parallel()
		list := make([]string, 10_000)
		for i := range list {
			list[i] = fmt.Sprintf("name-%d", i)
		}
		p := parse(strings.Join(list, ","))
		require.False(t, p.HasPatterns(reloader.ConfigMap))
		assert.True(t, p.Decide(reloader.ConfigMap, list[999], nil, false).Reload)
		assert.False(t, p.Decide(reloader.ConfigMap, list[1000], nil, false).Reload, "a thousand are enough for anyone")
	})
}
