package kind

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/fingerprint"
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

func changeOf(marks ...Mark) Change {
	return Change{UID: "first", Strategy: EnvVars, Marks: marks, Keys: annotation.DefaultKeys()}
}

func settingsMark(value string) Mark { return mark(reloader.ConfigMap, "settings", value, "main") }

func TestWhatACronJobStarts(t *testing.T) {
	tests := map[string]struct {
		with func(*batchv1.CronJob)
		want bool
	}{
		"one Job":                                  {with: func(*batchv1.CronJob) {}, want: true},
		"nothing while it is suspended":            {with: func(o *batchv1.CronJob) { o.Spec.Suspend = new(true) }},
		"nothing while it is being deleted":        {with: func(o *batchv1.CronJob) { o.DeletionTimestamp = new(metav1.Now()) }},
		"nothing if it says that this was started": {with: func(o *batchv1.CronJob) { o.Annotations = rememberedBy(t, changeOf(settingsMark("v1-a"))) }},
		"one Job if it says that another was":      {with: func(o *batchv1.CronJob) { o.Annotations = rememberedBy(t, changeOf(settingsMark("v1-b"))) }, want: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := example(t, cronJob()).(*batchv1.CronJob)
			o.Spec.ConcurrencyPolicy = batchv1.ForbidConcurrent
			tc.with(o)
			before := o.DeepCopy()
			run, err := RunOf(cronJob().Manifest(o), changeOf(settingsMark("v1-a")))
			require.NoError(t, err)
			assert.Equal(t, before, o)
			assert.Equal(t, batchv1.ForbidConcurrent, run.Concurrency)
			require.Equal(t, tc.want, run.Job != nil)
			if !tc.want {
				return
			}
			assert.Equal(t, "manual", run.Job.Annotations["cronjob.kubernetes.io/instantiate"])
			assert.Equal(t, []metav1.OwnerReference{{
				APIVersion: "batch/v1", Kind: "CronJob", Name: "web", UID: "first", Controller: new(true),
			}}, run.Job.OwnerReferences)
			assert.Contains(t, run.Job.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "STAKATER_SETTINGS_CONFIGMAP", Value: "v1-a"})
			assert.Equal(t, "first", RunsFor(job().Manifest(run.Job)))
		})
	}
	_, err := RunOf(deployment().Manifest(example(t, deployment())), changeOf(settingsMark("v1-a")))
	require.Error(t, err)
}

func TestSinceWhenACronJobRuns(t *testing.T) {
	due := metav1.NewTime(time.Date(2026, time.May, 1, 3, 0, 0, 0, time.UTC))
	active := []corev1.ObjectReference{{Kind: "Job", Name: "nightly-1"}}
	tests := map[string]struct {
		status batchv1.CronJobStatus
		want   time.Time
	}{
		"it never has":                    {},
		"the last one has ended":          {status: batchv1.CronJobStatus{LastScheduleTime: &due}},
		"the last one runs":               {status: batchv1.CronJobStatus{LastScheduleTime: &due, Active: active}, want: due.Time},
		"one runs that somebody has made": {status: batchv1.CronJobStatus{Active: active}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := example(t, cronJob()).(*batchv1.CronJob)
			o.Status = tc.status
			run, err := RunOf(cronJob().Manifest(o), changeOf(settingsMark("v1-a")))
			require.NoError(t, err)
			assert.Equal(t, tc.want, run.Since)
		})
	}
}

func rememberedBy(t *testing.T, c Change) map[string]string {
	t.Helper()
	patch, err := c.Remembers(&Manifest{Meta: new(metav1.ObjectMeta)})
	require.NoError(t, err)
	var o metav1.PartialObjectMetadata
	require.NoError(t, json.Unmarshal(patch.Body, &o))
	return o.Annotations
}

