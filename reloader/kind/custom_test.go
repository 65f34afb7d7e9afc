package kind

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// manifestOf decodes the JSON of one object of a kind.
func manifestOf(t *testing.T, k Kind, raw string) *Manifest {
	t.Helper()
	m, err := k.Decode([]byte(typed(k, raw)))
	require.NoError(t, err)
	return m
}

func TestTheTemplateOfARollout(t *testing.T) {
	tests := map[string]struct {
		raw          string
		wantBorrows  bool
		wantLender   reloader.Workload
		wantTemplate bool
	}{
		"its own": {
			raw:          `{"metadata":{"namespace":"shop"},"spec":{"template":{"spec":{"containers":[{"name":"a"}]}}}}`,
			wantTemplate: true,
		},
		"a Deployment's": {
			raw:         `{"metadata":{"namespace":"shop"},"spec":{"workloadRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}}}`,
			wantBorrows: true, wantLender: reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "web"},
		},
		"a Deployment's, although it has one": {
			raw:         `{"metadata":{"namespace":"shop"},"spec":{"template":{"spec":{"containers":[{"name":"a"}]}},"workloadRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}}}`,
			wantBorrows: true, wantLender: reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "web"},
		},
		"a ReplicaSet's": {
			raw:         `{"metadata":{"namespace":"shop"},"spec":{"workloadRef":{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web"}}}`,
			wantBorrows: true,
		},
		"somebody else's Deployment's": {
			raw:         `{"metadata":{"namespace":"shop"},"spec":{"workloadRef":{"apiVersion":"example.com/v1","kind":"Deployment","name":"web"}}}`,
			wantBorrows: true,
		},
		"that of nothing": {
			raw:         `{"metadata":{"namespace":"shop"},"spec":{"workloadRef":{}}}`,
			wantBorrows: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := manifestOf(t, rollout(), tc.raw)
			assert.Equal(t, tc.wantBorrows, m.Borrows)
			assert.Equal(t, tc.wantLender, m.Lender)
			assert.Equal(t, tc.wantTemplate, len(m.Template.Spec.Containers) > 0)
		})
	}
}

// A custom resource may hold what its kind does not promise. That keeps nobody
// from reading the others of a list.
func TestACustomResourceThatCannotBeReadSaysSo(t *testing.T) {
	k := rollout()
	object := new(unstructured.Unstructured)
	require.NoError(t, json.Unmarshal([]byte(typed(k, inTemplate(`{"containers":[{"resources":{"limits":{"cpu":"hunter2"}}}]}`))), object))
	m := k.Manifest(object)
	require.Error(t, m.Unreadable)
	assert.NotContains(t, m.Unreadable.Error(), "hunter2")
	assert.NotNil(t, m.Template)
}

// generic is a custom resource that has a version, as those that are read do.
const generic = `{"metadata":{"namespace":"shop","name":"web","uid":"first","resourceVersion":"5"%s},"spec":{"template":{"spec":{"containers":[
	{"name":"main","env":[{"name":"LEVEL","value":"info"}]},{"name":"sidecar"}]}}}}`

func withAnnotations(annotations map[string]string) string {
	if annotations == nil {
		return ""
	}
	raw, _ := json.Marshal(annotations)
	return `,"annotations":` + string(raw)
}

