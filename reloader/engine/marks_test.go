package engine

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/report"
)

func newTestKey(t testing.TB) fingerprint.Key {
	t.Helper()
	key, err := RandomKey()
	require.NoError(t, err)
	return key
}

func TestMarks(t *testing.T) {
	uses := func(name, container string, init bool) reloader.Reference {
		return reloader.Reference{Kind: reloader.ConfigMap, Name: name, Container: container, Init: init, How: reloader.HowEnv}
	}
	key := newTestKey(t)
	value := func(s reloader.Source, content fingerprint.Fingerprint) string {
		return newSeals(key).content(s, content) + "-9f9f5111"
	}
	tests := map[string]struct {
		debts      []debt
		references []reloader.Reference
		want       []kind.Mark
	}{
		"the container that uses the source": {
			debts:      []debt{{settings, "b"}},
			references: []reloader.Reference{uses("settings", "sidecar", false)},
			want: []kind.Mark{{
				Source: settings, Value: value(settings, "b"), Content: "b", Container: "sidecar", Env: "STAKATER_SETTINGS_CONFIGMAP", UsedBy: []string{"sidecar"},
			}},
		},
		"the first of two, and both named": {
			debts:      []debt{{settings, "b"}},
			references: []reloader.Reference{uses("settings", "sidecar", false), uses("settings", "main", false), uses("settings", "main", false)},
			want: []kind.Mark{{
				Source: settings, Value: value(settings, "b"), Content: "b", Container: "sidecar", Env: "STAKATER_SETTINGS_CONFIGMAP", UsedBy: []string{"main", "sidecar"},
			}},
		},
		"the first container for an init container": {
			debts:      []debt{{settings, "b"}},
			references: []reloader.Reference{uses("settings", "init", true)},
			want: []kind.Mark{{
				Source: settings, Value: value(settings, "b"), Content: "b", Container: "main", Env: "STAKATER_SETTINGS_CONFIGMAP", UsedBy: []string{"init"},
			}},
		},
		"a container before an init container": {
			debts:      []debt{{settings, "b"}},
			references: []reloader.Reference{uses("settings", "init", true), uses("settings", "sidecar", false)},
			want: []kind.Mark{{
				Source: settings, Value: value(settings, "b"), Content: "b", Container: "sidecar", Env: "STAKATER_SETTINGS_CONFIGMAP", UsedBy: []string{"init", "sidecar"},
			}},
		},
		"the first container for what is only named, or mounted nowhere": {
			debts:      []debt{{settings, "b"}, {password, "q"}},
			references: []reloader.Reference{uses("settings", "", false), uses("password", "sidecar", false)},
			want: []kind.Mark{
				{Source: settings, Value: value(settings, "b"), Content: "b", Container: "main", Env: "STAKATER_SETTINGS_CONFIGMAP"},
				{Source: password, Value: value(password, "q"), Content: "q", Container: "main", Env: "STAKATER_PASSWORD_SECRET"},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, unreachable(t), new(told))
			e.seals = newSeals(key)
			to := target{container: "main", template: "0123456789abcdef", references: tc.references}
			assert.Equal(t, tc.want, e.marks(tc.debts, to))
		})
	}
}

// Who goes back to content that an old mark tells of starts pods only if the
// value of the mark is another one.
func TestAMarkTellsOfTheTemplateToo(t *testing.T) {
	e := newTestEngine(t, unreachable(t), new(told))
	value := func(content fingerprint.Fingerprint, template string) string {
		return e.marks([]debt{{settings, content}}, target{container: "main", template: template})[0].Value
	}
	again := value("b", "0123456789abcdef")
	assert.Equal(t, again, value("b", "0123456789abcdef"))
	assert.NotEqual(t, value("b", "0123456789abcdef"), value("b", "fedcba9876543210"))
	assert.NotEqual(t, value("b", "0123456789abcdef"), value("c", "0123456789abcdef"))
	assert.NotEqual(t, value("b", ""), value("b", "0123456789abcdef"))
}

