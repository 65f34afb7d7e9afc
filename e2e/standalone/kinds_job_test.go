package standalone

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
)

func migration(ns string, spec map[string]any) workload {
	return workload{kind: reloader.Job, ns: ns, name: "migrate", annotations: auto(), pod: using("settings"), replicas: 1, spec: spec}
}

// replaced waits until another Job has taken the place of the old one, with
// nothing left of how that was done.
func replaced(t *testing.T, w workload, old types.UID) *unstructured.Unstructured {
	t.Helper()
	var now *unstructured.Unstructured
	require.Eventually(t, func() bool {
		all := listed(t, reloader.Job, w.ns)
		if len(all) != 1 || all[0].GetName() != w.name || all[0].GetUID() == old {
			return false
		}
		now = &all[0]
		return true
	}, soon, often)
	return now
}

func TestAJobIsReplacedByItsLike(t *testing.T) {
	tests := map[string]struct {
		strategy kind.Strategy
		spec     map[string]any
	}{
		"by variables":                    {strategy: kind.EnvVars},
		"by annotation":                   {strategy: kind.Annotations},
		"with a selector of its own":      {strategy: kind.EnvVars, spec: map[string]any{"manualSelector": true, "selector": map[string]any{"matchLabels": map[string]any{"app": "migrate"}}}},
		"with everything that can be set": {strategy: kind.EnvVars, spec: map[string]any{"completions": int64(3), "completionMode": "Indexed", "backoffLimit": int64(2), "activeDeadlineSeconds": int64(3600), "ttlSecondsAfterFinished": int64(60)}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, fmt.Sprintf("job-%d", time.Now().UnixNano()))
			edit(t, ns, "settings", "1")
			w := migration(ns, tc.spec)
			old := w.create(t)
			_, r := startEngine(t, within(ns), func(o *engine.Options) { o.Strategy = tc.strategy })

			requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
			now := replaced(t, w, old.GetUID())
			template := templateOf(t, now)
			if tc.strategy == kind.EnvVars {
				assert.NotEmpty(t, variable(template, "app", "STAKATER_SETTINGS_CONFIGMAP"))
			} else {
				assert.Contains(t, template.Annotations[keys().LastReloadedFrom], `"name":"settings"`)
			}
			if tc.spec["manualSelector"] != true {
				assert.Equal(t, string(now.GetUID()), template.Labels["batch.kubernetes.io/controller-uid"])
			}
			assert.Equal(t, bare(t, old), bare(t, now))

			require.Eventually(t, func() bool {
				pods, err := shared.Client().CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
				require.NoError(t, err)
				for _, p := range pods.Items {
					if !metav1.IsControlledBy(&p, now) {
						return false
					}
				}
				return len(pods.Items) == 1
			}, time.Minute, often, "the pods of the old one end, its own start")

			requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "3") })
			again := replaced(t, w, now.GetUID())
			assert.Equal(t, bare(t, old), bare(t, again))
		})
	}
}

// bare is the spec of a Job without what the API server and reloads put there.
func bare(t *testing.T, o *unstructured.Unstructured) map[string]any {
	t.Helper()
	spec, _, err := unstructured.NestedMap(o.Object, "spec")
	require.NoError(t, err)
	unstructured.RemoveNestedField(spec, "selector")
	unstructured.RemoveNestedField(spec, "template", "metadata")
	containers, _, err := unstructured.NestedSlice(spec, "template", "spec", "containers")
	require.NoError(t, err)
	delete(containers[0].(map[string]any), "env")
	require.NoError(t, unstructured.SetNestedSlice(spec, containers, "template", "spec", "containers"))
	return spec
}

