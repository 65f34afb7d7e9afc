package gitops

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
)

const (
	soon  = 60 * time.Second
	often = 50 * time.Millisecond
)

// specs are the manifests' parts that differ by kind. None has replicas, as with
// an autoscaler.
var specs = map[reloader.WorkloadKind]string{
	reloader.Deployment:  `{selector: {matchLabels: {app: app}}, template: POD}`,
	reloader.StatefulSet: `{serviceName: app, selector: {matchLabels: {app: app}}, template: POD}`,
	reloader.DaemonSet:   `{selector: {matchLabels: {app: app}}, template: POD}`,
	reloader.CronJob:     `{schedule: "0 0 29 2 *", jobTemplate: {spec: {template: ONCE}}}`,
	// One that does not end: what has ended is not run again.
	reloader.Job:              `{template: ONCE}`,
	reloader.Rollout:          `{selector: {matchLabels: {app: app}}, strategy: {canary: {}}, template: POD}`,
	reloader.DeploymentConfig: `{selector: {app: app}, template: POD}`,
}

// The controller of Rollouts writes the empty resources itself.
const pod = `{metadata: {labels: {app: app}}, spec: {RESTART nodeSelector: {no: node}, containers: [` +
	`{name: app, image: "registry.example/app:1", resources: {}, env: [{name: OWN, value: "1"}], envFrom: [{configMapRef: {name: settings}}]}]}}`

func manifest(t *testing.T, k reloader.WorkloadKind, namespace string) *unstructured.Unstructured {
	t.Helper()
	text := strings.NewReplacer(
		"POD", strings.Replace(pod, "RESTART", "", 1),
		"ONCE", strings.Replace(pod, "RESTART", "restartPolicy: Never,", 1),
	).Replace(specs[k])
	var spec map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &spec))
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	of, ok := kind.BuiltIn().ByName(k)
	require.True(t, ok)
	o.SetGroupVersionKind(of.Resource.GroupVersion().WithKind(string(k)))
	o.SetNamespace(namespace)
	o.SetName("app")
	o.SetAnnotations(map[string]string{annotation.DefaultKeys().Auto: "true"})
	return o
}

// app is a manifest that a tool has applied.
type app struct {
	tool
	manifest *unstructured.Unstructured
}

// TestUnchangedManifestsDoNotDiffer follows workloads of every kind through
// everything that changes them, or their record, but not their manifest.
func TestUnchangedManifestsDoNotDiffer(t *testing.T) {
	tests := map[string]struct {
		strategy string
		// want are the apps that differ after a reload. Nothing merges the lists
		// of a custom resource whose schema names no keys.
		want []string
	}{
		"env-vars": {strategy: "env-vars", want: []string{
			"argo DeploymentConfig", "argo Rollout",
			"argo server-side DeploymentConfig", "argo server-side with webhooks DeploymentConfig",
			"flux DeploymentConfig",
		}},
		"annotations": {strategy: "annotations"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			installed(t, tc.strategy, true)
			apps := map[string]app{}
			for tool, does := range tools(t) {
				ns := name + "-" + strings.ReplaceAll(tool, " ", "-")
				_, err := shared.Client().CoreV1().Namespaces().Create(t.Context(),
					&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
				require.NoError(t, err)
				settings(t, ns, "1")
				for k := range specs {
					apps[tool+" "+string(k)] = app{does, manifest(t, k, ns)}
				}
			}
			apply(t, apps)
			differ(t, "after the creation", apps)
			again(t, "after the creation", apps)

			for _, a := range apps {
				if scales(a) {
					patch(t, a, `{"spec":{"replicas":2}}`, "scale")
				}
			}
			differ(t, "after scaling", apps)
			again(t, "after scaling", apps)

			for _, a := range apps {
				patch(t, a, `{"metadata":{"labels":{"note":"new"}}}`)
			}
			differ(t, "after somebody's label", apps)

			upgrade(t, tc.strategy, apps)
			differ(t, "after the upgrade", apps)
			again(t, "after the upgrade", apps)

			reload(t, apps)
			differ(t, "after a reload", apps, tc.want...)
			for _, name := range tc.want {
				delete(apps, name)
			}
			again(t, "after a reload", apps)
			differ(t, "at the end", apps)
		})
	}
}

func installed(t *testing.T, strategy string, webhook bool) {
	t.Helper()
	_, err := install.Chart(t.Context(), shared, install.ChartOptions{Log: t.Output(), Values: map[string]any{
		"reloader": map[string]any{"reloadStrategy": strategy, "isArgoRollouts": true, "isOpenshift": true},
		"webhook":  map[string]any{"enabled": webhook},
	}})
	require.NoError(t, err)
}