// Equal content of two sources cannot be told from different content, by
// whatever leaves the ledger: who may read what stands on the workloads of
// others cannot compare it with guesses of its own.
func TestWhatLeavesTellsNothingOfEqualContent(t *testing.T) {
	victim := reloader.Source{Kind: reloader.Secret, Namespace: "shop", Name: "password"}
	guesses := map[string]reloader.Source{
		"in another namespace":      {Kind: reloader.Secret, Namespace: "evil", Name: "password"},
		"under another name":        {Kind: reloader.Secret, Namespace: "shop", Name: "guess"},
		"of another kind":           {Kind: reloader.ConfigMap, Namespace: "shop", Name: "password"},
		"with the names cut anew":   {Kind: reloader.Secret, Namespace: "shop/pass", Name: "word"},
		"with one name in the kind": {Kind: "Secretshop", Namespace: "", Name: "password"},
	}
	e := newTestEngine(t, unreachable(t), new(told))
	contents := map[string]fingerprint.Fingerprint{
		"a value": e.key.Secret(map[string][]byte{"password": []byte("hunter2")}), "nothing": e.key.Secret(nil), "deleted": fingerprint.Deleted,
	}
	for what, content := range contents {
		for name, guess := range guesses {
			t.Run(what+" "+name, func(t *testing.T) {
				leaves := func(s reloader.Source) (mark, memory, id string) {
					debts := []debt{{s, content}}
					to := target{uid: "first", container: "main", template: "0123456789abcdef"}
					marks := e.marks(debts, to)
					require.Equal(t, marks, e.marks(debts, to), "the same change leaves the same")
					c := kind.Change{Keys: keys, Strategy: kind.Annotations, Marks: marks}
					k, _ := kind.BuiltIn().ByName(reloader.Deployment)
					patch, err := k.Patch(c, nil)
					require.NoError(t, err)
					r := report.Reload{Workload: web, UID: "first"}
					return marks[0].Value, string(patch.Body), e.seals.call(r, debts, []uint64{7})
				}
				mark, memory, id := leaves(victim)
				otherMark, otherMemory, otherID := leaves(guess)
				assert.Regexp(t, `^v2-[0-9a-f]{32}-[0-9a-f]{8}$`, mark)
				assert.Regexp(t, `^v2-[0-9a-f]{32}$`, id)
				assert.NotEqual(t, mark[:20], otherMark[:20])
				assert.NotEqual(t, id[:20], otherID[:20])
				for _, text := range []string{mark, memory, id, otherMark, otherMemory, otherID} {
					assert.NotContains(t, text, "v1-")
					assert.NotContains(t, text, string(content)[len("v1-"):])
				}
			})
		}
	}
}

// A mark that a tenant has copied from elsewhere, of whatever version, is none of
// the source that it stands for.
func TestACopiedMarkProvesNothing(t *testing.T) {
	e := newTestEngine(t, unreachable(t), new(told))
	content := e.key.Secret(map[string][]byte{"password": []byte("hunter2")})
	to := target{uid: "first", container: "main", template: "0123456789abcdef"}
	own := debt{password, content}
	theirs := debt{reloader.Source{Kind: reloader.Secret, Namespace: "elsewhere", Name: "password"}, content}
	c := kind.Change{Keys: keys, Strategy: kind.EnvVars, Marks: e.marks([]debt{own}, to)}
	template := newApp(web).template()
	for what, value := range map[string]string{
		"of version 1":       string(content) + "-" + shortHash(to.template+"/"+password.String()),
		"of another source":  e.marks([]debt{theirs}, to)[0].Value,
		"the fingerprint":    string(content),
		"without a template": e.seals.content(password, content),
	} {
		template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: c.Marks[0].Env, Value: value}}
		assert.False(t, c.MarkedIn(&template), what)
	}
	template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: c.Marks[0].Env, Value: c.Marks[0].Value}}
	assert.True(t, c.MarkedIn(&template))
}

// BenchmarkMarks is what the marks of a reload cost before its PATCH.
func BenchmarkMarks(b *testing.B) {
	e := newTestEngine(b, &rest.Config{}, new(told))
	for _, sources := range []int{1, 10, 2100} {
		b.Run(fmt.Sprintf("of %d sources", sources), func(b *testing.B) {
			to := target{uid: "first", container: "main", template: "0123456789abcdef"}
			debts := make([]debt, sources)
			for i := range debts {
				s := configMap(fmt.Sprintf("settings-of-tenant-%04d", i))
				debts[i] = debt{s, e.key.ConfigMap(map[string]string{"a": s.Name}, nil)}
				to.references = append(to.references, reloader.Reference{Kind: s.Kind, Name: s.Name, Container: "main"})
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = e.marks(debts, to)
			}
		})
	}
}
