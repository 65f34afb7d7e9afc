package kind

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	kjson "sigs.k8s.io/json"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/excerpt"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/reference"
)

// everything takes all annotations and labels.
func everything([]byte) bool { return true }

// excerptOf is what admission sees of a manifest.
func excerptOf(t testing.TB, k Kind, m *Manifest) *Manifest {
	t.Helper()
	raw, err := json.Marshal(m.object)
	require.NoError(t, err)
	taken, err := k.Excerpt(raw, everything)
	require.NoError(t, err)
	return taken
}

func TestGeneration(t *testing.T) {
	same, next := map[reloader.WorkloadKind]int64{}, map[reloader.WorkloadKind]int64{}
	for _, k := range BuiltIn().All() {
		same[k.Name], next[k.Name] = 7, 8
	}
	deploymentOnly := maps.Clone(same)
	deploymentOnly[reloader.Deployment] = 8
	tests := map[string]struct {
		change func(*Manifest)
		want   map[reloader.WorkloadKind]int64
	}{
		"an update that changes nothing":  {func(*Manifest) {}, same},
		"another label":                   {func(m *Manifest) { m.Meta.Labels = map[string]string{"a": "1"} }, same},
		"another annotation":              {func(m *Manifest) { m.Meta.Annotations = map[string]string{"a": "2"} }, deploymentOnly},
		"no annotation any more":          {func(m *Manifest) { m.Meta.Annotations = nil }, deploymentOnly},
		"another image":                   {func(m *Manifest) { m.Template.Spec.Containers[0].Image = "web:2" }, next},
		"an annotation of the template":   {func(m *Manifest) { m.Template.Annotations = map[string]string{"a": "1"} }, next},
		"an empty list instead of none":   {func(m *Manifest) { m.Template.Spec.Volumes = []corev1.Volume{} }, same},
		"a generation that was sent with": {func(m *Manifest) { m.Meta.Generation = 99 }, same},
		"the spec and an annotation": {func(m *Manifest) {
			m.Meta.Annotations = nil
			m.Template.Spec.Containers[0].Image = "web:2"
		}, next},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, k := range BuiltIn().All() {
				updated := excerptOf(t, k, changed(t, k, tc.change))
				assert.Equal(t, tc.want[k.Name], k.Generation(excerptOf(t, k, k.Manifest(example(t, k))), updated, ""), k.Name)
				assert.Equal(t, int64(1), k.Generation(nil, updated, ""), k.Name)
			}
		})
	}
	for _, k := range BuiltIn().All() {
		assert.Equal(t, k.Name == reloader.Deployment, k.CountsAnnotations(), k.Name)
	}
}

func TestGenerationComparesQuantitiesByTheirValue(t *testing.T) {
	with := func(k Kind, memory string) *Manifest {
		return excerptOf(t, k, changed(t, k, func(m *Manifest) {
			m.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
			m.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "MEMORY", Value: memory}}
			m.Template.Spec.Containers[0].Env[0].Value = ""
		}))
	}
	for _, k := range BuiltIn().All() {
		if k.custom {
			continue // The API server knows no quantities there.
		}
		assert.Equal(t, int64(7), k.Generation(with(k, "1Gi"), with(k, "1073741824"), ""), k.Name)
		assert.Equal(t, int64(8), k.Generation(with(k, "1Gi"), with(k, "1G"), ""), k.Name)
	}
}

func TestGenerationWithoutOneAnnotation(t *testing.T) {
	k, _ := BuiltIn().ByName(reloader.Deployment)
	with := func(annotations map[string]string) *Manifest {
		return excerptOf(t, k, changed(t, k, func(m *Manifest) { m.Meta.Annotations = annotations }))
	}
	const except = "reloader.stakater.com/index"
	for name, tc := range map[string]struct {
		old, updated map[string]string
		want         int64
	}{
		"it comes":                          {nil, map[string]string{except: "1"}, 7},
		"it goes":                           {map[string]string{except: "1"}, nil, 7},
		"it changes":                        {map[string]string{"a": "1", except: "1"}, map[string]string{"a": "1", except: "2"}, 7},
		"it changes, and another one":       {map[string]string{"a": "1", except: "1"}, map[string]string{"a": "2", except: "2"}, 8},
		"it comes, and another one":         {nil, map[string]string{except: "1", "z": "1"}, 8},
		"it stays, and another one goes":    {map[string]string{except: "1", "z": "1"}, map[string]string{except: "1"}, 8},
		"another one that nobody looks at":  {map[string]string{"example.com/a": "1"}, map[string]string{"example.com/a": "2"}, 8},
		"all of them stay, in another type": {map[string]string{}, nil, 7},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, k.Generation(with(tc.old), with(tc.updated), except))
		})
	}
}