func settings(t *testing.T, ns, value string) {
	t.Helper()
	require.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), ns, "settings", map[string]string{"key": value}))
}

func apply(t *testing.T, apps map[string]app) {
	t.Helper()
	for _, a := range apps {
		a.apply(t, a.manifest)
	}
}

// differ holds the apps that differ against those that may.
func differ(t *testing.T, when string, apps map[string]app, want ...string) {
	t.Helper()
	// A controller may write the status between the read and the dry run; drift
	// stays.
	assert.EventuallyWithT(t, func(c *assert.CollectT) {
		got := []string{}
		for name, a := range apps {
			if text := a.diff(t, a.manifest); text != "" {
				got = append(got, name)
				if !slices.Contains(want, name) {
					c.Errorf("%s %s: %s", name, when, text)
				}
			}
		}
		assert.ElementsMatch(c, want, got, when)
	}, 10*time.Second, often)
}

// again applies everything a second time, which must start no rollout.
func again(t *testing.T, when string, apps map[string]app) {
	t.Helper()
	type state struct {
		uid      types.UID
		template map[string]any
	}
	states := func() map[string]state {
		all := map[string]state{}
		for name, a := range apps {
			o := read(t, a.manifest)
			all[name] = state{o.GetUID(), template(t, o)}
		}
		return all
	}
	before := states()
	apply(t, apps)
	for name, now := range states() {
		assert.Equal(t, before[name], now, "%s applied again %s", name, when)
	}
}

func template(t *testing.T, o *unstructured.Unstructured) map[string]any {
	t.Helper()
	path := []string{"spec", "template"}
	if o.GetKind() == string(reloader.CronJob) {
		path = []string{"spec", "jobTemplate", "spec", "template"}
	}
	m, _, err := unstructured.NestedMap(o.Object, path...)
	require.NoError(t, err)
	return m
}

func scales(a app) bool {
	switch reloader.WorkloadKind(a.manifest.GetKind()) {
	case reloader.Deployment, reloader.StatefulSet, reloader.Rollout, reloader.DeploymentConfig:
		return true
	}
	return false
}

func patch(t *testing.T, a app, body string, subresource ...string) {
	t.Helper()
	_, err := objects(a.manifest).Patch(t.Context(), "app", types.MergePatchType, []byte(body), metav1.PatchOptions{}, subresource...)
	require.NoError(t, err)
}

// upgrade leaves the apps with the records of the version before.
func upgrade(t *testing.T, strategy string, apps map[string]app) {
	t.Helper()
	installed(t, strategy, false)
	key := annotation.DefaultKeys().Index
	for _, a := range apps {
		o := read(t, a.manifest)
		rec, err := record.Decode(o.GetAnnotations()[key])
		require.NoError(t, err)
		k, _ := kind.BuiltIn().ByName(reloader.WorkloadKind(o.GetKind()))
		rec.Version, rec.Template, rec.UID, rec.Generation = 1, "digest", string(o.GetUID()), o.GetGeneration()
		if k.CountsAnnotations() {
			rec.Generation++
		}
		first, err := rec.Encode()
		require.NoError(t, err)
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: first}}})
		require.NoError(t, err)
		// The API server takes a moment to forget the webhook.
		require.Eventually(t, func() bool {
			got, err := objects(a.manifest).Patch(t.Context(), "app", types.MergePatchType, body, metav1.PatchOptions{})
			return err == nil && got.GetAnnotations()[key] == first
		}, soon, often)
	}
	installed(t, strategy, true)
}

// reload changes what the apps read and waits until each has been reloaded.
func reload(t *testing.T, apps map[string]app) {
	t.Helper()
	before := map[string]*unstructured.Unstructured{}
	for name, a := range apps {
		before[name] = read(t, a.manifest)
	}
	for _, a := range apps {
		settings(t, a.manifest.GetNamespace(), "2")
	}
	for name, a := range apps {
		require.Eventually(t, func() bool {
			switch reloader.WorkloadKind(a.manifest.GetKind()) {
			case reloader.CronJob:
				jobs, err := shared.Client().BatchV1().Jobs(a.manifest.GetNamespace()).List(t.Context(), metav1.ListOptions{})
				require.NoError(t, err)
				return slices.ContainsFunc(jobs.Items, func(o batchv1.Job) bool { return len(o.OwnerReferences) > 0 })
			case reloader.Job:
				o, err := objects(a.manifest).Get(t.Context(), "app", metav1.GetOptions{})
				return err == nil && o.GetUID() != before[name].GetUID()
			}
			return !reflect.DeepEqual(template(t, read(t, a.manifest)), template(t, before[name]))
		}, soon, often, "%s is reloaded", name)
	}
}