func TestTheNameOfARun(t *testing.T) {
	name := func(cronJobName string, uid types.UID, marks ...Mark) string {
		o := example(t, cronJob()).(*batchv1.CronJob)
		o.Name, o.UID = cronJobName, uid
		run, err := RunOf(cronJob().Manifest(o), changeOf(marks...))
		require.NoError(t, err)
		return run.Job.Name
	}
	a, b := settingsMark("v1-a"), mark(reloader.Secret, "password", "v1-b", "main")
	later := a
	later.Written = time.Unix(1000, 0)
	base := name("nightly", "first", a)
	assert.Equal(t, base, name("nightly", "first", a))
	assert.Equal(t, name("nightly", "first", a, b), name("nightly", "first", b, a))
	for what, other := range map[string]string{
		"another CronJob":                   name("nightly", "second", a),
		"another content":                   name("nightly", "first", settingsMark("v1-c")),
		"another source":                    name("nightly", "first", b),
		"one more source":                   name("nightly", "first", a, b),
		"the same content at another time":  name("nightly", "first", later),
		"another name, cut where they meet": name("nightly."+strings.Repeat("a", 80), "first", a),
	} {
		assert.NotEqual(t, base, other, what)
	}
	for _, long := range []string{strings.Repeat("a", 63), strings.Repeat("a", 51) + ".bc", strings.Repeat("a", 51) + "-.bc"} {
		got := name(long, "first", a)
		assert.LessOrEqual(t, len(got), 63)
		assert.NotContains(t, got, ".-")
		assert.NotContains(t, got, "--")
	}
}

// standing is a Job as the API server shows one that runs.
func standing() *batchv1.Job {
	labels := map[string]string{"app": "web"}
	for _, l := range generatedLabels() {
		labels[l] = "first"
	}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web", UID: "first", ResourceVersion: "7", Generation: 1, Finalizers: []string{"example.com/wait"},
			Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"note": "b", annotation.DefaultKeys().Index: "old"},
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "batch/v1", Kind: "CronJob", Name: "nightly", UID: "owner", Controller: new(true), BlockOwnerDeletion: new(true)},
				{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "other"},
			},
		},
		Spec: batchv1.JobSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{batchv1.ControllerUidLabel: "first"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}},
			},
		},
		Status: batchv1.JobStatus{Active: 1},
	}
}

func TestWhatReplacesAJob(t *testing.T) {
	for name, with := range standingJobs() {
		t.Run(name, func(t *testing.T) {
			old := standing()
			with(old)
			before := old.DeepCopy()
			m := job().Manifest(old)
			c := changeOf(settingsMark("v1-a"))
			c.Record = "new"
			replacement, err := Replacement(m, c)
			require.NoError(t, err)
			assert.Equal(t, before, old)
			assert.Equal(t, "new", replacement.Annotations[annotation.DefaultKeys().Index])
			assert.Empty(t, replacement.UID)
			assert.Empty(t, replacement.ResourceVersion)
			assert.Empty(t, replacement.Finalizers)
			assert.Empty(t, replacement.ManagedFields)
			assert.Empty(t, replacement.Status)
			for _, owner := range replacement.OwnerReferences {
				assert.Nil(t, owner.BlockOwnerDeletion)
			}
			assert.Equal(t, m.Template.Labels, job().Manifest(replacement).Template.Labels)
			again, err := Replacement(job().Manifest(replacement), c)
			require.NoError(t, err)
			assert.Nil(t, again, "it has the marks")
		})
	}
}

// standingJobs are changes of standing.
func standingJobs() map[string]func(*batchv1.Job) {
	return map[string]func(*batchv1.Job){
		"with a selector that was generated": func(*batchv1.Job) {},
		"with a selector of its own": func(o *batchv1.Job) {
			o.Spec.ManualSelector = new(true)
			o.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
			o.Spec.Template.Labels = map[string]string{"app": "web"}
		},
		"without owners":                   func(o *batchv1.Job) { o.OwnerReferences = nil },
		"without labels and annotations":   func(o *batchv1.Job) { o.Labels, o.Annotations, o.Spec.Template.Labels = nil, nil, nil },
		"that says that it shall not wait": func(o *batchv1.Job) { o.Spec.Suspend = new(false) },
		"with letters that JSON escapes": func(o *batchv1.Job) {
			o.Spec.Template.Spec.Containers[0].Args = []string{`<a & "b">`, "\u2028\n\\", "ü"}
		},
		"so large that it is compressed": func(o *batchv1.Job) {
			o.Spec.Template.Spec.Containers[0].Args = []string{strings.Repeat("<", 1<<20), "&"}
		},
	}
}

