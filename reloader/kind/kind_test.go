package kind

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// example is an object of the kind, with one container and two replicas where
// there are replicas.
func example(t testing.TB, k Kind) runtime.Object {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "first", Generation: 7, Annotations: map[string]string{"a": "1"}}
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "main", Image: "web:1", Env: []corev1.EnvVar{{Name: "LEVEL", Value: "info"}},
	}, {
		Name: "sidecar", Image: "proxy:1",
	}}}}
	switch k.Name {
	case reloader.Deployment:
		return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](2), Template: template}}
	case reloader.StatefulSet:
		return &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2), Template: template}}
	case reloader.DaemonSet:
		return &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: template}}
	case reloader.CronJob:
		return &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}},
		}}
	case reloader.Job:
		return &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: template}}
	case reloader.Rollout, reloader.DeploymentConfig:
		return customExample(t, k, meta, template)
	}
	require.Fail(t, "no example", k.Name)
	return nil
}

// customExample is one that went through JSON, as those of the API server do.
func customExample(t testing.TB, k Kind, meta metav1.ObjectMeta, template corev1.PodTemplateSpec) runtime.Object {
	t.Helper()
	raw, err := json.Marshal(map[string]any{
		"apiVersion": k.Resource.GroupVersion().String(), "kind": k.Name,
		"metadata": meta, "spec": map[string]any{"replicas": 2, "template": template},
	})
	require.NoError(t, err)
	object := k.NewObject()
	require.NoError(t, json.Unmarshal(raw, object))
	return object
}

// changed is the example after a change, as the API server would show it.
func changed(t testing.TB, k Kind, change func(*Manifest)) *Manifest {
	t.Helper()
	m := k.Manifest(example(t, k))
	change(m)
	if !k.custom {
		return m
	}
	return k.Manifest(customExample(t, k, *m.Meta, *m.Template))
}

func TestLookUps(t *testing.T) {
	for _, k := range BuiltIn().All() {
		got, ok := BuiltIn().ByName(k.Name)
		require.True(t, ok)
		assert.Equal(t, k.Resource, got.Resource)
		got, ok = BuiltIn().ByGroupKind(k.Resource.Group, string(k.Name))
		require.True(t, ok)
		assert.Equal(t, k.Resource, got.Resource)
		_, ok = BuiltIn().ByGroupKind("extensions", string(k.Name))
		assert.False(t, ok)
	}
	_, ok := BuiltIn().ByName("Pod")
	assert.False(t, ok)
	_, ok = BuiltIn().ByGroupKind("apps", "ReplicaSet")
	assert.False(t, ok)
}

func TestManifests(t *testing.T) {
	for _, k := range BuiltIn().All() {
		t.Run(string(k.Name), func(t *testing.T) {
			m := k.Manifest(example(t, k))
			assert.Equal(t, reloader.Workload{Kind: k.Name, Namespace: "shop", Name: "web"}, m.Workload())
			assert.Equal(t, "main", m.Template.Spec.Containers[0].Name)
			assert.False(t, m.OnDelete)

			raw, err := json.Marshal(example(t, k))
			require.NoError(t, err)
			decoded, err := k.Decode(raw)
			require.NoError(t, err)
			assert.NotEmpty(t, decoded.Raw.Template)
			m.Raw = decoded.Raw
			assert.Equal(t, m, decoded)

			decoded, err = k.Read(raw)
			require.NoError(t, err)
			assert.Equal(t, m, decoded)
		})
	}
}

func TestOnDelete(t *testing.T) {
	tests := map[string]struct {
		raw  string
		kind reloader.WorkloadKind
		want bool
	}{
		"a StatefulSet that says so": {`{"spec":{"updateStrategy":{"type":"OnDelete"}}}`, reloader.StatefulSet, true},
		"a DaemonSet that says so":   {`{"spec":{"updateStrategy":{"type":"OnDelete"}}}`, reloader.DaemonSet, true},
		"a StatefulSet that rolls":   {`{"spec":{"updateStrategy":{"type":"RollingUpdate"}}}`, reloader.StatefulSet, false},
		"a Deployment":               {`{}`, reloader.Deployment, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			k, ok := BuiltIn().ByName(tc.kind)
			require.True(t, ok)
			m, err := k.Decode([]byte(tc.raw))
			require.NoError(t, err)
			assert.Equal(t, tc.want, m.OnDelete)
		})
	}
}

