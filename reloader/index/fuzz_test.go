package index_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/policy"
)

// naive answers what an Index answers by looking at every workload.
type naive struct {
	settings policy.Settings
	entries  map[reloader.Workload]index.Entry
}

func (n *naive) dependents(s reloader.Source, a annotations) []reloader.Workload {
	var found []reloader.Workload
	for w, e := range n.entries {
		if w.Namespace != s.Namespace {
			continue
		}
		referenced := slices.ContainsFunc(e.References, func(ref reloader.Reference) bool {
			return ref.Kind == s.Kind && ref.Name == s.Name && n.settings.Follows(ref.How)
		})
		if e.Policy.Decide(s.Kind, s.Name, a, referenced).Reload {
			found = append(found, w)
		}
	}
	slices.SortFunc(found, func(a, b reloader.Workload) int { return cmp.Compare(a.String(), b.String()) })
	return found
}

// dependsOn tries every source there can be, with match and without: the
// names of sources are known to the Index, what they carry is not.
func (n *naive) dependsOn(w reloader.Workload) []reloader.Source {
	e, found := n.entries[w]
	if !found {
		return nil
	}
	alone := &naive{settings: n.settings, entries: map[reloader.Workload]index.Entry{w: e}}
	var sources []reloader.Source
	for _, s := range allSources() {
		if s.Namespace != w.Namespace || slices.Contains(e.Policy.Names(s.Kind), s.Name) {
			continue
		}
		if e.Policy.MatchesPattern(s.Kind, s.Name) {
			// A match of a pattern alone is no exact dependency; a reference
			// beside it is one, if the policy would follow it.
			referenced := slices.ContainsFunc(e.References, func(ref reloader.Reference) bool {
				return ref.Kind == s.Kind && ref.Name == s.Name && n.settings.Follows(ref.How)
			})
			if !referenced || !e.Policy.Follows(s.Kind) {
				continue
			}
		}
		if len(alone.dependents(s, annotations{match: "true"})) > 0 {
			sources = append(sources, s)
		}
	}
	for _, kind := range reloader.SourceKinds() {
		for _, name := range e.Policy.Names(kind) {
			s := reloader.Source{Kind: kind, Namespace: w.Namespace, Name: name}
			if len(alone.dependents(s, nil)) > 0 {
				sources = append(sources, s)
			}
		}
	}
	sortSources(sources)
	return sources
}

var sourceNames = []string{"a", "b", "ab", "a.b", "a-b"}

func allSources() []reloader.Source {
	var all []reloader.Source
	for _, namespace := range []string{"n", "m"} {
		for _, kind := range reloader.SourceKinds() {
			for _, name := range sourceNames {
				all = append(all, reloader.Source{Kind: kind, Namespace: namespace, Name: name})
			}
		}
	}
	return all
}

// FuzzIndex runs arbitrary operations on an Index and on a naive scan, and
// holds that they answer alike.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{0}, uint8(0))
	f.Add([]byte("\x01abcdefgh\x02abcdefgh\x03abcdefgh"), uint8(1))
	f.Add([]byte("\x10\xff\x08\x81\x30\x21\x10\xff\x04\x82\x30\x21\x10\x00"), uint8(7))
	f.Add([]byte(strings.Repeat("the quick brown fox", 10)), uint8(12))
	f.Fuzz(func(t *testing.T, program []byte, flags uint8) {
		s := policy.Settings{
			Keys:             annotation.DefaultKeys(),
			AutoReloadAll:    flags&1 != 0,
			IgnoreConfigMaps: flags&2 != 0,
			CSI:              flags&4 != 0,
			FollowAll:        flags&8 != 0,
		}
		r := &reader{bytes: program}
		x, n := index.New(s), &naive{settings: s, entries: map[reloader.Workload]index.Entry{}}
		for len(r.bytes) > 0 {
			// Whatever goes wrong halfway goes wrong at the end of a shorter
			// program, so the whole is compared once.
			w := r.workload()
			if r.next()%4 == 0 {
				x.Delete(w)
				delete(n.entries, w)
			} else {
				set(t, x, n, w, r.entry(s))
			}
		}
		assertAlike(t, x, n)
		for w := range maps.Clone(n.entries) {
			x.Delete(w)
			delete(n.entries, w)
		}
		assertAlike(t, x, n)
		assert.Equal(t, index.Stats{}, x.Stats(), "nothing is left")
		assert.Empty(t, x.Namespaces())
	})
}

