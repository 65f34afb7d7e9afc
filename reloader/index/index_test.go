package index_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/policy"
)

type annotations = map[string]string

const (
	auto    = "reloader.stakater.com/auto"
	search  = "reloader.stakater.com/search"
	match   = "reloader.stakater.com/match"
	ignore  = "reloader.stakater.com/ignore"
	namedCM = "configmap.reloader.stakater.com/reload"
	namedS  = "secret.reloader.stakater.com/reload"
	notCM   = "configmaps.exclude.reloader.stakater.com/reload"
)

// dependents asks for what depends on s, once all patterns have been tried, one
// at a time.
func dependents(x *index.Index, s reloader.Source, a annotations) []reloader.Workload {
	for {
		m, _, complete := x.Match(s, 1)
		if complete {
			return x.Dependents(s, m, a)
		}
	}
}

func TestDependents(t *testing.T) {
	refs := []reloader.Reference{
		{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowEnvFrom},
		{Kind: reloader.Secret, Name: "s", Container: "app", How: reloader.HowEnv, Keys: []string{"a"}},
		{Kind: reloader.Secret, Name: "pull", How: reloader.HowImagePull},
	}
	csiRefs := []reloader.Reference{{Kind: reloader.SecretProviderClass, Name: "vault", How: reloader.HowCSI}}
	tests := map[string]struct {
		settings     policy.Settings // Keys are filled in
		workload     annotations
		references   []reloader.Reference
		source       reloader.Source
		annotations  annotations
		wantDepended bool
		want         bool
	}{
		"auto and a reference": {
			workload: annotations{auto: "true"}, references: refs, source: cm("cm"), wantDepended: true, want: true,
		},
		"auto and no reference": {
			workload: annotations{auto: "true"}, references: refs, source: cm("other"),
		},
		"a Secret does not answer for the ConfigMap of its name": {
			workload: annotations{auto: "true"}, references: refs, source: cm("s"),
		},
		"a source of the name in another namespace": {
			workload: annotations{auto: "true"}, references: refs, source: reloader.Source{Kind: reloader.ConfigMap, Namespace: "b", Name: "cm"},
		},
		"a kind that is unknown": {
			workload: annotations{auto: "true"}, references: refs, source: reloader.Source{Kind: "Pod", Namespace: "a", Name: "cm"},
		},
		"not opted in": {
			references: refs, source: cm("cm"),
		},
		"auto-reload-all": {
			settings: policy.Settings{AutoReloadAll: true}, references: refs, source: cm("cm"), wantDepended: true, want: true,
		},
		"the kind is switched off": {
			settings: policy.Settings{IgnoreConfigMaps: true}, workload: annotations{auto: "true", namedCM: "cm"}, references: refs, source: cm("cm"),
		},
		"ignore on the source, which the name alone does not tell": {
			workload: annotations{auto: "true"}, references: refs, source: cm("cm"), annotations: annotations{ignore: "true"}, wantDepended: true,
		},
		"excluded": {
			workload: annotations{auto: "true", notCM: "cm"}, references: refs, source: cm("cm"),
		},
		"search and match": {
			workload: annotations{search: "true"}, references: refs, source: cm("cm"), annotations: annotations{match: "true"}, wantDepended: true, want: true,
		},
		"search without match": {
			workload: annotations{search: "true"}, references: refs, source: cm("cm"), wantDepended: true,
		},
		"a name in the list that is not referenced": {
			workload: annotations{namedCM: "other"}, references: refs, source: cm("other"), wantDepended: true, want: true,
		},
		"a reference that the list does not name": {
			workload: annotations{namedCM: "other"}, references: refs, source: cm("cm"),
		},
		"a pattern": {
			workload: annotations{namedCM: "o.*"}, source: cm("other"), wantDepended: true, want: true,
		},
		"a pattern that does not match": {
			workload: annotations{namedCM: "o.*"}, source: cm("cm"),
		},
		"a pattern is for its kind": {
			workload: annotations{namedS: "o.*"}, source: cm("other"),
		},
		"a pattern that matches what is excluded": {
			workload: annotations{namedCM: "o.*", notCM: "other"}, source: cm("other"), wantDepended: true,
		},
		"a pattern and a reference": {
			workload: annotations{auto: "true", namedCM: "c.*"}, references: refs, source: cm("cm"), wantDepended: true, want: true,
		},
		"a pull secret is not followed": {
			workload: annotations{auto: "true"}, references: refs, source: secret("pull"),
		},
		"a pull secret is followed when asked for": {
			settings: policy.Settings{FollowAll: true}, workload: annotations{auto: "true"}, references: refs, source: secret("pull"), wantDepended: true, want: true,
		},
		"a pull secret that the list names": {
			workload: annotations{namedS: "pull"}, references: refs, source: secret("pull"), wantDepended: true, want: true,
		},
		"a class while CSI is off": {
			workload: annotations{auto: "true"}, references: csiRefs, source: reloader.Source{Kind: reloader.SecretProviderClass, Namespace: "a", Name: "vault"},
		},
		"a class while CSI is on": {
			settings: policy.Settings{CSI: true}, workload: annotations{auto: "true"}, references: csiRefs,
			source: reloader.Source{Kind: reloader.SecretProviderClass, Namespace: "a", Name: "vault"}, wantDepended: true, want: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := tc.settings
			s.Keys = annotation.DefaultKeys()
			x := index.New(s)
			w := deployment("web")
			x.Set(w, index.Entry{Policy: policy.Parse(tc.workload, nil, s), References: tc.references})

			if tc.wantDepended {
				assert.True(t, x.Depended(tc.source), "depended, as far as is known before patterns are tried")
			}
			dependents(x, tc.source, nil)
			assert.Equal(t, tc.wantDepended, x.Depended(tc.source), "depended")
			var want []reloader.Workload
			if tc.want {
				want = []reloader.Workload{w}
			}
			assert.Equal(t, want, dependents(x, tc.source, tc.annotations))

			x.Delete(w)
			assert.False(t, x.Depended(tc.source), "after the workload is gone")
			assert.Empty(t, dependents(x, tc.source, tc.annotations))
			assert.Equal(t, index.Stats{}, x.Stats())
		})
	}
}