// relevant is what admission takes.
func relevant(key []byte) bool { return policy.Relevant(annotation.DefaultKeys())(key) }

func TestExcerpts(t *testing.T) {
	for _, k := range BuiltIn().All() {
		t.Run(string(k.Name), func(t *testing.T) {
			m := changed(t, k, func(m *Manifest) {
				m.Meta.Annotations = map[string]string{"example.com/large": strings.Repeat("x", 1<<20), "reloader.stakater.com/auto": "true"}
				m.Meta.Labels = map[string]string{"reloader.stakater.com/auto": "true", "app": "web"}
				m.Template.Labels = map[string]string{"app": "web"}
				m.Template.Annotations = map[string]string{"reloader.stakater.com/serach": "true", "a": "b"}
			})
			raw, err := json.Marshal(m.object)
			require.NoError(t, err)
			got, err := k.Excerpt(raw, relevant)
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"reloader.stakater.com/auto": "true"}, got.Meta.Annotations)
			assert.Equal(t, map[string]string{"reloader.stakater.com/auto": "true"}, got.Meta.Labels)
			assert.Empty(t, got.Template.Labels)
			assert.Equal(t, map[string]string{"reloader.stakater.com/serach": "true"}, got.Template.Annotations)
			assert.Equal(t, m.Workload(), got.Workload())
			assert.Equal(t, m.Meta.UID, got.Meta.UID)
			assert.Equal(t, m.Meta.Generation, got.Meta.Generation)
			assert.Equal(t, reference.FirstContainer(&m.Template.Spec), reference.FirstContainer(&got.Template.Spec))
			assert.Equal(t, reference.Of(&m.Template.Spec), reference.Of(&got.Template.Spec))

			var template corev1.PodTemplateSpec
			require.NoError(t, json.Unmarshal(got.Raw.Template, &template))
			assert.Equal(t, m.Template.Spec, template.Spec, "the raw template is the whole one")
			assert.Contains(t, string(got.Raw.Annotations), "example.com/large")
		})
	}
}

// What strangers make their objects of is refused before it is decoded, and
// never with their words.
func TestExcerptsAreBounded(t *testing.T) {
	many := func(n int, element string) string { return strings.TrimSuffix(strings.Repeat(element+",", n), ",") }
	tests := map[string]struct {
		spec string
		want error // nil: what is not looked at costs nothing
	}{
		"empty containers":         {`{"containers":[` + many(500_000, `{}`) + `]}`, nil},
		"containers with names":    {`{"containers":[` + many(100_000, `{"name":"a"}`) + `]}`, excerpt.ErrTooMuch},
		"init containers":          {`{"initContainers":[` + many(100_000, `{"name":"a"}`) + `]}`, excerpt.ErrTooMuch},
		"containers in another":    {`{"ephemeralContainers":[` + many(100_000, `{"name":"a"}`) + `]}`, excerpt.ErrTooMuch},
		"variables":                {`{"containers":[{"env":[` + many(100_000, `{"name":"a","value":"b"}`) + `]}]}`, nil},
		"variables from Secrets":   {`{"containers":[{"env":[` + many(100_000, `{"valueFrom":{"secretKeyRef":{"name":"a"}}}`) + `]}]}`, excerpt.ErrTooMuch},
		"empty references":         {`{"containers":[{"env":[` + many(100_000, `{"valueFrom":{"secretKeyRef":{}}}`) + `]}]}`, nil},
		"envFrom":                  {`{"containers":[{"envFrom":[` + many(100_000, `{"secretRef":{"name":"a"}}`) + `]}]}`, excerpt.ErrTooMuch},
		"mounts":                   {`{"containers":[{"volumeMounts":[` + many(100_000, `{"name":"a"}`) + `]}]}`, excerpt.ErrTooMuch},
		"volumes":                  {`{"volumes":[` + many(100_000, `{"name":"a"}`) + `]}`, excerpt.ErrTooMuch},
		"projections":              {`{"volumes":[{"projected":{"sources":[` + many(100_000, `{"secret":{"name":"a"}}`) + `]}}]}`, excerpt.ErrTooMuch},
		"items":                    {`{"volumes":[{"secret":{"items":[` + many(100_000, `{"key":"a"}`) + `]}}]}`, excerpt.ErrTooMuch},
		"attributes of a driver":   {`{"volumes":[{"csi":{"volumeAttributes":{` + many(100_000, `"a":"b"`) + `}}}]}`, nil},
		"the same attribute often": {`{"volumes":[{"csi":{"volumeAttributes":{` + many(100_000, `"secretProviderClass":"b"`) + `}}}]}`, excerpt.ErrTooMuch},
		"pull secrets":             {`{"imagePullSecrets":[` + many(100_000, `{"name":"a"}`) + `]}`, excerpt.ErrTooMuch},
		"tolerations":              {`{"tolerations":[` + many(500_000, `{}`) + `]}`, nil},
		"terms":                    {`{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[` + many(500_000, `{}`) + `]}}}}`, nil},
		"nested arrays":            {`{"containers":[` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `]}`, excerpt.ErrShape},
		"nesting beside":           {`{"other":` + strings.Repeat(`[`, 500_000) + strings.Repeat(`]`, 500_000) + `}`, excerpt.ErrSyntax},
		"a long name":              {`{"containers":[{"name":"` + strings.Repeat("x", 5<<20) + `"}]}`, excerpt.ErrTooMuch},
		"a name twice":             {`{"containers":[],"containers":[]}`, excerpt.ErrDuplicate},
		"an object for a name":     {`{"containers":[{"name":{"hunter2":1}}]}`, excerpt.ErrShape},
		"a string for containers":  {`{"containers":"hunter2"}`, excerpt.ErrShape},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, k := range BuiltIn().All() {
				m, err := k.Excerpt([]byte(typed(k, inTemplate(tc.spec))), relevant)
				if tc.want == nil {
					require.NoError(t, err, k.Name)
					assert.Empty(t, reference.Of(&m.Template.Spec))
					continue
				}
				require.ErrorIs(t, err, tc.want, k.Name)
				require.ErrorContains(t, err, "decode "+string(k.Name)+": ")
				assert.NotContains(t, err.Error(), "hunter2")
				assert.Less(t, len(err.Error()), 200)
			}
		})
	}
	t.Run("annotations", func(t *testing.T) {
		k, _ := BuiltIn().ByName(reloader.Deployment)
		raw := `{"metadata":{"annotations":{` + many(100_000, `"reloader.stakater.com/a":"b"`) + `}}}`
		_, err := k.Excerpt([]byte(raw), relevant)
		require.ErrorIs(t, err, excerpt.ErrTooMuch)
		_, err = k.Excerpt([]byte(strings.ReplaceAll(raw, "reloader.", "example.")), relevant)
		require.NoError(t, err)
	})
}

