package standalone

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"k8s-reloader/reloader"
)

// lingering makes the one pod of a Job take its time to end, and returns what ends
// it.
func lingering(t *testing.T, ns string) (release func()) {
	t.Helper()
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
	return func() { finalizers(`[{"op":"replace","path":"/metadata/finalizers","value":[]}]`) }
}

func ending(t *testing.T, w workload) func() bool {
	t.Helper()
	return func() bool { return w.read(t).GetDeletionTimestamp() != nil }
}

// A deploy tool that deletes what it did not apply leaves carriers alone.
func TestPruningDuringAnExchangeLosesNoJob(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-prune")
	manifest := func(value string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: %[1]s, labels: {app: batch}}
data: {a: %[2]q}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: import
  namespace: %[1]s
  labels: {app: batch, app.kubernetes.io/instance: batch}
  annotations: {reloader.stakater.com/auto: "true"}
spec:
  template:
    metadata: {labels: {app: import}}
    spec:
      restartPolicy: Never
      containers:
      - name: app
        image: registry.example/app:1
        envFrom: [{configMapRef: {name: settings}}]
`, ns, value)
	}
	deploy := func(value string) {
		_, err := shared.KubectlInput(t.Context(), manifest(value), "apply", "--prune", "-l", "app=batch", "-n", ns,
			"--prune-allowlist=core/v1/ConfigMap", "--prune-allowlist=batch/v1/Job", "-f", "-")
		require.NoError(t, err)
	}
	deploy("1")
	w := workload{kind: reloader.Job, ns: ns, name: "import"}
	old := w.read(t)
	let := lingering(t, ns)
	_, r := startEngine(t, within(ns))
	deploy("2")
	require.Eventually(t, ending(t, w), soon, often)
	require.Len(t, carriers(t, ns), 1)
	deploy("2")
	assert.Len(t, carriers(t, ns), 1, "nothing that selects its Job selects the carrier")
	let()
	now := replaced(t, w, old.GetUID())
	assert.NotEmpty(t, variable(templateOf(t, now), "app", "STAKATER_SETTINGS_CONFIGMAP"))
	deploy("2")
	never(t, func() bool { return w.read(t).GetUID() != now.GetUID() })
	assert.Equal(t, 1, r.count(w.key()))
	assert.Empty(t, carriers(t, ns))
}

// A queue's controller starts every suspended Job with the queue's label.
func TestAQueueStartsNoSecondJob(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-queue")
	edit(t, ns, "settings", "1")
	jobs, err := objects(t, reloader.Job, ns).Watch(t.Context(), metav1.ListOptions{LabelSelector: "kueue.x-k8s.io/queue-name=team"})
	require.NoError(t, err)
	pods, err := shared.Client().CoreV1().Pods(ns).Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	var running sync.WaitGroup
	t.Cleanup(func() { jobs.Stop(); pods.Stop(); running.Wait() })
	var mu sync.Mutex
	var names []string // of the Jobs that there have been
	most, alive := 0, map[string]bool{}
	running.Go(func() {
		for event := range jobs.ResultChan() {
			o, ok := event.Object.(*unstructured.Unstructured)
			if !ok || event.Type == watch.Deleted {
				continue
			}
			mu.Lock()
			if event.Type == watch.Added {
				names = append(names, o.GetName())
			}
			mu.Unlock()
			if suspended, _, _ := unstructured.NestedBool(o.Object, "spec", "suspend"); suspended {
				_, _ = objects(t, reloader.Job, ns).Patch(t.Context(), o.GetName(), types.MergePatchType, []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{})
			}
		}
	})
	running.Go(func() {
		for event := range pods.ResultChan() {
			o, ok := event.Object.(metav1.Object)
			if !ok {
				continue
			}
			mu.Lock()
			if event.Type == watch.Deleted {
				delete(alive, o.GetName())
			} else {
				alive[o.GetName()] = true
			}
			most = max(most, len(alive))
			mu.Unlock()
		}
	})
	w := migration(ns, nil)
	o := w.object(t)
	o.SetLabels(map[string]string{"kueue.x-k8s.io/queue-name": "team"})
	old, err := objects(t, w.kind, ns).Create(t.Context(), o, metav1.CreateOptions{})
	require.NoError(t, err)
	let := lingering(t, ns)
	_, r := startEngine(t, within(ns))
	edit(t, ns, "settings", "2")
	require.Eventually(t, ending(t, w), soon, often)
	never(t, func() bool { return r.count(w.key()) > 0 })
	let()
	now := replaced(t, w, old.GetUID())
	assert.Equal(t, "team", now.GetLabels()["kueue.x-k8s.io/queue-name"], "the new Job is the queue's")
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(alive) == 1
	}, soon, often, "its pod starts")
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{"migrate", "migrate"}, names, "the queue has seen the old one and the new one")
	assert.Equal(t, 1, most, "no two pods side by side")
}

// Who may edit a namespace forges carriers of the form that engines had before, and
// may not write those of now. What is forged all the same is not believed.
func TestForgedCarriersDoNothing(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-forged")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	old := w.create(t)
	victim := migration(ns, nil)
	victim.name, victim.annotations = "admins-migration", nil
	target := victim.create(t)

	for _, verb := range []string{"create", "update", "patch", "delete"} {
		out, err := shared.Kubectl(t.Context(), "auth", "can-i", verb, "controllerrevisions.apps", "-n", ns, "--as=tenant", "--as-group=tenants")
		require.Error(t, err, out)
	}
	_, err := shared.Kubectl(t.Context(), "create", "rolebinding", "tenants", "-n", ns, "--clusterrole=edit", "--group=tenants")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := shared.Kubectl(t.Context(), "auth", "can-i", "create", "jobs.batch", "-n", ns, "--as=tenant", "--as-group=tenants")
		return err == nil
	}, soon, often)
	for _, verb := range []string{"create", "update", "patch", "delete"} {
		out, err := shared.Kubectl(t.Context(), "auth", "can-i", verb, "controllerrevisions.apps", "-n", ns, "--as=tenant", "--as-group=tenants")
		require.Error(t, err, out)
	}

	forged := fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata:
  name: takeover
  namespace: %[1]s
  annotations:
    reloader.stakater.com/carrier: '{"name":"admins-migration","uid":"%[2]s","suspend":false,"sources":[{"kind":"ConfigMap","name":"settings"}]}'
spec: &attack
  suspend: true
  template: {spec: {restartPolicy: Never, containers: [{name: app, image: "registry.example.com/attackers:666"}]}}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: innocent
  namespace: %[1]s
  annotations:
    reloader.stakater.com/carrier: '{"name":"ghost","uid":"00000000-0000-0000-0000-000000000000","ending":true,"gone":"2020-01-01T00:00:00.000000Z","suspend":true,"sources":[{"kind":"Nonsense","name":"x"}]}'
spec:
  suspend: true
  template: {spec: {restartPolicy: Never, containers: [{name: app, image: "registry.example.com/none"}]}}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: ghosted
  namespace: %[1]s
  annotations:
    reloader.stakater.com/carrier: '{"name":"ghost","uid":"00000000-0000-0000-0000-000000000000","ending":true,"gone":"2020-01-01T00:00:00.000000Z","sources":[{"kind":"ConfigMap","name":"settings"}]}'
spec:
  suspend: true
  template: {spec: {restartPolicy: Never, containers: [{name: app, image: "registry.example.com/none"}]}}
`, ns, target.GetUID())
	forged = strings.Replace(forged, "&attack", "", 1)
	_, err = shared.KubectlInput(t.Context(), forged, "apply", "-f", "-", "--as=tenant", "--as-group=tenants")
	require.NoError(t, err)
	// Somebody who may write ControllerRevisions, too.
	_, err = shared.KubectlInput(t.Context(), fmt.Sprintf(`
apiVersion: apps/v1
kind: ControllerRevision
metadata:
  name: admins-migration-0123456789
  namespace: %[1]s
  labels: {reloader.stakater.com/carrier: job}
  annotations: {reloader.stakater.com/carrier: '{"step":"held","code":"0123456789abcdef0123456789abcdef"}'}
revision: 0
data:
  job: '{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"admins-migration","namespace":"%[1]s"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"app","image":"evil"}]}}}}'
  replaces: %[2]s
  sources: [{kind: ConfigMap, name: settings}]
`, ns, target.GetUID()), "apply", "-f", "-")
	require.NoError(t, err)

	_, r := startEngine(t, within(ns))
	requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
	require.Eventually(t, func() bool { return w.read(t).GetUID() != old.GetUID() }, soon, often)
	never(t, func() bool {
		return victim.read(t).GetUID() != target.GetUID() || victim.read(t).GetDeletionTimestamp() != nil || len(listed(t, reloader.Job, ns)) != 5
	})
	assert.Len(t, carriers(t, ns), 1, "what is not ours is not deleted, either")
	assert.Zero(t, r.failures())
}