func TestDependentsAreSorted(t *testing.T) {
	x, s := newIndex()
	want := []reloader.Workload{
		{Kind: reloader.DaemonSet, Namespace: "a", Name: "z"},
		{Kind: reloader.Deployment, Namespace: "a", Name: "a"},
		{Kind: reloader.Deployment, Namespace: "a", Name: "b"},
		{Kind: reloader.Deployment, Namespace: "a", Name: "c"},
		{Kind: reloader.StatefulSet, Namespace: "a", Name: "a"},
	}
	for i, w := range slices.Backward(want) {
		named := annotations{namedCM: "cm"}
		if i%2 == 0 {
			named = annotations{namedCM: "cm|x, y"}
		}
		x.Set(w, index.Entry{Policy: policy.Parse(named, nil, s)})
	}
	assert.Equal(t, want, dependents(x, cm("cm"), nil))
}

func TestSet(t *testing.T) {
	ref := func(name string) reloader.Reference {
		return reloader.Reference{Kind: reloader.ConfigMap, Name: name, Container: "app", How: reloader.HowEnvFrom}
	}
	type state struct {
		annotations annotations
		references  []reloader.Reference
	}
	tests := map[string]struct {
		before       *state
		after        state
		wantGained   []reloader.Source
		wantPatterns bool
	}{
		"a new workload gains all that it depends on, sorted and once": {
			after: state{
				annotations{auto: "true", namedS: "z,y,y", namedCM: "b"},
				[]reloader.Reference{ref("b"), ref("a"), ref("a"), {Kind: reloader.Secret, Name: "pull", How: reloader.HowImagePull}},
			},
			wantGained: []reloader.Source{cm("a"), cm("b"), secret("y"), secret("z")},
		},
		"a new workload without policy gains nothing": {
			after: state{nil, []reloader.Reference{ref("a")}},
		},
		"nothing changed": {
			before: &state{annotations{auto: "true", namedCM: "x.*"}, []reloader.Reference{ref("a")}},
			after:  state{annotations{auto: "true", namedCM: "x.*"}, []reloader.Reference{ref("a")}},
		},
		"one more reference": {
			before:     &state{annotations{auto: "true"}, []reloader.Reference{ref("a")}},
			after:      state{annotations{auto: "true"}, []reloader.Reference{ref("a"), ref("b")}},
			wantGained: []reloader.Source{cm("b")},
		},
		"one reference less": {
			before: &state{annotations{auto: "true"}, []reloader.Reference{ref("a"), ref("b")}},
			after:  state{annotations{auto: "true"}, []reloader.Reference{ref("a")}},
		},
		"a name that was a reference before": {
			before: &state{annotations{auto: "true"}, []reloader.Reference{ref("a")}},
			after:  state{annotations{namedCM: "a"}, nil},
		},
		"opted in": {
			before:     &state{nil, []reloader.Reference{ref("a")}},
			after:      state{annotations{auto: "true"}, []reloader.Reference{ref("a")}},
			wantGained: []reloader.Source{cm("a")},
		},
		"opted out": {
			before: &state{annotations{auto: "true"}, []reloader.Reference{ref("a")}},
			after:  state{annotations{auto: "false"}, []reloader.Reference{ref("a")}},
		},
		"no longer excluded": {
			before:     &state{annotations{auto: "true", notCM: "a"}, []reloader.Reference{ref("a")}},
			after:      state{annotations{auto: "true"}, []reloader.Reference{ref("a")}},
			wantGained: []reloader.Source{cm("a")},
		},
		"a new pattern": {
			after:        state{annotations{namedCM: "x.*"}, nil},
			wantPatterns: true,
		},
		"another pattern": {
			before:       &state{annotations{namedCM: "x.*"}, nil},
			after:        state{annotations{namedCM: "x.*,y.*"}, nil},
			wantPatterns: true,
		},
		"a pattern of another kind": {
			before:       &state{annotations{namedCM: "x.*"}, nil},
			after:        state{annotations{namedS: "x.*"}, nil},
			wantPatterns: true,
		},
		"a pattern that an exclude list held back": {
			before:       &state{annotations{namedCM: "x.*", notCM: "x1"}, nil},
			after:        state{annotations{namedCM: "x.*"}, nil},
			wantPatterns: true,
		},
		"no pattern any more": {
			before: &state{annotations{namedCM: "x.*"}, nil},
			after:  state{annotations{}, nil},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			x, s := newIndex()
			w := deployment("web")
			if tc.before != nil {
				x.Set(w, index.Entry{Policy: policy.Parse(tc.before.annotations, nil, s), References: tc.before.references})
			}

			gained, patterns := x.Set(w, index.Entry{Policy: policy.Parse(tc.after.annotations, nil, s), References: tc.after.references})

			assert.Equal(t, tc.wantGained, gained)
			assert.Equal(t, tc.wantPatterns, patterns)
		})
	}
}