func TestPatchesOfCustomResources(t *testing.T) {
	settings := mark(reloader.ConfigMap, "settings", "v1-a", "main")
	password := mark(reloader.Secret, "password", "v1-b", "main")
	proxy := mark(reloader.ConfigMap, "proxy", "v1-c", "sidecar")
	proxySecret := mark(reloader.Secret, "proxy", "v1-d", "sidecar")
	tests := map[string]struct {
		strategy Strategy
		marks    []Mark
		record   string
		has      map[string]string
		want     string
	}{
		"a variable behind others": {
			strategy: EnvVars, marks: []Mark{settings},
			want: `[{"op":"replace","path":"/metadata/resourceVersion","value":"5"},
				{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"STAKATER_SETTINGS_CONFIGMAP","value":"v1-a"}}]`,
		},
		"the first variables of a container": {
			strategy: EnvVars, marks: []Mark{proxySecret, proxy},
			want: `[{"op":"replace","path":"/metadata/resourceVersion","value":"5"},
				{"op":"add","path":"/spec/template/spec/containers/1/env","value":[{"name":"STAKATER_PROXY_CONFIGMAP","value":"v1-c"}]},
				{"op":"add","path":"/spec/template/spec/containers/1/env/-","value":{"name":"STAKATER_PROXY_SECRET","value":"v1-d"}}]`,
		},
		"a variable that is there": {
			strategy: EnvVars, marks: []Mark{{Source: settings.Source, Value: "v1-a", Container: "main", Env: "LEVEL"}},
			want: `[{"op":"replace","path":"/metadata/resourceVersion","value":"5"},
				{"op":"replace","path":"/spec/template/spec/containers/0/env/0","value":{"name":"LEVEL","value":"v1-a"}}]`,
		},
		"with its record, the first annotation": {
			strategy: EnvVars, marks: []Mark{settings}, record: "{}",
			want: `[{"op":"replace","path":"/metadata/resourceVersion","value":"5"},
				{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"STAKATER_SETTINGS_CONFIGMAP","value":"v1-a"}},
				{"op":"add","path":"/metadata/annotations","value":{"reloader.stakater.com/index":"{}"}}]`,
		},
		"with its record, among other annotations": {
			strategy: EnvVars, marks: []Mark{settings}, record: "{}", has: map[string]string{"a": "b"},
			want: `[{"op":"replace","path":"/metadata/resourceVersion","value":"5"},
				{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"STAKATER_SETTINGS_CONFIGMAP","value":"v1-a"}},
				{"op":"add","path":"/metadata/annotations/reloader.stakater.com~1index","value":"{}"}]`,
		},
		"an annotation": {
			strategy: Annotations, marks: []Mark{password}, record: "{}",
			want: `{"metadata":{"uid":"first","annotations":{"reloader.stakater.com/index":"{}"}},"spec":{"template":{"metadata":{"annotations":{"reloader.stakater.com/last-reloaded-from":
				"{\"type\":\"SECRET\",\"name\":\"password\",\"namespace\":\"shop\",\"hash\":\"v1-b\",\"containerRefs\":[\"main\"]}"}}}}}`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, k := range []Kind{rollout(), deploymentConfig()} {
				c := Change{UID: "first", Strategy: tc.strategy, Marks: tc.marks, Record: tc.record, Keys: annotation.DefaultKeys()}
				m := manifestOf(t, k, sprintf(generic, withAnnotations(tc.has)))
				patch, err := k.Patch(c, m)
				require.NoError(t, err)
				assert.JSONEq(t, tc.want, string(patch.Body))
				assert.Equal(t, map[Strategy]types.PatchType{EnvVars: types.JSONPatchType, Annotations: types.MergePatchType}[tc.strategy], patch.Type)
				assert.False(t, patch.Restarts)

				// Once the marks are there, nothing is left to write.
				marked := m.Template.DeepCopy()
				require.NoError(t, c.markTemplate(marked))
				assert.True(t, c.MarkedIn(marked))
				if k.Reads(c) {
					m.Template = marked
					again, err := k.Patch(c, m)
					require.NoError(t, err)
					assert.Empty(t, again.Body)
				}
			}
		})
	}
}

func TestAMarkForAContainerThatIsNotThere(t *testing.T) {
	for _, k := range []Kind{rollout(), deploymentConfig()} {
		m := manifestOf(t, k, sprintf(generic, ""))
		_, err := k.Patch(Change{Strategy: EnvVars, Marks: []Mark{mark(reloader.ConfigMap, "settings", "v1-a", "gone")}}, m)
		require.ErrorIs(t, err, ErrNoContainer)
	}
	template := new(corev1.PodTemplateSpec)
	err := Change{Strategy: EnvVars, Marks: []Mark{mark(reloader.ConfigMap, "settings", "v1-a", "gone")}}.markTemplate(template)
	require.ErrorIs(t, err, ErrNoContainer)
	require.Error(t, Change{Strategy: "hope"}.markTemplate(template))
}

func TestARestart(t *testing.T) {
	k, keys := rollout(), annotation.DefaultKeys()
	annotations := map[string]string{keys.RolloutStrategy: "restart"}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	change := func(marks ...Mark) Change {
		return Change{UID: "first", Strategy: EnvVars, Marks: marks, Record: "{}", Keys: keys, At: at}
	}
	remembered := func(t *testing.T, c Change) (patch metav1.PartialObjectMetadata, empty bool) {
		t.Helper()
		m := manifestOf(t, k, sprintf(generic, withAnnotations(annotations)))
		require.True(t, k.Restarts(m, keys))
		p, err := k.Patch(c, m)
		require.NoError(t, err)
		if len(p.Body) == 0 {
			return patch, true
		}
		assert.True(t, p.Restarts)
		assert.Equal(t, types.MergePatchType, p.Type)
		assert.Contains(t, string(p.Body), `"spec":{"restartAt":"2026-01-02T03:04:05Z"}`)
		require.NoError(t, json.Unmarshal(p.Body, &patch))
		assert.Equal(t, "5", patch.ResourceVersion)
		assert.Equal(t, "{}", patch.Annotations[keys.Index])
		annotations[keys.LastReloadedFrom] = patch.Annotations[keys.LastReloadedFrom]
		return patch, false
	}
	a := mark(reloader.ConfigMap, "settings", "v1-a", "main")
	b := mark(reloader.ConfigMap, "settings", "v1-b", "main")
	other := mark(reloader.Secret, "password", "v1-c", "main")

	_, empty := remembered(t, change(a))
	require.False(t, empty)
	_, empty = remembered(t, change(a))
	assert.True(t, empty, "the same is no second restart")
	_, empty = remembered(t, change(other))
	assert.False(t, empty)
	_, empty = remembered(t, change(a, other))
	assert.True(t, empty, "what came before is remembered")
	_, empty = remembered(t, change(b))
	assert.False(t, empty)
	_, empty = remembered(t, change(a))
	assert.False(t, empty, "going back is a change")
	annotations[keys.LastReloadedFrom] = "broken"
	_, empty = remembered(t, change(a))
	assert.False(t, empty)
}