func TestADecodingErrorQuotesNothing(t *testing.T) {
	tests := map[string]string{
		"broken":                      `{"metadata":{"name":"hunter2"`,
		"broken at a character":       `hunter2`,
		"a number for a name":         `{"metadata":{"name":["hunter2"]}}`,
		"an object for an annotation": `{"metadata":{"annotations":{"hunter2":{"hunter2":"hunter2"}}}}`,
		"a string for the spec":       `{"spec":"hunter2"}`,
		"a string for a template":     `{"spec":{"template":"hunter2","jobTemplate":{"spec":"hunter2"}}}`,
		"a time":                      `{"metadata":{"creationTimestamp":"hunter2"}}`,
		"a quantity":                  inTemplate(`{"containers":[{"resources":{"limits":{"cpu":"hunter2"}}}]}`),
		"a string for a number":       inTemplate(`{"terminationGracePeriodSeconds":"hunter2"}`),
		"a huge number":               inTemplate(`{"terminationGracePeriodSeconds":99999999999999999999999999999999}`),
		"a port":                      inTemplate(`{"containers":[{"livenessProbe":{"httpGet":{"port":{"a":"hunter2"}}}}]}`),
		"a list for the object":       `["hunter2"]`,
		"nothing":                     ``,
	}
	for name, raw := range tests {
		t.Run(name, func(t *testing.T) {
			for _, k := range BuiltIn().All() {
				_, err := k.Decode([]byte(typed(k, raw)))
				if k.custom && name == "a huge number" {
					continue // the API server's schema is what keeps it out
				}
				require.Error(t, err, k.Name)
				assert.NotContains(t, err.Error(), "hunter2")
				assert.NotContains(t, err.Error(), "9999")
				assert.NotContains(t, err.Error(), "\n")
				assert.ErrorContains(t, err, "decode "+string(k.Name)+": ")
			}
		})
	}
}

// inTemplate puts a pod spec to where the kinds have one.
func inTemplate(podSpec string) string {
	template := `"template":{"spec":` + podSpec + `}`
	return `{"spec":{` + template + `,"jobTemplate":{"spec":{` + template + `}}}}`
}

// typed puts apiVersion and kind into the JSON of an object.
func typed(k Kind, raw string) string {
	rest, ok := strings.CutPrefix(raw, "{")
	if !ok {
		return raw
	}
	head := `{"apiVersion":"` + k.Resource.GroupVersion().String() + `","kind":"` + string(k.Name) + `"`
	if rest != "}" {
		head += ","
	}
	return head + rest
}

