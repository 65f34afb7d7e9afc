package kind

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/pattern"
)

const (
	goodNote   = `{"name":"migration","uid":"u","sources":[{"kind":"ConfigMap","name":"settings"}]}`
	forgedNote = `{"name":"ghost","uid":"u","ending":true,"gone":"2020-01-01T00:00:00.000000Z","sources":[{"kind":"Nonsense","name":"x"}]}`
)

func TestANoteIsWhatWeWriteOrNothing(t *testing.T) {
	tests := map[string]struct {
		text string
		want bool
	}{
		"of ours":                   {text: goodNote, want: true},
		"nothing":                   {text: ""},
		"no JSON":                   {text: "{"},
		"another shape":             {text: `[1,2]`},
		"null":                      {text: `null`},
		"an unknown kind":           {text: forgedNote},
		"a kind in other letters":   {text: strings.Replace(goodNote, "ConfigMap", "configmap", 1)},
		"no kind":                   {text: strings.Replace(goodNote, "ConfigMap", "", 1)},
		"a kind that is a workload": {text: strings.Replace(goodNote, "ConfigMap", "Job", 1)},
		"a kind that is a number":   {text: strings.Replace(goodNote, `"ConfigMap"`, "1", 1)},
		"one good and one bad kind": {text: strings.Replace(goodNote, `[`, `[{"kind":"Secret","name":"a"},{"kind":"","name":"a"},`, 1)},
		"no source":                 {text: `{"name":"migration","uid":"u","sources":[]}`},
		"no name":                   {text: strings.Replace(goodNote, "migration", "", 1)},
		"no UID":                    {text: strings.Replace(goodNote, `"uid":"u"`, `"uid":""`, 1)},
		"a path for a name":         {text: strings.Replace(goodNote, "migration", "../pods/a", 1)},
		"dots for a name":           {text: strings.Replace(goodNote, "migration", "..", 1)},
		"a path for a source":       {text: strings.Replace(goodNote, "settings", "a/b", 1)},
		"lines in a source's name":  {text: strings.Replace(goodNote, "settings", `a\nFAKE LINE <!channel>`, 1)},
		"more than we write":        {text: strings.Replace(goodNote, "settings", strings.Repeat("a", maxNote), 1)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{jobCarrierAnnotation: tc.text}}}
			o.Spec.Suspend = new(true)
			assert.True(t, IsJobCarrier(o))
			_, err := JobCarrierOf(job().Manifest(o))
			assert.Equal(t, tc.want, err == nil)
			o.Spec.Suspend = nil
			_, err = JobCarrierOf(job().Manifest(o))
			require.Error(t, err, "it has been started")
		})
	}
}