// Whoever deletes carriers, in the middle, loses no Job.
func TestACarrierThatIsDeletedLosesNoJob(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-carrier-gone")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	old := w.create(t)
	let := lingering(t, ns)
	_, r := startEngine(t, within(ns))
	edit(t, ns, "settings", "2")
	require.Eventually(t, ending(t, w), soon, often)
	_, err := shared.Kubectl(t.Context(), "delete", "controllerrevisions", "--all", "-n", ns)
	require.NoError(t, err)
	require.Empty(t, carriers(t, ns))
	let()
	replaced(t, w, old.GetUID())
	require.Eventually(t, func() bool { return r.count(w.key()) == 1 }, soon, often)
}

// The key is lost in the middle: what docs/annotations.md says brings the Job back.
func TestWhatACarrierHoldsCanBeCreatedByHand(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-by-hand")
	edit(t, ns, "settings", "1")
	w := migration(ns, nil)
	w.replicas = 0
	old := w.create(t)
	life := newLife(t, ns)
	first := life.start(t, &faulty{writes: 4, on: exchangeWrites})
	edit(t, ns, "settings", "2")
	first.dies(t)
	require.True(t, gone(t, w))

	_, r := startEngine(t, within(ns))
	never(t, func() bool { return !gone(t, w) })
	assert.Zero(t, r.count(w.key()))
	left := carriers(t, ns)
	require.Len(t, left, 1)
	job, err := shared.Kubectl(t.Context(), "-n", ns, "get", "controllerrevision", left[0].GetName(), "-o", "jsonpath={.data.job}")
	require.NoError(t, err)
	_, err = shared.KubectlInput(t.Context(), job, "create", "-f", "-")
	require.NoError(t, err)
	_, err = shared.Kubectl(t.Context(), "-n", ns, "delete", "controllerrevision", left[0].GetName())
	require.NoError(t, err)
	now := w.read(t)
	assert.Equal(t, bare(t, old), bare(t, now))
	assert.NotEmpty(t, variable(templateOf(t, now), "app", "STAKATER_SETTINGS_CONFIGMAP"))
}