// FuzzExcerpt holds an excerpt against all of the object: what the API server
// reads in it has the references that we find.
func FuzzExcerpt(f *testing.F) {
	for _, k := range BuiltIn().All() {
		raw, err := json.Marshal(example(f, k))
		require.NoError(f, err)
		f.Add(raw)
		f.Add([]byte(typed(k, inTemplate(`{"containers":[{"name":"a","env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s","key":"k","optional":true}}}],`+
			`"envFrom":[{"configMapRef":{"name":"c"}}],"volumeMounts":[{"name":"v"},{"name":"w"}]},null],"initContainers":[{"name":"i","volumeMounts":[{"name":"v"}]}],`+
			`"volumes":[{"name":"v","projected":{"sources":[{"secret":{"name":"p","items":[{"key":"k","path":"x"}]}},{"configMap":{"name":"q"}}]}},`+
			`{"name":"w","csi":{"driver":"secrets-store.csi.k8s.io","volumeAttributes":{"secretProviderClass":"spc","a":"b"},"nodePublishSecretRef":{"name":"n"}}},`+
			`{"name":"x","iscsi":{"secretRef":{"name":"i"}}},{"azureFile":{"secretName":"z"}}],"imagePullSecrets":[{"name":"pull"},{}]}`))))
	}
	f.Add([]byte(`{"spec":{"template":{"spec":{"containers":[{"name":"a","volumeMounts":[{}]}],"volumes":[{"azureFile":{"secretName":"s"}}]}}}}`))
	f.Add([]byte(`{"metadata":null,"spec":{"template":{"spec":{"containers":[null,{},{"\u006eame":"a"}]}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, k := range BuiltIn().All() {
			taken, err := k.Excerpt(raw, relevant)
			if err != nil {
				assert.Less(t, len(err.Error()), 300)
				continue
			}
			assert.Equal(t, taken.Meta.Generation, k.Generation(taken, taken, ""))
			if k.custom {
				continue // They are decoded twice, and not strictly.
			}
			object := k.NewObject()
			strict, err := kjson.UnmarshalStrict(raw, object, kjson.DisallowDuplicateFields)
			if err != nil || len(strict) > 0 {
				continue
			}
			whole := k.Manifest(object)
			assert.Equal(t, reference.Of(&whole.Template.Spec), reference.Of(&taken.Template.Spec))
			for key, value := range whole.Meta.Annotations {
				if relevant([]byte(key)) {
					assert.Equal(t, value, taken.Meta.Annotations[key])
				}
			}
			assert.LessOrEqual(t, len(taken.Meta.Annotations), len(whole.Meta.Annotations))
			assert.Equal(t, whole.Meta.Annotations == nil, taken.Meta.Annotations == nil)
		}
	})
}