func FuzzNote(f *testing.F) {
	for _, text := range []string{goodNote, forgedNote, "", "{}", `{"name":"..","uid":"u","sources":[{"kind":"Secret","name":"a"}]}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, ok := parseNote(text)
		if !ok {
			return
		}
		for _, s := range (JobCarrier{object: new(batchv1.Job), note: n}).Sources() {
			require.Contains(t, reloader.SourceKinds(), s.Kind)
			require.True(t, pattern.ValidName(s.Name))
		}
		again, err := json.Marshal(n)
		require.NoError(t, err)
		same, ok := parseNote(string(again))
		require.True(t, ok || len(again) > maxNote, "what was read can be written")
		if ok {
			require.Equal(t, n, same)
		}
	})
}

// asBefore is the Job carrier that the version before made of the replacement of
// old, as the API server shows it.
func asBefore(t *testing.T, old *batchv1.Job, c Change) *batchv1.Job {
	t.Helper()
	replacement, err := Replacement(job().Manifest(old), c)
	require.NoError(t, err)
	require.NotNil(t, replacement)
	o := anew(replacement, old.Name+"-0123456789")
	o.UID = "carrier"
	for i := range o.OwnerReferences {
		o.OwnerReferences[i].Controller = nil
	}
	o.Spec.Suspend = new(true)
	if !ptr.Deref(o.Spec.ManualSelector, false) {
		o.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{batchv1.ControllerUidLabel: "carrier"}}
		if o.Spec.Template.Labels == nil {
			o.Spec.Template.Labels = map[string]string{}
		}
		for _, l := range generatedLabels() {
			o.Spec.Template.Labels[l] = "carrier"
		}
	}
	o.Annotations[jobCarrierAnnotation] = fmt.Sprintf(`{"name":%q,"uid":%q,"suspend":false,"controller":"owner","sources":[{"kind":"ConfigMap","name":"settings"}]}`, old.Name, old.UID)
	return o
}

const longMark = "v1-0123456789abcdef0123456789abcdef-01234567"

func TestAJobCarrierOfTheVersionBeforeGivesWhatItHolds(t *testing.T) {
	for name, with := range standingJobs() {
		for _, strategy := range []Strategy{EnvVars, Annotations} {
			t.Run(name+", by "+string(strategy), func(t *testing.T) {
				old := standing()
				with(old)
				// What the owner had of marks before, and of annotations.
				old.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "STAKATER_SETTINGS_CONFIGMAP", Value: "0123"}, {Name: "A", Value: "b"}}
				old.Spec.Template.Annotations = map[string]string{annotation.DefaultKeys().LastReloadedFrom: "{}"}
				before := old.DeepCopy()
				c := changeOf(settingsMark(longMark))
				c.Strategy, c.Record = strategy, "new"
				want, err := Replacement(job().Manifest(old), c)
				require.NoError(t, err)

				carrier, err := JobCarrierOf(job().Manifest(asBefore(t, old, c)))
				require.NoError(t, err)
				assert.Equal(t, []reloader.Source{settingsMark("").Source}, carrier.Sources())
				assert.Equal(t, job().Manifest(old).Workload(), carrier.Workload())
				assert.False(t, carrier.Ending())
				got, err := carrier.Replacement(job().Manifest(old), Change{Keys: c.Keys, Record: c.Record})
				require.NoError(t, err)
				assert.True(t, apiequality.Semantic.DeepEqual(want, got))
				assert.Equal(t, before, old)
			})
		}
	}
}

// Whoever may create Jobs can write a carrier's annotation. What comes of it is a
// Job that its owner has, with marks that tell nothing, or nothing.
func TestForgedJobCarriersGiveNothing(t *testing.T) {
	container := func(o *batchv1.Job) *corev1.Container { return &o.Spec.Template.Spec.Containers[0] }
	tests := map[string]func(*batchv1.Job){
		"another image":           func(o *batchv1.Job) { container(o).Image = "registry.example/attacker:666" },
		"another command":         func(o *batchv1.Job) { container(o).Command = []string{"sh"} },
		"another service account": func(o *batchv1.Job) { o.Spec.Template.Spec.ServiceAccountName = "admin" },
		"one more container": func(o *batchv1.Job) {
			o.Spec.Template.Spec.Containers = append(o.Spec.Template.Spec.Containers, *container(o))
		},
		"no container":      func(o *batchv1.Job) { o.Spec.Template.Spec.Containers = nil },
		"an init container": func(o *batchv1.Job) { o.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "init"}} },
		"a volume":          func(o *batchv1.Job) { o.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "a"}} },
		"a variable": func(o *batchv1.Job) {
			container(o).Env = append(container(o).Env, corev1.EnvVar{Name: "LD_PRELOAD", Value: longMark})
		},
		"a mark that is none": func(o *batchv1.Job) {
			container(o).Env = append(container(o).Env, corev1.EnvVar{Name: "STAKATER_X_SECRET", Value: "hunter2"})
		},
		"a mark that is a reference": func(o *batchv1.Job) {
			container(o).Env = append(container(o).Env, corev1.EnvVar{Name: "STAKATER_X_SECRET", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}})
		},
		"a name that is no mark's": func(o *batchv1.Job) {
			container(o).Env = append(container(o).Env, corev1.EnvVar{Name: "STAKATER_a=b_SECRET", Value: longMark})
		},
		"labels of pods": func(o *batchv1.Job) { o.Spec.Template.Labels["app"] = "other" },
		"annotations of pods": func(o *batchv1.Job) {
			o.Spec.Template.Annotations = map[string]string{"sidecar.example/inject": "true"}
		},
		"a memory that is none": func(o *batchv1.Job) {
			o.Spec.Template.Annotations = map[string]string{annotation.DefaultKeys().LastReloadedFrom: "<!channel>"}
		},
		"a memory of something else": func(o *batchv1.Job) {
			o.Spec.Template.Annotations = map[string]string{annotation.DefaultKeys().LastReloadedFrom: `{"hash":"hunter2"}`}
		},
		"more completions": func(o *batchv1.Job) { o.Spec.Completions = new(int32(1000)) },
		"no deadline":      func(o *batchv1.Job) { o.Spec.ActiveDeadlineSeconds = new(int64(1)) },
		"another UID": func(o *batchv1.Job) {
			o.Annotations[jobCarrierAnnotation] = strings.Replace(o.Annotations[jobCarrierAnnotation], `"first"`, `"second"`, 1)
		},
		"another namespace's": func(o *batchv1.Job) { o.Namespace = "evil" },
	}
	for name, forge := range tests {
		t.Run(name, func(t *testing.T) {
			old, c := standing(), changeOf(settingsMark(longMark))
			forged := asBefore(t, old, c)
			forge(forged)
			carrier, err := JobCarrierOf(job().Manifest(forged))
			require.NoError(t, err)
			_, err = carrier.Replacement(job().Manifest(old), Change{Keys: c.Keys})
			require.Error(t, err)
		})
	}
	t.Run("labels, annotations and owners are those of the old Job", func(t *testing.T) {
		old, c := standing(), changeOf(settingsMark(longMark))
		forged := asBefore(t, old, c)
		forged.Labels = map[string]string{"queue": "theirs"}
		forged.Annotations["policy.example/exempt"] = "true"
		forged.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "CronJob", Name: "theirs", UID: "theirs"}}
		carrier, err := JobCarrierOf(job().Manifest(forged))
		require.NoError(t, err)
		got, err := carrier.Replacement(job().Manifest(old), Change{Keys: c.Keys})
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"team": "a"}, got.Labels)
		assert.Equal(t, map[string]string{"note": "b"}, got.Annotations)
		assert.Equal(t, types.UID("owner"), got.OwnerReferences[0].UID)
	})
}

func TestWhatIsNoJobCarrier(t *testing.T) {
	assert.False(t, IsJobCarrier(standing()))
	_, err := JobCarrierOf(deployment().Manifest(example(t, deployment())))
	require.Error(t, err)
}

// Whatever a Job says of itself, what comes of it is a Job of its namespace, of the
// name and the owners of the one that is replaced, with its containers.
func FuzzJobCarrier(f *testing.F) {
	f.Add(goodNote, `{"spec":{"suspend":true,"template":{"spec":{"containers":[{"name":"main","env":[{"name":"STAKATER_SETTINGS_CONFIGMAP","value":"`+longMark+`"}]}]}}}}`)
	f.Add(strings.Replace(goodNote, "migration", "web", 1), `{"metadata":{"ownerReferences":[{"uid":"c"}]},"spec":{"suspend":true}}`)
	f.Fuzz(func(t *testing.T, note, text string) {
		o := new(batchv1.Job)
		if json.Unmarshal([]byte(text), o) != nil {
			return
		}
		o.Namespace = "shop"
		metav1.SetMetaDataAnnotation(&o.ObjectMeta, jobCarrierAnnotation, note)
		c, err := JobCarrierOf(job().Manifest(o))
		if err != nil {
			return
		}
		old := standing()
		got, err := c.Replacement(job().Manifest(old), Change{Keys: annotation.DefaultKeys()})
		if err != nil {
			return
		}
		require.Equal(t, old.Name, got.Name)
		require.Equal(t, old.Namespace, got.Namespace)
		require.Equal(t, old.Labels, got.Labels)
		require.Len(t, got.OwnerReferences, len(old.OwnerReferences))
		for _, v := range got.Spec.Template.Spec.Containers[0].Env {
			require.Regexp(t, markForm, v.Value)
		}
		got.Spec.Template.Spec.Containers[0].Env = nil
		want := anew(old, old.Name)
		delete(got.Spec.Template.Annotations, annotation.DefaultKeys().LastReloadedFrom)
		require.True(t, apiequality.Semantic.DeepEqual(want.Spec, got.Spec))
	})
}