// The Job of an owner stays the owner's, which counts no carrier as its Job.
func TestTheJobOfAnOwnerIsReplacedByItsLike(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-owned")
	edit(t, ns, "settings", "1")
	owner := nightly(ns, nil)
	owner.annotations = nil
	cronJob := owner.create(t)
	w := migration(ns, nil)
	w.pod.Containers[0].Args = []string{`<a href="x">&`, "\u2028\n\\", "ü"}
	o := w.object(t)
	o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "CronJob", Name: owner.name, UID: cronJob.GetUID(), Controller: new(true), BlockOwnerDeletion: new(true)}})
	old, err := objects(t, w.kind, ns).Create(t.Context(), o, metav1.CreateOptions{})
	require.NoError(t, err)
	let := lingering(t, ns)
	_, r := startEngine(t, within(ns))
	edit(t, ns, "settings", "2")
	require.Eventually(t, ending(t, w), soon, often)
	assert.Equal(t, []string{w.name}, jobsOf(t, cronJob))
	let()
	now := replaced(t, w, old.GetUID())
	require.NotNil(t, metav1.GetControllerOf(now))
	assert.Equal(t, cronJob.GetUID(), metav1.GetControllerOf(now).UID)
	assert.Equal(t, bare(t, old), bare(t, now))
	require.Eventually(t, func() bool { return r.count(w.key()) == 1 && len(carriers(t, ns)) == 0 }, soon, often)
}

