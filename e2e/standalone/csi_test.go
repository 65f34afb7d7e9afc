package standalone

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/scope"
)

// csiDriver writes what the Secrets Store CSI driver writes: one status per pod
// and class, whose objects are replaced as a whole.
type csiDriver struct {
	t         *testing.T
	namespace string
	statuses  dynamic.ResourceInterface
	classes   dynamic.ResourceInterface
}

func secretsStore() schema.GroupVersion {
	return schema.GroupVersion{Group: "secrets-store.csi.x-k8s.io", Version: "v1"}
}

func podStatuses() schema.GroupVersionResource {
	return secretsStore().WithResource("secretproviderclasspodstatuses")
}

// newCSIDriver returns a driver whose CRDs are installed.
func newCSIDriver(t *testing.T, ns string) csiDriver {
	t.Helper()
	require.NoError(t, shared.InstallSecretsStore(t.Context()))
	return csiDriverOf(t, ns)
}

func csiDriverOf(t *testing.T, ns string) csiDriver {
	t.Helper()
	client, err := dynamic.NewForConfig(shared.RESTConfig())
	require.NoError(t, err)
	return csiDriver{
		t:         t,
		namespace: ns,
		statuses:  client.Resource(podStatuses()).Namespace(ns),
		classes:   client.Resource(secretsStore().WithResource("secretproviderclasses")).Namespace(ns),
	}
}

func removeCSI(t *testing.T) {
	t.Helper()
	for _, name := range []string{"secretproviderclasses", "secretproviderclasspodstatuses"} {
		_, err := shared.Kubectl(t.Context(), "delete", "--ignore-not-found", "customresourcedefinition", name+".secrets-store.csi.x-k8s.io")
		require.NoError(t, err)
	}
	d := csiDriverOf(t, metav1.NamespaceDefault)
	require.Eventually(t, func() bool {
		_, err := d.statuses.List(t.Context(), metav1.ListOptions{Limit: 1})
		return apierrors.IsNotFound(err)
	}, soon, often, "the API does not serve the CRDs any more")
}

// class makes a SecretProviderClass.
func (d csiDriver) class(name string, annotations map[string]string) {
	d.t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "secrets-store.csi.x-k8s.io/v1",
		"kind":       "SecretProviderClass",
		"spec":       map[string]any{"provider": "vault"},
	}}
	o.SetName(name)
	o.SetAnnotations(annotations)
	_, err := d.classes.Create(d.t.Context(), o, metav1.CreateOptions{})
	require.NoError(d.t, err)
}

// mount has a pod report that it has mounted the class in that version.
func (d csiDriver) mount(pod, class, version string) {
	d.t.Helper()
	name := pod + "-" + d.namespace + "-" + class
	status := podStatus(pod, class, version)
	ctx := d.t.Context()
	present, err := d.statuses.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		o := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "secrets-store.csi.x-k8s.io/v1",
			"kind":       "SecretProviderClassPodStatus",
			"status":     status,
		}}
		o.SetName(name)
		_, err = d.statuses.Create(ctx, o, metav1.CreateOptions{})
		require.NoError(d.t, err)
		return
	}
	require.NoError(d.t, err)
	present.Object["status"] = status
	_, err = d.statuses.Update(ctx, present, metav1.UpdateOptions{})
	require.NoError(d.t, err)
}

// podStatus is the status of such a report.
func podStatus(pod, class, version string) map[string]any {
	object := func(id string) any {
		return map[string]any{"id": "secret/" + class + "/" + id, "version": version}
	}
	return map[string]any{
		"podName":                 pod,
		"secretProviderClassName": class,
		"mounted":                 true,
		"targetPath":              "/var/lib/kubelet/pods/" + pod,
		"objects":                 []any{object("password"), object("user")},
	}
}

// unmount has the report of a pod go with it.
func (d csiDriver) unmount(pod, class string) {
	d.t.Helper()
	require.NoError(d.t, d.statuses.Delete(d.t.Context(), pod+"-"+d.namespace+"-"+class, metav1.DeleteOptions{}))
}

// newCSIApp makes a Deployment whose pods mount the classes.
func newCSIApp(t *testing.T, ns, name string, annotations map[string]string, classes ...string) reloader.Workload {
	t.Helper()
	app := fixture.App{Namespace: ns, Name: name, Annotations: annotations}
	_, err := deployments(ns).Create(t.Context(), mounting(app.Deployment(), classes...), metav1.CreateOptions{})
	require.NoError(t, err)
	return app.Workload()
}