func TestJobsThatNothingReplaces(t *testing.T) {
	tests := map[string]func(*batchv1.Job){
		"one that is being deleted": func(o *batchv1.Job) { o.DeletionTimestamp = new(metav1.Now()) },
		"one that is suspended":     func(o *batchv1.Job) { o.Spec.Suspend = new(true) },
		"one that has the marks": func(o *batchv1.Job) {
			o.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "STAKATER_SETTINGS_CONFIGMAP", Value: "v1-a"}}
		},
	}
	for name, with := range tests {
		t.Run(name, func(t *testing.T) {
			o := standing()
			with(o)
			replacement, err := Replacement(job().Manifest(o), changeOf(settingsMark("v1-a")))
			require.NoError(t, err)
			assert.Nil(t, replacement)
		})
	}
	_, err := Replacement(deployment().Manifest(example(t, deployment())), changeOf(settingsMark("v1-a")))
	require.Error(t, err)
}

func TestFinished(t *testing.T) {
	o := standing()
	assert.False(t, Finished(job().Manifest(o)))
	o.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionFalse}, {Type: batchv1.JobSuspended, Status: corev1.ConditionTrue}}
	assert.False(t, Finished(job().Manifest(o)))
	assert.Equal(t, "owner", RunsFor(job().Manifest(o)))
	o.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}
	assert.True(t, Finished(job().Manifest(o)))
	assert.Empty(t, RunsFor(job().Manifest(o)))
}

// What the metadata remember is bounded, says so when asked for the same, and
// never stops doing so because of what stood there.
func FuzzRemember(f *testing.F) {
	f.Add("", "settings", "v1-a")
	f.Add(`{"type":"CONFIGMAP","name":"settings","namespace":"shop","hash":"v1-a","containerRefs":[]}`, "settings", "v1-b")
	f.Add(`{"also":[{"name":"a"},{"name":"a"}]}`, "a", "")
	f.Add("null", "a", "b")
	f.Add(`[]`, "a", "b")
	f.Add(`{"also":3}`, "a", "b")
	f.Add(`{"type":"CONFIGMAP","name":"a","namespace":"n","hash":"h","containerRefs":["a","A"],"also":[{"name":"b","also":[{"name":"c"}]}]}`, "a", "b")
	f.Add(`{"type":"SECRET","name":"\u003c","namespace":"n","hash":"h","more":-1,"digest":"v2-"}`, "a", "b")
	f.Fuzz(func(t *testing.T, text, name, value string) {
		if len(content.IsDNS1123Subdomain(name)) > 0 || !(reloadedFrom{Type: "SECRET", Name: "a", Namespace: "a", Hash: value}).sound() {
			return
		}
		c := changeOf(mark(reloader.ConfigMap, name, value, "main"))
		once, _, err := c.remember(text)
		require.NoError(t, err)
		twice, done, err := c.remember(once)
		require.NoError(t, err)
		assert.True(t, done)
		assert.Equal(t, once, twice)
		var from reloadedFrom
		require.NoError(t, json.Unmarshal([]byte(once), &from))
		assert.Less(t, len(from.Also), maxRemembered)
		assert.LessOrEqual(t, len(once), min(2*len(text), maxText)+1024)
		for _, f := range append(from.Also, from) {
			assert.True(t, f.sound(), once)
		}
	})
}

// TestTheNameInVersion1 fails when what version 1 has written is worked out in
// another way. The answers are those of version 1 itself.
func TestTheNameInVersion1(t *testing.T) {
	of := func(cronJobName string, marks ...Mark) string {
		o := example(t, cronJob()).(*batchv1.CronJob)
		o.Name = cronJobName
		o.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Env = append(o.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Env,
			corev1.EnvVar{Name: "STAKATER_OLD_SECRET", Value: "any"})
		return NameInVersion1(cronJob().Manifest(o), changeOf(marks...))
	}
	settings, password := settingsMark("v2-a"), mark(reloader.Secret, "password", "v2-b", "main")
	settings.Content, password.Content = "v1-50e5a724f9878f4118563b416a85b50f", fingerprint.Deleted
	settings.Written = time.Date(2026, 5, 1, 3, 0, 0, 500, time.UTC)
	assert.Equal(t, "nightly-dabfa5e4ce", of("nightly", settings))
	assert.Equal(t, "nightly-b919537dbe", of("nightly", password, settings))
	assert.Equal(t, strings.Repeat("a", 51)+"-676c423176", of(strings.Repeat("a", 51)+"-.bc", password))
}