func TestGetReturnsWhatWasSet(t *testing.T) {
	x, s := newIndex()
	w := deployment("web")
	refs := []reloader.Reference{
		{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowVolume, Optional: true},
		{Kind: reloader.Secret, Name: "s", Container: "setup", Init: true, How: reloader.HowEnv, Keys: []string{"a", "b"}},
		{Kind: reloader.SecretProviderClass, Name: "vault", How: reloader.HowCSI},
		{Kind: reloader.Secret, Name: "pull", How: reloader.HowImagePull},
		{Kind: reloader.Secret, Name: "node", Container: "app", How: reloader.HowNodePublish},
		{Kind: reloader.Secret, Name: "rbd", Container: "app", How: reloader.HowVolumePlugin},
	}
	p := policy.Parse(annotations{auto: "true"}, nil, s)
	want := index.Entry{Policy: p, References: slices.Clone(refs)}

	x.Set(w, index.Entry{Policy: p, References: refs})
	refs[0].Name = "changed by the caller"
	refs[1].Keys[0] = "changed by the caller"
	want.References[1].Keys = []string{"a", "b"}
	got, found := x.Get(w)
	require.True(t, found)
	assert.Equal(t, want, got)

	got.References[0].Name = "changed by a reader"
	got.References[1].Keys[0] = "changed by a reader"
	got, _ = x.Get(w)
	assert.Equal(t, want, got)

	_, found = x.Get(reloader.Workload{Kind: reloader.StatefulSet, Namespace: "a", Name: "web"})
	assert.False(t, found, "another kind")
	_, found = x.Get(reloader.Workload{Kind: reloader.Deployment, Namespace: "b", Name: "web"})
	assert.False(t, found, "another namespace")
}

func TestEntriesThatCountForNothing(t *testing.T) {
	x, s := newIndex()
	x.Set(deployment("a"), index.Entry{References: []reloader.Reference{{Kind: reloader.ConfigMap, Name: "cm", How: reloader.HowEnv}}})
	x.Set(deployment("b"), index.Entry{Policy: policy.Parse(annotations{auto: "true"}, nil, s), References: []reloader.Reference{
		{Kind: "Pod", Name: "cm", How: reloader.HowEnv},
		{Kind: reloader.ConfigMap, Name: "cm", How: "telepathy"},
		{Kind: reloader.ConfigMap, How: reloader.HowEnv},
	}})
	assert.False(t, x.Depended(cm("cm")))
	assert.Empty(t, dependents(x, cm("cm"), nil))
	assert.Equal(t, index.Stats{Workloads: 2}, x.Stats())
	x.Delete(deployment("never set"))
	x.Delete(reloader.Workload{Kind: reloader.Deployment, Namespace: "nowhere", Name: "a"})
	assert.Equal(t, index.Stats{Workloads: 2}, x.Stats())
}