func FuzzDecode(f *testing.F) {
	for _, k := range BuiltIn().All() {
		raw, err := json.Marshal(example(f, k))
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Add([]byte("null"))
	f.Add([]byte(`{"metadata":{"creationTimestamp":5}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, k := range BuiltIn().All() {
			m, err := k.Decode(raw)
			if err != nil {
				assert.NotContains(t, err.Error(), "\n")
				continue
			}
			require.NoError(t, m.Unreadable)
			assert.Equal(t, k.Name, m.Workload().Kind)
			assert.NotNil(t, m.Template)
			taken, err := k.Excerpt(raw, func([]byte) bool { return true })
			if err == nil {
				assert.Equal(t, taken.Meta.Generation, k.Generation(taken, taken, ""))
			}
		}
	})
}

func TestParseStrategy(t *testing.T) {
	for _, s := range []Strategy{EnvVars, Annotations} {
		got, err := ParseStrategy(string(s))
		require.NoError(t, err)
		assert.Equal(t, s, got)
	}
	_, err := ParseStrategy("hope")
	assert.ErrorContains(t, err, `"hope": use env-vars or annotations`)
}

func mark(k reloader.SourceKind, name, value, container string) Mark {
	return Mark{
		Source: reloader.Source{Kind: k, Namespace: "shop", Name: name}, Value: value,
		Container: container, Env: reloader.EnvName(k, name), UsedBy: []string{container},
	}
}

func TestPatch(t *testing.T) {
	settings := mark(reloader.ConfigMap, "settings", "v1-a", "main")
	password := mark(reloader.Secret, "password", "v1-b", "main")
	proxy := mark(reloader.ConfigMap, "proxy", "v1-c", "sidecar")
	unmounted := proxy
	unmounted.UsedBy = nil
	// The mark of the other strategy goes.
	const unmarked = `"metadata":{"annotations":{"reloader.stakater.com/last-reloaded-from":null}}`
	tests := map[string]struct {
		change Change
		want   string
	}{
		"one variable": {
			change: Change{UID: "first", Strategy: EnvVars, Marks: []Mark{settings}},
			want: `{"metadata":{"uid":"first"},"spec":{"template":{` + unmarked + `,"spec":{"containers":[
				{"name":"main","env":[{"name":"STAKATER_SETTINGS_CONFIGMAP","value":"v1-a"}]}]}}}}`,
		},
		"with its record": {
			change: Change{UID: "first", Strategy: EnvVars, Marks: []Mark{settings}, Record: "{}"},
			want: `{"metadata":{"uid":"first","annotations":{"reloader.stakater.com/index":"{}"}},"spec":{"template":{` + unmarked + `,"spec":{"containers":[
				{"name":"main","env":[{"name":"STAKATER_SETTINGS_CONFIGMAP","value":"v1-a"}]}]}}}}`,
		},
		"several variables in several containers": {
			change: Change{UID: "first", Strategy: EnvVars, Marks: []Mark{password, settings, proxy}},
			want: `{"metadata":{"uid":"first"},"spec":{"template":{` + unmarked + `,"spec":{"containers":[
				{"name":"sidecar","env":[{"name":"STAKATER_PROXY_CONFIGMAP","value":"v1-c"}]},
				{"name":"main","env":[{"name":"STAKATER_SETTINGS_CONFIGMAP","value":"v1-a"},{"name":"STAKATER_PASSWORD_SECRET","value":"v1-b"}]}]}}}}`,
		},
		"one source in the annotation": {
			change: Change{UID: "first", Strategy: Annotations, Marks: []Mark{settings}},
			want: `{"metadata":{"uid":"first"},"spec":{"template":{"metadata":{"annotations":{"reloader.stakater.com/last-reloaded-from":
				"{\"type\":\"CONFIGMAP\",\"name\":\"settings\",\"namespace\":\"shop\",\"hash\":\"v1-a\",\"containerRefs\":[\"main\"]}"}}}}}`,
		},
		"several sources in the annotation, one that no container uses": {
			change: Change{UID: "first", Strategy: Annotations, Marks: []Mark{password, unmounted}, Record: "{}"},
			want: `{"metadata":{"uid":"first","annotations":{"reloader.stakater.com/index":"{}"}},"spec":{"template":{"metadata":{"annotations":{"reloader.stakater.com/last-reloaded-from":
				"{\"type\":\"CONFIGMAP\",\"name\":\"proxy\",\"namespace\":\"shop\",\"hash\":\"v1-c\",\"containerRefs\":[],\"also\":[{\"type\":\"SECRET\",\"name\":\"password\",\"namespace\":\"shop\",\"hash\":\"v1-b\",\"containerRefs\":[\"main\"]}]}"}}}}}`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.change.Keys = annotation.DefaultKeys()
			for _, k := range []Kind{deployment(), statefulSet(), daemonSet()} {
				require.False(t, k.Reads(tc.change))
				patch, err := k.Patch(tc.change, nil)
				require.NoError(t, err)
				body := patch.Body
				assert.Equal(t, types.StrategicMergePatchType, patch.Type)
				assert.JSONEq(t, tc.want, string(body))

				for _, marks := range permutations(tc.change.Marks) {
					other := tc.change
					other.Marks = marks
					again, err := k.Patch(other, nil)
					require.NoError(t, err)
					assert.Equal(t, string(body), string(again.Body))
				}

				object := example(t, k)
				once := apply(t, object, body, k.NewObject())
				assert.NotEqual(t, object, once)
				assert.Equal(t, once, apply(t, once, body, k.NewObject()), "patched twice")
				patched := k.Manifest(once)
				assert.Len(t, patched.Template.Spec.Containers, 2)
				assert.Equal(t, corev1.EnvVar{Name: "LEVEL", Value: "info"}, lastEnv(patched, "main"), "others' variables stay")
			}
		})
	}
}

// lastEnv returns the last variable of a container: those of a patch come
// before the ones that were there.
func lastEnv(m *Manifest, container string) corev1.EnvVar {
	for _, c := range m.Template.Spec.Containers {
		if c.Name == container {
			i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return !strings.HasPrefix(e.Name, "STAKATER_") })
			return c.Env[i]
		}
	}
	return corev1.EnvVar{}
}

func apply(t *testing.T, object runtime.Object, patch []byte, into runtime.Object) runtime.Object {
	t.Helper()
	before, err := json.Marshal(object)
	require.NoError(t, err)
	after, err := strategicpatch.StrategicMergePatch(before, patch, into)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(after, into))
	return into
}

func permutations(marks []Mark) [][]Mark {
	if len(marks) < 2 {
		return [][]Mark{marks}
	}
	var all [][]Mark
	for i := range marks {
		rest := slices.Delete(slices.Clone(marks), i, i+1)
		for _, p := range permutations(rest) {
			all = append(all, append([]Mark{marks[i]}, p...))
		}
	}
	return all
}

func TestAPatchThatCannotBeMade(t *testing.T) {
	tests := map[string]struct {
		change Change
		want   string
	}{
		"without marks":        {Change{Strategy: EnvVars}, "without marks"},
		"an unknown strategy":  {Change{Strategy: "hope", Marks: []Mark{{}}}, `"hope"`},
		"no strategy whatever": {Change{Marks: []Mark{{}}}, `""`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := deployment().Patch(tc.change, nil)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}