func set(t *testing.T, x *index.Index, n *naive, w reloader.Workload, e index.Entry) {
	t.Helper()
	before := n.dependsOn(w)
	old, known := n.entries[w]
	n.entries[w] = e
	var wantGained []reloader.Source
	for _, s := range n.dependsOn(w) {
		if !slices.Contains(before, s) {
			wantGained = append(wantGained, s)
		}
	}
	newMatch := false
	for _, s := range allSources() {
		if s.Namespace == w.Namespace && yesByPattern(e.Policy, s) && (!known || !yesByPattern(old.Policy, s)) {
			newMatch = true
		}
	}

	gained, patterns := x.Set(w, e)

	require.Equal(t, wantGained, gained)
	if newMatch {
		assert.True(t, patterns, "a pattern matches what it did not before")
	}
	gained, patterns = x.Set(w, e)
	assert.Empty(t, gained, "set again")
	assert.False(t, patterns, "set again")
}

func yesByPattern(p *policy.Policy, s reloader.Source) bool {
	return p.MatchesPattern(s.Kind, s.Name) && p.Decide(s.Kind, s.Name, nil, false).Reload
}

func assertAlike(t *testing.T, x *index.Index, n *naive) {
	t.Helper()
	exact := map[reloader.Source]bool{}
	patterns := 0
	for w, e := range n.entries {
		sources := n.dependsOn(w)
		require.Equal(t, sources, x.DependsOn(w))
		for _, s := range sources {
			exact[s] = true
		}
		for _, kind := range reloader.SourceKinds() {
			if e.Policy.HasPatterns(kind) {
				patterns++
			}
		}
		got, found := x.Get(w)
		require.True(t, found)
		require.Equal(t, e, got)
	}
	for _, s := range allSources() {
		for _, a := range []annotations{nil, {match: "true"}, {ignore: "true"}} {
			want := n.dependents(s, a)
			require.Equal(t, want, dependents(x, s, a), "%s with %v", s, a)
			if len(want) > 0 {
				require.True(t, x.Depended(s), s)
			}
		}
		if exact[s] {
			require.True(t, x.Depended(s), s)
		}
	}
	all := slices.Collect(maps.Keys(exact))
	sortSources(all)
	require.Equal(t, all, slices.Collect(x.Sources()))
	require.Equal(t, index.Stats{Workloads: len(n.entries), Sources: len(exact), Patterns: patterns}, x.Stats())
}

func sortSources(sources []reloader.Source) {
	slices.SortFunc(sources, func(a, b reloader.Source) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
}

// reader makes workloads and entries of arbitrary bytes; past their end it
// reads zeros.
type reader struct {
	bytes []byte
}

func (r *reader) next() int {
	if len(r.bytes) == 0 {
		return 0
	}
	b := r.bytes[0]
	r.bytes = r.bytes[1:]
	return int(b)
}

func (r *reader) workload() reloader.Workload {
	b := r.next()
	return reloader.Workload{
		Kind:      []reloader.WorkloadKind{reloader.Deployment, reloader.DaemonSet}[b%2],
		Namespace: []string{"n", "m"}[b/2%2],
		Name:      []string{"x", "y"}[b/4%2],
	}
}

func (r *reader) entry(s policy.Settings) index.Entry {
	metadata := annotations{}
	bits := r.next()
	for i, key := range []string{auto, search, s.Keys.SecretAuto, s.Keys.ConfigMapAuto} {
		if bits>>i&1 != 0 {
			metadata[key] = []string{"true", "false"}[bits>>(4+i)&1]
		}
	}
	lists := []string{"a", "a,b", "a.b", "a.*", "(a|b),a-b", "[", "b,,a", "ab|a-b"}
	bits = r.next()
	for i, key := range []string{namedCM, namedS, notCM, s.Keys.SecretProviderClassNamed} {
		if bits>>i&1 != 0 {
			metadata[key] = lists[r.next()%len(lists)]
		}
	}
	hows := []reloader.How{reloader.HowEnv, reloader.HowVolume, reloader.HowImagePull, reloader.HowVolumePlugin}
	e := index.Entry{Policy: policy.Parse(metadata, nil, s)}
	for range bits >> 4 & 3 {
		b := r.next()
		ref := reloader.Reference{
			Kind: reloader.SourceKinds()[b%3],
			Name: sourceNames[b/3%len(sourceNames)],
			How:  hows[b/15%len(hows)],
		}
		if b >= 128 {
			ref.Container, ref.Keys = "app", []string{"k"}
		}
		e.References = append(e.References, ref)
	}
	return e
}