func TestSourcesAndStats(t *testing.T) {
	x, s := newIndex()
	set := func(namespace, name string, a annotations, sources ...string) {
		e := index.Entry{Policy: policy.Parse(a, nil, s)}
		for _, source := range sources {
			e.References = append(e.References, reloader.Reference{Kind: reloader.Secret, Name: source, How: reloader.HowEnv})
		}
		x.Set(reloader.Workload{Kind: reloader.Deployment, Namespace: namespace, Name: name}, e)
	}
	set("b", "one", annotations{auto: "true"}, "s2", "s1")
	set("b", "two", annotations{auto: "true", namedCM: "cm,x.*", namedS: ".*"}, "s2")
	set("a", "one", annotations{auto: "true"}, "s1")
	set("c", "one", nil, "s1")

	assert.Equal(t, index.Stats{Workloads: 4, Sources: 4, Patterns: 2}, x.Stats())
	assert.Equal(t, []string{"a", "b", "c"}, x.Namespaces())
	want := []reloader.Source{
		{Kind: reloader.Secret, Namespace: "a", Name: "s1"},
		{Kind: reloader.ConfigMap, Namespace: "b", Name: "cm"},
		{Kind: reloader.Secret, Namespace: "b", Name: "s1"},
		{Kind: reloader.Secret, Namespace: "b", Name: "s2"},
	}
	assert.Equal(t, want, slices.Collect(x.Sources()))
	assert.Equal(t, want[1:2], x.DependsOn(reloader.Workload{Kind: reloader.Deployment, Namespace: "b", Name: "two"})[:1])

	t.Run("the index may change during the iteration", func(t *testing.T) {
		var seen []reloader.Source
		for source := range x.Sources() {
			seen = append(seen, source)
			x.Delete(reloader.Workload{Kind: reloader.Deployment, Namespace: "b", Name: "one"})
			if len(seen) == 2 {
				break
			}
		}
		assert.Equal(t, want[:2], seen)
		assert.Equal(t, []reloader.Source{want[0], want[1], want[3]}, slices.Collect(x.Sources()))
	})
}

// TestConcurrentUse has writers and readers of the same few workloads; the
// race detector judges, and the end state must be that of the last writes.
func TestConcurrentUse(t *testing.T) {
	x, s := newIndex()
	policies := []*policy.Policy{
		policy.Parse(annotations{auto: "true"}, nil, s),
		policy.Parse(annotations{namedCM: "cm-1,cm-.*"}, nil, s),
		policy.Parse(annotations{namedS: "x.*"}, nil, s),
		nil,
	}
	entry := func(i int) index.Entry {
		return index.Entry{Policy: policies[i%len(policies)], References: []reloader.Reference{
			{Kind: reloader.ConfigMap, Name: fmt.Sprintf("cm-%d", i%3), Container: "app", How: reloader.HowEnvFrom},
		}}
	}
	const writers, rounds = 4, 300
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			w := deployment(fmt.Sprintf("web-%d", writer))
			for i := range rounds {
				x.Set(w, entry(i))
				if i%7 == 0 {
					x.Delete(w)
				}
			}
			x.Set(w, entry(0))
		})
		group.Go(func() {
			for i := range rounds {
				source := cm(fmt.Sprintf("cm-%d", i%3))
				x.Depended(source)
				for _, w := range dependents(x, source, nil) {
					x.Get(w)
					x.DependsOn(w)
				}
				if i%50 == 0 {
					for range x.Sources() {
						x.Stats()
					}
				}
			}
		})
	}
	group.Wait()

	assert.Len(t, dependents(x, cm("cm-0"), nil), writers)
	assert.Equal(t, index.Stats{Workloads: writers, Sources: 1}, x.Stats())
}

func TestDependedAllocatesNothing(t *testing.T) {
	x, s := newIndex()
	x.Set(deployment("web"), index.Entry{Policy: policy.Parse(annotations{namedCM: "cm,my.cm,[a-z]+-x"}, nil, s)})
	for _, name := range []string{"cm", "my-cm", "a-x", "none"} {
		assert.Zero(t, testing.AllocsPerRun(100, func() { x.Depended(cm(name)) }), name)
	}
}

func newIndex() (*index.Index, policy.Settings) {
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	return index.New(s), s
}

func deployment(name string) reloader.Workload {
	return reloader.Workload{Kind: reloader.Deployment, Namespace: "a", Name: name}
}

func cm(name string) reloader.Source {
	return reloader.Source{Kind: reloader.ConfigMap, Namespace: "a", Name: name}
}

func secret(name string) reloader.Source {
	return reloader.Source{Kind: reloader.Secret, Namespace: "a", Name: name}
}