func TestJobsThatAreLeftAlone(t *testing.T) {
	tests := map[string]struct {
		spec    map[string]any
		prepare func(t *testing.T, w workload)
	}{
		"one that has ended": {prepare: func(t *testing.T, w workload) {
			t.Helper()
			end(t, w.ns, w.name)
		}},
		"one that is suspended": {spec: map[string]any{"suspend": true}},
		"one that is being deleted": {prepare: func(t *testing.T, w workload) {
			t.Helper()
			w.patch(t, `{"metadata":{"finalizers":["example.com/wait"]}}`)
			w.delete(t)
			t.Cleanup(func() { release(t, w) })
		}},
		"one whose CronJob is being deleted": {prepare: func(t *testing.T, w workload) {
			t.Helper()
			owner := workload{kind: reloader.CronJob, ns: w.ns, name: "owner", pod: using()}
			o := owner.create(t)
			owner.patch(t, `{"metadata":{"finalizers":["example.com/wait"]}}`)
			w.patch(t, fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"batch/v1","kind":"CronJob","name":"owner","uid":%q,"controller":true}]}}`, o.GetUID()))
			owner.delete(t)
			t.Cleanup(func() { release(t, owner) })
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, fmt.Sprintf("job-alone-%d", time.Now().UnixNano()))
			edit(t, ns, "settings", "1")
			w := migration(ns, tc.spec)
			w.replicas = 0
			old := w.create(t)
			if tc.prepare != nil {
				tc.prepare(t, w)
			}
			other := workload{kind: reloader.Deployment, ns: ns, name: "web", annotations: auto(), pod: using("settings")}
			other.create(t)
			_, r := startEngine(t, within(ns))
			requireReload(t, r, other.key(), func() { edit(t, ns, "settings", "2") })
			never(t, func() bool { return len(listed(t, reloader.Job, ns)) != 1 })
			assert.Equal(t, old.GetUID(), w.read(t).GetUID())
			assert.Zero(t, r.count(w.key()))
		})
	}
}

// release takes the finalizers off an object, so that it goes.
func release(t *testing.T, w workload) {
	t.Helper()
	_, err := shared.Kubectl(t.Context(), "patch", string(w.kind), w.name, "-n", w.ns, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	if t.Context().Err() == nil {
		require.NoError(t, err)
	}
}

func TestAJobThatHasEndedRunsAgainIfAskedTo(t *testing.T) {
	ns := namespace(t, "job-again")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	w.replicas = 0
	old := w.create(t)
	end(t, ns, w.name)
	_, r := startEngine(t, func(o *engine.Options) { o.RerunFinishedJobs = true })
	requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
	replaced(t, w, old.GetUID())
}

// Whatever a process that dies has done of a replacement, the next one brings
// it to its end, and makes no second of it.
func TestAJobIsNeverLostWhateverDies(t *testing.T) {
	steps := []string{"the trial", "the carrier", "the announcement", "the end of the old one", "the word of its end", "the new one", "the end of the carrier"}
	for writes, step := range steps {
		for _, arrives := range []bool{false, true} {
			t.Run(fmt.Sprintf("at %s, which arrives: %v", step, arrives), func(t *testing.T) {
				t.Parallel()
				ns := namespace(t, fmt.Sprintf("job-dies-%d-%v", writes, arrives))
				edit(t, ns, "settings", "1")
				w := migration(ns, nil)
				old := w.create(t)
				life := newLife(t, ns)
				first := life.start(t, &faulty{writes: writes, arrives: arrives, on: exchangeWrites})
				edit(t, ns, "settings", "2")
				first.dies(t)

				life.start(t, nil)
				now := replaced(t, w, old.GetUID())
				assert.NotEmpty(t, variable(templateOf(t, now), "app", "STAKATER_SETTINGS_CONFIGMAP"))
				never(t, func() bool {
					all := listed(t, reloader.Job, ns)
					return len(all) != 1 || all[0].GetUID() != now.GetUID()
				}, "it is not replaced twice")
				assert.Empty(t, carriers(t, ns))
			})
		}
	}
}

// exchangeWrites are the resources that the exchange of a Job writes to.
const exchangeWrites = "/jobs /controllerrevisions"

// carriers are what holds Jobs that are to take the place of others.
func carriers(t *testing.T, ns string) []unstructured.Unstructured {
	t.Helper()
	list, err := resources(t, kind.CarrierResource(), ns).List(t.Context(), metav1.ListOptions{LabelSelector: kind.CarrierSelector()})
	require.NoError(t, err)
	return list.Items
}

// policyAgainst has the API server deny the creation of Jobs in a namespace.
func policyAgainst(t *testing.T, ns, condition string) (lift func()) {
	t.Helper()
	manifest := fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}
    resourceRules: [{apiGroups: [batch], apiVersions: [v1], operations: [CREATE], resources: [jobs]}]
  validations: [{expression: %[2]q, message: "not here"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec: {policyName: %[1]s, validationActions: [Deny]}
`, ns, condition)
	_, err := shared.KubectlInput(t.Context(), manifest, "apply", "-f", "-")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := shared.Kubectl(t.Context(), "create", "job", "migrate-probe", "-n", ns, "--image=a", "--dry-run=server")
		return err != nil
	}, 30*time.Second, often, "the policy is in force")
	lift = func() {
		_, err := shared.Kubectl(t.Context(), "delete", "validatingadmissionpolicybinding", ns, "--ignore-not-found")
		require.NoError(t, err)
	}
	return lift
}

func TestAJobThatMayNotBeCreatedIsLeftAlone(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-denied")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	old := w.create(t)
	web := workload{kind: reloader.Deployment, ns: ns, name: "web", annotations: auto(), pod: using("settings")}
	web.create(t)
	policyAgainst(t, ns, "false")
	_, r := startEngine(t, within(ns))

	requireReload(t, r, web.key(), func() { edit(t, ns, "settings", "2") })
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.failed > 0
	}, soon, often, "it is told")
	never(t, func() bool { return len(listed(t, reloader.Job, ns)) != 1 })
	assert.Equal(t, old.GetUID(), w.read(t).GetUID())
	requireReload(t, r, web.key(), func() { edit(t, ns, "settings", "3") })
}