// The Job of an owner that goes in the middle is not started again, and its carrier
// does not stay behind.
func TestAnExchangeEndsWithTheOwner(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-owner-goes")
	edit(t, ns, "settings", "1")
	owner := nightly(ns, nil)
	owner.annotations = nil
	cronJob := owner.create(t)
	w := migration(ns, nil)
	o := w.object(t)
	o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "CronJob", Name: owner.name, UID: cronJob.GetUID(), Controller: new(true)}})
	old, err := objects(t, w.kind, ns).Create(t.Context(), o, metav1.CreateOptions{})
	require.NoError(t, err)
	let := lingering(t, ns)
	_, r := startEngine(t, within(ns))
	edit(t, ns, "settings", "2")
	require.Eventually(t, ending(t, w), soon, often)
	require.Len(t, carriers(t, ns), 1)
	assert.Equal(t, cronJob.GetUID(), carriers(t, ns)[0].GetOwnerReferences()[0].UID)
	assert.Nil(t, metav1.GetControllerOf(&carriers(t, ns)[0]))
	owner.delete(t)
	require.Eventually(t, func() bool { return len(carriers(t, ns)) == 0 }, soon, often, "it is collected")
	let()
	require.Eventually(t, func() bool { return gone(t, w) }, soon, often)
	never(t, func() bool { return len(listed(t, reloader.Job, ns)) > 0 })
	assert.Zero(t, r.count(w.key()))
	assert.NotEmpty(t, old.GetUID())
}

// The largest Job that the API server keeps is replaced, too.
func TestALargeJobIsReplaced(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-large")
	edit(t, ns, "settings", "1")
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/"
	source := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 1440<<10)
	for i := range text {
		text[i] = letters[source.IntN(len(letters))]
	}
	w := migration(ns, nil)
	w.replicas = 0
	w.pod.Containers[0].Args = []string{string(text)}
	old := w.create(t)
	_, r := startEngine(t, within(ns))
	requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
	now := replaced(t, w, old.GetUID())
	assert.Equal(t, w.pod.Containers[0].Args, templateOf(t, now).Spec.Containers[0].Args)
}

// Names leave room for what the API server and the controller of Jobs append.
func TestIndexedJobsOfLongNamesAreReloaded(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "job-indexed")
	edit(t, ns, "settings", "1")
	w := migration(ns, map[string]any{"completionMode": "Indexed", "completions": int64(100)})
	w.name = "nightly-recompute-of-all-the-aggregates-of-the-warehouse1"
	old := w.create(t)
	runs := nightly(ns, map[string]any{"jobTemplate": map[string]any{"spec": map[string]any{
		"completionMode": "Indexed", "completions": int64(100_000), "parallelism": int64(1), "template": w.template(t),
	}}})
	runs.name = "nightly-recompute-of-all-the-aggregates-of-the-shopx"
	cronJob := runs.create(t)
	_, r := startEngine(t, within(ns))
	edit(t, ns, "settings", "2")
	require.Eventually(t, func() bool { return r.count(w.key()) == 1 && r.count(runs.key()) == 1 }, soon, often)
	assert.NotEqual(t, old.GetUID(), w.read(t).GetUID())
	names := jobsOf(t, cronJob)
	require.Len(t, names, 1)
	require.Eventually(t, func() bool {
		pods, err := shared.Client().CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "job-name=" + names[0]})
		require.NoError(t, err)
		return len(pods.Items) == 1 && pods.Items[0].Spec.Hostname == names[0]+"-0" && strings.HasPrefix(pods.Items[0].Name, names[0]+"-0-")
	}, soon, often, "its pods have the whole of its name")
	assert.Zero(t, r.failures())
}

