package kind

import (
	"encoding/json"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// withEnv is the example with these variables in its first container.
func withEnv(t *testing.T, k Kind, env []corev1.EnvVar, change ...func(*Manifest)) *Manifest {
	t.Helper()
	return changed(t, k, func(m *Manifest) {
		m.Meta.ResourceVersion = "5"
		m.Template.Spec.Containers[0].Env = env
		for _, c := range change {
			c(m)
		}
	})
}

func patched(t *testing.T, k Kind, m *Manifest, patch Patch) *Manifest {
	t.Helper()
	require.Equal(t, types.JSONPatchType, patch.Type)
	before, err := json.Marshal(m.object)
	require.NoError(t, err)
	operations, err := jsonpatch.DecodePatch(patch.Body)
	require.NoError(t, err)
	after, err := operations.Apply(before)
	require.NoError(t, err)
	into := k.NewObject()
	require.NoError(t, json.Unmarshal(after, into))
	return k.Manifest(into)
}

func TestVariablesOfTheUserStayInTheirPlaces(t *testing.T) {
	const name = "STAKATER_SETTINGS_CONFIGMAP"
	from := &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}
	marked := func(name string) corev1.EnvVar { return corev1.EnvVar{Name: name, Value: "v2-a"} }
	first, url, second := corev1.EnvVar{Name: "HOST", Value: "a"}, corev1.EnvVar{Name: "URL", Value: "$(HOST)"}, corev1.EnvVar{Name: "HOST", Value: "b"}
	tests := map[string]struct{ before, want []corev1.EnvVar }{
		"a name twice": {
			before: []corev1.EnvVar{first, url, second, url}, want: []corev1.EnvVar{first, url, second, url, marked(name)},
		},
		"with an older mark in between": {
			before: []corev1.EnvVar{first, {Name: name, Value: "v2-0"}, second}, want: []corev1.EnvVar{first, marked(name), second},
		},
		"an older mark twice": {
			before: []corev1.EnvVar{{Name: name, Value: "v2-0"}, url, {Name: name, Value: "v2-1"}},
			want:   []corev1.EnvVar{marked(name), url, marked(name)},
		},
		"the mark's name stands for a field": {
			before: []corev1.EnvVar{url, {Name: name, ValueFrom: from}},
			want:   []corev1.EnvVar{url, {Name: name, ValueFrom: from}, marked("STAKATER_SETTINGS_RELOADER_1_CONFIGMAP")},
		},
		"so do its next ones": {
			before: []corev1.EnvVar{{Name: name, ValueFrom: from}, {Name: "STAKATER_SETTINGS_RELOADER_1_CONFIGMAP", ValueFrom: from}, url},
			want: []corev1.EnvVar{
				{Name: name, ValueFrom: from}, {Name: "STAKATER_SETTINGS_RELOADER_1_CONFIGMAP", ValueFrom: from}, url, marked("STAKATER_SETTINGS_RELOADER_2_CONFIGMAP"),
			},
		},
		"its name stands for a field, and for a value": {
			before: []corev1.EnvVar{{Name: name, Value: "x"}, {Name: name, ValueFrom: from}},
			want:   []corev1.EnvVar{{Name: name, Value: "x"}, {Name: name, ValueFrom: from}, marked("STAKATER_SETTINGS_RELOADER_1_CONFIGMAP")},
		},
	}
	for name, tc := range tests {
		for _, k := range []Kind{deployment(), statefulSet(), daemonSet(), rollout(), deploymentConfig()} {
			t.Run(string(k.Name)+": "+name, func(t *testing.T) {
				m := withEnv(t, k, tc.before)
				c := Change{
					UID: "first", Strategy: EnvVars, ByPlace: true, Record: "{}", Keys: annotation.DefaultKeys(),
					Marks: []Mark{mark(reloader.ConfigMap, "settings", "v2-a", "main")},
				}
				require.True(t, k.Reads(c))
				fitted := c.Within(m.Template)
				patch, err := k.Patch(fitted, m)
				require.NoError(t, err)
				after := patched(t, k, m, patch)
				assert.Equal(t, tc.want, after.Template.Spec.Containers[0].Env)
				assert.Equal(t, map[string]string{"a": "1", c.Keys.Index: "{}"}, after.Meta.Annotations)

				again, err := k.Patch(c.Within(after.Template), after)
				require.NoError(t, err)
				assert.Empty(t, again.Body, "it is there already")
				assert.Equal(t, mark(reloader.ConfigMap, "settings", "v2-a", "main"), c.Marks[0], "the change itself stays")
			})
		}
	}
}