func mounting(d *appsv1.Deployment, classes ...string) *appsv1.Deployment {
	pod := &d.Spec.Template.Spec
	for _, class := range classes {
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: class, VolumeSource: corev1.VolumeSource{
			CSI: &corev1.CSIVolumeSource{
				Driver: "secrets-store.csi.k8s.io", VolumeAttributes: map[string]string{"secretProviderClass": class},
			},
		}})
		pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts, corev1.VolumeMount{Name: class, MountPath: "/" + class})
	}
	return d
}

func withCSI(o *engine.Options) { o.Settings.CSI = true }

// readReports is what the chart gives for classes.
func readReports() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(secretsStore().Group, []string{"list", "watch"}, podStatuses().Resource),
		rule(secretsStore().Group, []string{"get"}, "secretproviderclasses"),
		rule("", []string{"list"}, "pods"),
	}
}

// rotates holds that what the pods report of the class is followed. What is
// there when the engine looks for the first time is the first content.
func (d csiDriver) rotates(r *reports, of reloader.Workload, class string) {
	d.t.Helper()
	before, version := r.count(of), 0
	require.Eventually(d.t, func() bool {
		version++
		d.mount("web-0", class, fmt.Sprint(before, ".", version))
		return r.count(of) > before
	}, soon, 500*time.Millisecond, "%s", of)
}

// It may also go, and come again. This test is the first: the others install the
// driver.
func TestTheCSIDriverMayComeLater(t *testing.T) {
	removeCSI(t)
	ns := namespace(t, "csi-later")
	web := newCSIApp(t, ns, "web", auto(), "vault")
	other := newApp(t, ns, "other")
	config, start := restricted(t), mark(t)
	allow(t, "", ns, append(readReports(), readSources("configmaps", "secrets"), writeWorkloads("deployments", "statefulsets", "daemonsets"))...)
	var j journal
	e, r := startEngine(t, withCSI, scoped(func(*scope.Scope) {}), func(o *engine.Options) { o.Config, o.Log = config, j.logger() })
	edit(t, ns, "other", "1")
	reloads(t, r, other, 1)
	require.Eventually(t, func() bool {
		looks := slices.DeleteFunc(asked(t, start), func(e cluster.AuditEvent) bool { return e.RequestURI != "/apis" })
		return len(looks) >= 3
	}, soon, often, "it is looked for")
	for _, request := range asked(t, start) {
		assert.NotContains(t, request.RequestURI, podStatuses().Resource, "and not tried")
	}

	for round := 1; round <= 2; round++ {
		require.Eventually(t, func() bool {
			return len(j.with("not served", podStatuses().Resource, `"--enable-csi-integration"`)) == round
		}, soon, often, "it is told")
		before := r.count(web)
		d := newCSIDriver(t, ns)
		d.class("vault", nil)
		d.mount("web-0", "vault", "0")
		require.Never(t, func() bool { return r.count(web) > before }, quiet, often, "what is there is the first content")
		d.rotates(r, web, "vault")
		assert.Len(t, j.with("served now"), round)

		removeCSI(t)
		require.True(t, e.Ready())
	}
	assert.Empty(t, j.with("forbidden"))
}

// Who may read what pods report in one namespace only does that, and is told of
// the other one.
func TestReportsThatAreForbiddenInOneNamespace(t *testing.T) {
	one, other := namespace(t, "csi-allowed"), namespace(t, "csi-forbidden")
	for _, ns := range []string{one, other} {
		allow(t, ns, "engine", readSources("configmaps", "secrets"), writeWorkloads("deployments", "statefulsets", "daemonsets"))
	}
	allow(t, one, "reports", readReports()...)
	here, there := newCSIDriver(t, one), newCSIDriver(t, other)
	web, hidden := newCSIApp(t, one, "web", auto(), "vault"), newCSIApp(t, other, "web", auto(), "vault")
	for _, d := range []csiDriver{here, there} {
		d.class("vault", nil)
		d.mount("web-0", "vault", "0")
	}
	config := restricted(t)
	var j journal
	_, r := startEngine(t, withCSI, scoped(func(s *scope.Scope) { s.Namespaces = []string{one, other} }),
		func(o *engine.Options) { o.Config, o.Log = config, j.logger() })
	here.rotates(r, web, "vault")
	there.mount("web-0", "vault", "1")
	require.Never(t, func() bool { return r.count(hidden) > 0 }, quiet, often)
	assert.Len(t, j.with("forbidden, so", podStatuses().Resource, other, `"--enable-csi-integration"`), 1)
	assert.Len(t, j.with("forbidden, so"), 1, "and nothing else is")

	allow(t, other, "reports", readReports()...)
	require.Eventually(t, func() bool { return len(j.with("allowed now", podStatuses().Resource, other)) == 1 }, soon, often)
	there.rotates(r, hidden, "vault")
	here.rotates(r, web, "vault")
}