// A denial that comes between the end of the old Job and the new one: the
// carrier keeps it until somebody lifts the denial.
func TestAJobThatIsDeniedInBetweenIsThereInTheEnd(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-denied-late")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	old := w.create(t)
	w.patch(t, `{"metadata":{"finalizers":["example.com/wait"]}}`)
	life := newLife(t, ns)
	first := life.start(t, nil)
	edit(t, ns, "settings", "2")
	require.Eventually(t, func() bool { return w.read(t).GetDeletionTimestamp() != nil }, soon, often)
	lift := policyAgainst(t, ns, "false")
	release(t, w)
	require.Eventually(t, func() bool { return first.failures() > 0 }, soon, often, "it is told")
	assert.Empty(t, listed(t, reloader.Job, ns))
	assert.Len(t, carriers(t, ns), 1, "the carrier is what is left")
	first.stop(t)

	lift()
	require.Eventually(t, func() bool {
		_, err := shared.Kubectl(t.Context(), "create", "job", "migrate-probe", "-n", ns, "--image=a", "--dry-run=server")
		return err == nil
	}, 30*time.Second, often)
	life.start(t, nil)
	replaced(t, w, old.GetUID())
}

func TestAJobThatSomebodyElseDeletesStaysDeleted(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-taken")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	w.create(t)
	life := newLife(t, ns)
	// It dies with a carrier that has announced nothing.
	first := life.start(t, &faulty{writes: 1, arrives: true, on: exchangeWrites})
	edit(t, ns, "settings", "2")
	first.dies(t)
	require.Len(t, carriers(t, ns), 1)
	w.delete(t)
	require.Eventually(t, func() bool { return gone(t, w) }, soon, often)

	life.start(t, nil)
	require.Eventually(t, func() bool { return len(carriers(t, ns)) == 0 }, soon, often)
	never(t, func() bool { return len(listed(t, reloader.Job, ns)) > 0 })
}

func TestAJobWaitsForTheOldOneToGo(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-lingers")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	old := w.create(t)
	w.patch(t, `{"metadata":{"finalizers":["example.com/wait"]}}`)
	other := migration(ns, nil)
	other.name = "other"
	other.create(t)
	_, r := startEngine(t, within(ns))
	requireReload(t, r, other.key(), func() { edit(t, ns, "settings", "2") })
	require.Eventually(t, func() bool { return w.read(t).GetDeletionTimestamp() != nil }, soon, often)
	never(t, func() bool { return r.count(w.key()) > 0 })
	release(t, w)
	require.Eventually(t, func() bool { return r.count(w.key()) == 1 }, soon, often)
	require.Eventually(t, func() bool { return len(listed(t, reloader.Job, ns)) == 2 }, soon, often)
	assert.NotEqual(t, old.GetUID(), w.read(t).GetUID())
	assert.Empty(t, w.read(t).GetFinalizers())
}

func TestPodsOfTwoJobsNeverRunSideBySide(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-pods-linger")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	old := w.create(t)
	pods := shared.Client().CoreV1().Pods(ns)
	var pod string
	require.Eventually(t, func() bool {
		list, err := pods.List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		if len(list.Items) == 1 {
			pod = list.Items[0].Name
		}
		return pod != ""
	}, soon, often)
	finalizers := func(patch string) {
		_, err := pods.Patch(t.Context(), pod, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	finalizers(`[{"op":"add","path":"/metadata/finalizers/0","value":"example.com/wait"}]`)
	_, r := startEngine(t, within(ns))

	edit(t, ns, "settings", "2")
	require.Eventually(t, func() bool {
		p, err := pods.Get(t.Context(), pod, metav1.GetOptions{})
		require.NoError(t, err)
		return p.DeletionTimestamp != nil
	}, soon, often, "its pod ends")
	never(t, func() bool { return w.read(t).GetUID() != old.GetUID() }, "it is there as long as its pod")
	assert.Zero(t, r.count(w.key()))
	finalizers(`[{"op":"replace","path":"/metadata/finalizers","value":[]}]`)
	replaced(t, w, old.GetUID())
	assert.Equal(t, 1, r.count(w.key()))
}

// A quota that the Job fills has room for the one that takes its place.
func TestAJobThatFillsItsQuotaIsReplaced(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-quota")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	old := w.create(t)
	_, err := shared.Client().CoreV1().ResourceQuotas(ns).Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "jobs"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/jobs.batch": resource.MustParse("1")}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		q, err := shared.Client().CoreV1().ResourceQuotas(ns).Get(t.Context(), "jobs", metav1.GetOptions{})
		require.NoError(t, err)
		used := q.Status.Used["count/jobs.batch"]
		return used.Value() == 1
	}, 30*time.Second, often)
	_, r := startEngine(t, within(ns))
	requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
	replaced(t, w, old.GetUID())
	assert.Zero(t, r.failures())
}