// What a merge does besides is done by places, too.
func TestAPatchByPlacesDoesAllThatAMergeDoes(t *testing.T) {
	keys := annotation.DefaultKeys()
	twice := []corev1.EnvVar{{Name: "A"}, {Name: "A"}}
	change := Change{UID: "first", Strategy: EnvVars, ByPlace: true, Keys: keys, Marks: []Mark{mark(reloader.ConfigMap, "settings", "v2-a", "main")}}
	t.Run("a mark of the other strategy goes", func(t *testing.T) {
		m := withEnv(t, deployment(), twice, func(m *Manifest) { m.Template.Annotations = map[string]string{keys.LastReloadedFrom: "{}", "b": "1"} })
		patch, err := deployment().Patch(change, m)
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"b": "1"}, patched(t, deployment(), m, patch).Template.Annotations)
	})
	pauses := map[string]struct {
		pause       Pause
		paused      bool
		annotations map[string]string
		want        map[string]string
		wantPaused  bool
		wantVersion string
	}{
		"a period begins": {pause: Pause{At: new("now")}, want: map[string]string{keys.PausedAt: "now"}, wantVersion: "5"},
		"among others":    {pause: Pause{At: new("now")}, annotations: map[string]string{"a": "1"}, want: map[string]string{"a": "1", keys.PausedAt: "now"}, wantVersion: "5"},
		"it ends, and the next begins": {
			pause: Pause{At: new("now"), Paused: new(false), ResourceVersion: "4"}, paused: true,
			annotations: map[string]string{keys.PausedAt: "then"}, want: map[string]string{keys.PausedAt: "now"}, wantVersion: "4",
		},
		"it ends": {
			pause: Pause{At: new(""), Paused: new(false)}, paused: true,
			annotations: map[string]string{"a": "1", keys.PausedAt: "then"}, want: map[string]string{"a": "1"}, wantVersion: "5",
		},
		"it ends, and was resumed before": {
			pause: Pause{At: new(""), Paused: new(false)}, annotations: map[string]string{"a": "1"}, want: map[string]string{"a": "1"}, wantVersion: "5",
		},
		"it is paused": {pause: Pause{Paused: new(true), ResourceVersion: "5"}, wantPaused: true, wantVersion: "5"},
	}
	for name, tc := range pauses {
		t.Run(name, func(t *testing.T) {
			m := withEnv(t, deployment(), twice, func(m *Manifest) {
				m.Meta.Annotations = tc.annotations
				m.object.(*appsv1.Deployment).Spec.Paused = tc.paused
			})
			c := change
			c.Pause = &tc.pause
			patch, err := deployment().Patch(c, m)
			require.NoError(t, err)
			after := patched(t, deployment(), m, patch)
			assert.Equal(t, tc.want, after.Meta.Annotations)
			assert.Equal(t, tc.wantPaused, after.object.(*appsv1.Deployment).Spec.Paused)
			assert.Equal(t, tc.wantVersion, after.Meta.ResourceVersion)
		})
	}
}

// Where nothing is odd nothing is read: a merge leaves the order of others as it is.
func TestAnOrdinaryTemplateIsMerged(t *testing.T) {
	env := []corev1.EnvVar{{Name: "B"}, {Name: "A", Value: "$(B)"}, {Name: "C"}}
	for _, k := range []Kind{deployment(), statefulSet(), daemonSet()} {
		c := Change{UID: "first", Strategy: EnvVars, Keys: annotation.DefaultKeys(), Marks: []Mark{mark(reloader.ConfigMap, "settings", "v2-a", "main")}}
		require.False(t, k.Reads(c))
		patch, err := k.Patch(c, nil)
		require.NoError(t, err)
		after := k.Manifest(apply(t, withEnv(t, k, env).object, patch.Body, k.NewObject()))
		var others []corev1.EnvVar
		for _, v := range after.Template.Spec.Containers[0].Env {
			if v.Name != "STAKATER_SETTINGS_CONFIGMAP" {
				others = append(others, v)
			}
		}
		assert.Equal(t, env, others)
	}
}

// What is run or replaced has the user's variables as they were, too.
func TestAMarkThatIsWrittenIntoATemplateTakesNoName(t *testing.T) {
	from := &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}
	env := []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "STAKATER_SETTINGS_CONFIGMAP", ValueFrom: from}, {Name: "A", Value: "2"}}
	for _, k := range []Kind{cronJob(), job()} {
		m := k.Manifest(example(t, k))
		m.Template.Spec.Containers[0].Env = env
		c := Change{Strategy: EnvVars, Keys: annotation.DefaultKeys(), Marks: []Mark{mark(reloader.ConfigMap, "settings", "v2-a", "main")}}.Within(m.Template)
		template := m.Template.DeepCopy()
		require.NoError(t, c.markTemplate(template))
		assert.Equal(t, append(env[:3:3], corev1.EnvVar{Name: "STAKATER_SETTINGS_RELOADER_1_CONFIGMAP", Value: "v2-a"}), template.Spec.Containers[0].Env)
		assert.True(t, c.MarkedIn(template))
	}
}