// Two classes rotate several times, in the order in which their pods happen to
// follow, while pods come, with old content or new, and go.
func TestARotationIsOneRollout(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "csi-rotation")
	d := newCSIDriver(t, ns)
	classes := []string{"vault", "keys"}
	for _, class := range classes {
		d.class(class, nil)
	}
	web := newCSIApp(t, ns, "web", auto(), classes...)
	worker := newCSIApp(t, ns, "worker", map[string]string{annotation.DefaultKeys().SecretProviderClassNamed: "va.*"}, "vault")
	bystander := newCSIApp(t, ns, "bystander", auto())
	pods, born := []string{}, 0
	add := func(version string) {
		pod := fmt.Sprint("pod-", born)
		born++
		pods = append(pods, pod)
		for _, class := range classes {
			d.mount(pod, class, version)
		}
	}
	for range 5 {
		add("v0")
	}
	startEngine(t, withCSI, within(ns), func(o *engine.Options) { o.CoalesceWindow = 8 * time.Second })
	requireRollouts(t, map[reloader.Workload]int{web: 0, worker: 0})

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := 1; round <= 3; round++ {
		old, next := fmt.Sprint("v", round-1), fmt.Sprint("v", round)
		var steps []func()
		for _, pod := range pods[1:] {
			for _, class := range classes {
				steps = append(steps, func() { d.mount(pod, class, next) })
			}
		}
		random.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		gone := pods[0]
		pods = pods[1:]
		for i, step := range steps {
			step()
			switch i {
			case 1:
				add(old) // it has taken its volumes from a cache
			case 3:
				for _, class := range classes {
					d.unmount(gone, class)
				}
			case 5:
				add(next)
			}
		}
		for _, pod := range pods {
			for _, class := range classes {
				d.mount(pod, class, next)
			}
		}
		requireRollouts(t, map[reloader.Workload]int{web: round, worker: round, bystander: 0})
		// The pods of the rollout come, and the old ones go.
		before := pods
		pods = nil
		for range 5 {
			add(next)
		}
		for _, pod := range before {
			for _, class := range classes {
				d.unmount(pod, class)
			}
		}
		requireRollouts(t, map[reloader.Workload]int{web: round, worker: round, bystander: 0})
	}
}

// Whenever the engine is away during a rotation, it is one rollout.
func TestARotationAcrossRestartsIsOneRollout(t *testing.T) {
	tests := map[string]struct {
		// stop and start are after how many pods have followed, of five.
		stop, start int
		// late has the first rollout wait longer than the engine runs.
		late bool
	}{
		"away during all of it":               {stop: 0, start: 5},
		"away at its beginning":               {stop: 0, start: 2},
		"away in the middle":                  {stop: 2, start: 3},
		"away at its end":                     {stop: 3, start: 5},
		"away for a moment":                   {stop: 2, start: 2},
		"away before the rollout":             {stop: 2, start: 2, late: true},
		"away before the rollout, for longer": {stop: 1, start: 4, late: true},
	}
	i := 0
	for name, tc := range tests {
		i++
		ns := namespace(t, fmt.Sprint("csi-restart-", i))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newCSIDriver(t, ns)
			d.class("vault", nil)
			web := newCSIApp(t, ns, "web", auto(), "vault")
			for pod := range 5 {
				d.mount(fmt.Sprint("pod-", pod), "vault", "a")
			}
			memory, here := remembers(t, ns), within(ns)
			_, _, stop := runEngine(t, withCSI, here, memory, func(o *engine.Options) {
				if tc.late {
					o.CoalesceWindow = time.Hour
				}
			})
			for pod := range 5 {
				if pod == tc.stop {
					if tc.stop > 0 && !tc.late {
						requireRollouts(t, map[reloader.Workload]int{web: 1})
					}
					stop()
				}
				if pod == tc.start {
					startEngine(t, withCSI, here, memory)
				}
				d.mount(fmt.Sprint("pod-", pod), "vault", "b")
			}
			if tc.start == 5 {
				startEngine(t, withCSI, here, memory)
			}
			requireRollouts(t, map[reloader.Workload]int{web: 1})
			d.mount("pod-4", "vault", "c")
			requireRollouts(t, map[reloader.Workload]int{web: 2})
		})
	}
}

