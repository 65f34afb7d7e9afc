package index_test

import (
	"fmt"
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

func TestWhatAWorkloadThatIsKeptByNameMayDependOn(t *testing.T) {
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	refs := []reloader.Reference{{Kind: reloader.ConfigMap, Name: "cm", How: reloader.HowEnvFrom}}
	names := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprint("none-", i))
		}
		return strings.Join(list, ",")
	}
	tests := map[string]struct {
		workload  annotations
		wantExact bool
		want      []reloader.Source
		wantNot   []reloader.Source
	}{
		"what it references": {
			workload: annotations{auto: "true"}, wantExact: true,
			want: []reloader.Source{cm("cm")}, wantNot: []reloader.Source{cm("other"), secret("cm")},
		},
		"what it references, whatever that is marked with": {
			workload: annotations{search: "true"}, wantExact: true,
			want: []reloader.Source{cm("cm")}, wantNot: []reloader.Source{cm("other")},
		},
		"what it names": {
			workload: annotations{namedS: "a,b"}, wantExact: true,
			want: []reloader.Source{secret("a"), secret("b")}, wantNot: []reloader.Source{cm("cm"), cm("a")},
		},
		"not what it excludes": {
			workload: annotations{auto: "true", notCM: "cm"}, wantExact: true,
			wantNot: []reloader.Source{cm("cm")},
		},
		"everything of a kind, with patterns": {
			workload: annotations{namedCM: "x.*"},
			want:     []reloader.Source{cm("x"), cm("cm"), cm("none")}, wantNot: []reloader.Source{secret("x")},
		},
		"as many as are told apart": {
			workload: annotations{namedCM: names(index.MostExact)}, wantExact: true,
			want: []reloader.Source{cm("none-0")}, wantNot: []reloader.Source{cm("cm")},
		},
		"everything of a kind, with one more": {
			workload: annotations{namedCM: names(index.MostExact + 1)},
			want:     []reloader.Source{cm("none-0"), cm("cm")}, wantNot: []reloader.Source{secret("x")},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			x, w := index.New(s), deployment("web")
			entry := index.Entry{Policy: policy.Parse(tc.workload, nil, s), References: refs}
			x.Set(w, entry)
			before := x.DependsOn(w)
			assert.ElementsMatch(t, before, x.DependsOnAll(w, entry))

			assert.Equal(t, tc.wantExact, x.SetByName(w, entry))
			assert.Equal(t, index.Stats{Workloads: 1, ByName: 1}, x.Stats())
			for _, source := range tc.want {
				assert.True(t, x.Depended(source), source)
				assert.True(t, x.Reached(w, source), source)
				assert.False(t, x.Named(source), source)
				assert.True(t, x.Matched(w, source, index.Matches{}), source)
				assert.Equal(t, []reloader.Workload{w}, dependents(x, source, nil), source)
				assert.Empty(t, dependents(x, source, annotations{ignore: "true"}), source)
			}
			for _, source := range tc.wantNot {
				assert.False(t, x.Depended(source), source)
				assert.False(t, x.Reached(w, source), source)
				assert.Empty(t, dependents(x, source, nil), source)
			}
			_, found := x.Get(w)
			assert.False(t, found)
			assert.Empty(t, x.DependsOn(w))

			gained, _ := x.Set(w, entry)
			assert.Equal(t, before, gained)
			assert.Equal(t, before, x.DependsOn(w))
			x.SetByName(w, entry)
			x.Delete(w)
			assert.Equal(t, index.Stats{}, x.Stats())
			assert.Empty(t, x.Namespaces())
		})
	}
}

// FuzzByName runs arbitrary operations on an Index that keeps some workloads by name
// and on one that keeps none. It holds that the former says yes for a workload
// wherever the latter does, and for those that it keeps in full nowhere else.
func FuzzByName(f *testing.F) {
	f.Add([]byte{0}, uint8(0))
	f.Add([]byte("\x01abcdefgh\x02abcdefgh\x03abcdefgh"), uint8(1))
	f.Add([]byte(strings.Repeat("the quick brown fox", 10)), uint8(12))
	f.Fuzz(func(t *testing.T, program []byte, flags uint8) {
		s := policy.Settings{
			Keys: annotation.DefaultKeys(), AutoReloadAll: flags&1 != 0, IgnoreConfigMaps: flags&2 != 0, CSI: flags&4 != 0, FollowAll: flags&8 != 0,
		}
		r := &reader{bytes: program}
		x, full := index.New(s), index.New(s)
		byName := map[reloader.Workload]bool{}
		for len(r.bytes) > 0 {
			w := r.workload()
			switch r.next() % 5 {
			case 0:
				x.Delete(w)
				full.Delete(w)
				delete(byName, w)
			case 1, 2:
				e := r.entry(s)
				x.SetByName(w, e)
				full.Set(w, e)
				byName[w] = true
			default:
				e := r.entry(s)
				x.Set(w, e)
				full.Set(w, e)
				delete(byName, w)
			}
		}
		assert.Equal(t, len(byName), x.Stats().ByName)
		assert.Equal(t, full.Stats().Workloads, x.Stats().Workloads)
		for _, source := range allSources() {
			for _, a := range []annotations{nil, {match: "true"}, {ignore: "true"}} {
				want, got := dependents(full, source, a), dependents(x, source, a)
				require.Subset(t, got, want, "%s with %v", source, a)
				require.True(t, slices.IsSortedFunc(got, func(a, b reloader.Workload) int { return strings.Compare(a.String(), b.String()) }))
				got = slices.DeleteFunc(got, func(w reloader.Workload) bool { return byName[w] && !slices.Contains(want, w) })
				require.Equal(t, append([]reloader.Workload{}, want...), append([]reloader.Workload{}, got...), "%s with %v", source, a)
				if len(got) > 0 {
					require.True(t, x.Depended(source))
				}
			}
		}
	})
}