// heldAsBefore creates what an engine of the version before held the replacement of
// a Job in: a suspended Job, made from the old one as the API server shows it.
func heldAsBefore(t *testing.T, old *unstructured.Unstructured, ending bool) {
	t.Helper()
	spec, _, err := unstructured.NestedMap(old.Object, "spec")
	require.NoError(t, err)
	unstructured.RemoveNestedField(spec, "selector")
	unstructured.RemoveNestedField(spec, "template", "metadata", "labels")
	require.NoError(t, unstructured.SetNestedField(spec, old.GetName(), "template", "metadata", "labels", "app"))
	require.NoError(t, unstructured.SetNestedField(spec, true, "suspend"))
	containers, _, err := unstructured.NestedSlice(spec, "template", "spec", "containers")
	require.NoError(t, err)
	containers[0].(map[string]any)["env"] = []any{map[string]any{
		"name": "STAKATER_SETTINGS_CONFIGMAP", "value": "v1-0123456789abcdef0123456789abcdef-01234567",
	}}
	require.NoError(t, unstructured.SetNestedSlice(spec, containers, "template", "spec", "containers"))
	carrier := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	carrier.SetGroupVersionKind(old.GroupVersionKind())
	carrier.SetName(old.GetName() + "-0123456789")
	carrier.SetNamespace(old.GetNamespace())
	annotations := old.GetAnnotations()
	annotations["reloader.stakater.com/carrier"] = fmt.Sprintf(
		`{"name":%q,"uid":%q,"ending":%v,"sources":[{"kind":"ConfigMap","name":"settings"}]}`, old.GetName(), old.GetUID(), ending)
	carrier.SetAnnotations(annotations)
	_, err = objects(t, reloader.Job, old.GetNamespace()).Create(t.Context(), carrier, metav1.CreateOptions{})
	require.NoError(t, err)
}

// An upgrade comes in the middle of an exchange.
func TestAnExchangeOfTheVersionBeforeIsFinished(t *testing.T) {
	for name, ends := range map[string]bool{"before the old Job is deleted": false, "while its pods end": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, fmt.Sprintf("job-before-%v", ends))
			edit(t, ns, "settings", "1")
			w := migration(ns, nil)
			w.create(t)
			let := lingering(t, ns)
			old := w.read(t)
			heldAsBefore(t, old, ends)
			if ends {
				foreground := metav1.DeletePropagationForeground
				require.NoError(t, objects(t, w.kind, ns).Delete(t.Context(), w.name, metav1.DeleteOptions{PropagationPolicy: &foreground}))
			}
			_, r := startEngine(t, within(ns))
			require.Eventually(t, func() bool { return len(carriers(t, ns)) == 1 && len(listed(t, reloader.Job, ns)) == 1 }, soon, often, "it is taken over")
			let()
			now := replaced(t, w, old.GetUID())
			assert.Equal(t, "v1-0123456789abcdef0123456789abcdef-01234567", variable(templateOf(t, now), "app", "STAKATER_SETTINGS_CONFIGMAP"))
			assert.Equal(t, bare(t, old), bare(t, now))
			require.Eventually(t, func() bool { return r.count(w.key()) == 1 && len(carriers(t, ns)) == 0 }, soon, often)
			never(t, func() bool { return w.read(t).GetUID() != now.GetUID() })
		})
	}
}