func TestWhatIsNoRotation(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "csi-quiet")
	d := newCSIDriver(t, ns)
	keys := annotation.DefaultKeys()
	d.class("vault", nil)
	d.class("ignored", map[string]string{keys.Ignore: "true"})
	d.class("matched", map[string]string{keys.Match: "true"})
	d.mount("ignoring-0", "ignored", "a")
	d.mount("searching-0", "matched", "a")
	d.mount("searching-0", "vault", "a")
	ignoring := newCSIApp(t, ns, "ignoring", auto(), "ignored")
	searching := newCSIApp(t, ns, "searching", map[string]string{keys.Search: "true"}, "matched", "vault")
	startEngine(t, withCSI, within(ns))

	// A workload whose pods are the first to report its class.
	fresh := newCSIApp(t, ns, "fresh", auto(), "new")
	d.class("new", nil)
	d.mount("fresh-0", "new", "a")
	d.mount("fresh-1", "new", "a")
	// One that joins a class that others have.
	joining := newCSIApp(t, ns, "joining", auto(), "vault")
	d.mount("joining-0", "vault", "a")
	// The class says no, and another one says nothing.
	d.mount("ignoring-0", "ignored", "b")
	requireRollouts(t, map[reloader.Workload]int{ignoring: 0, searching: 0, fresh: 0, joining: 0})

	d.mount("searching-0", "vault", "b")
	requireRollouts(t, map[reloader.Workload]int{searching: 0, joining: 1})
	d.mount("searching-0", "matched", "b")
	requireRollouts(t, map[reloader.Workload]int{searching: 1})

	// All pods are gone, and other ones come: they have what is there by now.
	d.unmount("fresh-0", "new")
	d.unmount("fresh-1", "new")
	d.mount("fresh-2", "new", "b")
	requireRollouts(t, map[reloader.Workload]int{fresh: 0, ignoring: 0})
	d.mount("fresh-2", "new", "c")
	requireRollouts(t, map[reloader.Workload]int{fresh: 1})
}

func TestBothStrategiesMarkAClass(t *testing.T) {
	for _, strategy := range []kind.Strategy{kind.EnvVars, kind.Annotations} {
		ns := namespace(t, "csi-"+string(strategy))
		t.Run(string(strategy), func(t *testing.T) {
			d := newCSIDriver(t, ns)
			d.class("vault", nil)
			d.mount("web-0", "vault", "a")
			web := newCSIApp(t, ns, "web", auto(), "vault")
			_, r, stop := runEngine(t, withCSI, func(o *engine.Options) { o.Strategy = strategy })
			d.mount("web-0", "vault", "b")
			require.Eventually(t, func() bool { return r.count(web) == 1 }, soon, often)
			s, err := fixture.Read(context.WithoutCancel(t.Context()), shared.Client(), web)
			require.NoError(t, err)
			env, annotation := s.Env("STAKATER_VAULT_SECRETPROVIDERCLASS"), s.Template.Annotations[annotation.DefaultKeys().LastReloadedFrom]
			assert.Equal(t, strategy == kind.EnvVars, env != "")
			if strategy == kind.Annotations {
				assert.Contains(t, annotation, `"type":"SECRETPROVIDERCLASS","name":"vault"`)
			}
			assert.NotContains(t, env+annotation, "secret/vault")
			stop()
		})
	}
}

// A pod has started with what it reports first. Only when the driver writes the
// report again has a running pod other content than it started with.
func TestAnOwnersRestartIsNoRotation(t *testing.T) {
	ns := namespace(t, "csi-restart")
	d := newCSIDriver(t, ns)
	d.class("vault", nil)
	web, other := newCSIApp(t, ns, "web", auto(), "vault"), newCSIApp(t, ns, "other", auto(), "vault")
	for _, pod := range []string{"web-1", "web-2", "other-1"} {
		d.mount(pod, "vault", "1")
	}
	_, r := startEngine(t, withCSI, within(ns))
	d.mount("web-3", "vault", "2")
	d.mount("web-4", "vault", "2")
	d.unmount("web-1", "vault")
	d.unmount("web-2", "vault")
	never(t, func() bool { return r.count(web)+r.count(other) > 0 }, "nobody has changed")

	_, again := startEngine(t, withCSI, within(ns))
	never(t, func() bool { return again.count(web)+again.count(other) > 0 }, "nor for the next engine")

	d.mount("other-1", "vault", "2")
	require.Eventually(t, func() bool { return r.count(other) == 1 }, soon, often, "the driver has rotated it")
}
