package standalone

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
)

// installed makes sure, once, that every kind's API is there.
var installed = sync.OnceValue(func() error { //nolint:gochecknoglobals // once for all tests, as the cluster
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	if err := shared.InstallDeploymentConfigs(ctx); err != nil {
		return err
	}
	return shared.InstallRollouts(ctx)
})

func everyKind(t *testing.T) {
	t.Helper()
	require.NoError(t, installed())
}

// objects are those of a kind in a namespace, whatever their type.
func objects(t *testing.T, k reloader.WorkloadKind, ns string) dynamic.ResourceInterface {
	t.Helper()
	of, ok := kind.BuiltIn().ByName(k)
	require.True(t, ok)
	return resources(t, of.Resource, ns)
}

func resources(t *testing.T, r schema.GroupVersionResource, ns string) dynamic.ResourceInterface {
	t.Helper()
	return untyped().Resource(r).Namespace(ns)
}

// untyped is the administrator's client for objects of any kind.
var untyped = sync.OnceValue(func() *dynamic.DynamicClient { //nolint:gochecknoglobals // one connection, as the cluster's
	return dynamic.NewForConfigOrDie(shared.RESTConfig())
})

// workload describes one of any kind.
type workload struct {
	kind                reloader.WorkloadKind
	ns, name            string
	annotations         map[string]string
	templateAnnotations map[string]string
	pod                 corev1.PodSpec
	replicas            int
	// spec is merged over the kind's own.
	spec map[string]any
}

func (w workload) key() reloader.Workload {
	return reloader.Workload{Kind: w.kind, Namespace: w.ns, Name: w.name}
}

func (w workload) labels() map[string]any { return map[string]any{"app": w.name} }

func (w workload) template(t *testing.T) map[string]any {
	t.Helper()
	pod := w.pod.DeepCopy()
	if w.kind == reloader.Job || w.kind == reloader.CronJob {
		pod.RestartPolicy = corev1.RestartPolicyNever
	}
	return asMap(t, corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": w.name}, Annotations: w.templateAnnotations},
		Spec:       *pod,
	})
}

// object is what the workload is created from.
func (w workload) object(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	k, ok := kind.BuiltIn().ByName(w.kind)
	require.True(t, ok)
	var spec map[string]any
	switch template := w.template(t); w.kind {
	case reloader.CronJob:
		spec = map[string]any{
			"schedule":    "0 0 29 2 *",
			"jobTemplate": map[string]any{"spec": map[string]any{"template": template, "parallelism": int64(w.replicas)}},
		}
	case reloader.Job:
		spec = map[string]any{"template": template, "parallelism": int64(w.replicas)}
	case reloader.DaemonSet:
		spec = map[string]any{"template": template, "selector": map[string]any{"matchLabels": w.labels()}}
		require.NoError(t, unstructured.SetNestedField(template, "node", "spec", "nodeSelector", "no"))
	case reloader.DeploymentConfig:
		spec = map[string]any{"template": template, "selector": w.labels(), "replicas": int64(w.replicas)}
	case reloader.Deployment, reloader.StatefulSet, reloader.Rollout:
		spec = map[string]any{
			"template": template, "selector": map[string]any{"matchLabels": w.labels()}, "replicas": int64(w.replicas),
		}
	}
	if w.kind == reloader.Rollout {
		spec["strategy"] = map[string]any{"canary": map[string]any{}}
	}
	for field, value := range w.spec {
		if spec[field] = value; value == nil {
			delete(spec, field)
		}
	}
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetGroupVersionKind(k.Resource.GroupVersion().WithKind(string(w.kind)))
	o.SetNamespace(w.ns)
	o.SetName(w.name)
	o.SetAnnotations(w.annotations)
	return o
}

func (w workload) create(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	o, err := objects(t, w.kind, w.ns).Create(t.Context(), w.object(t), metav1.CreateOptions{})
	require.NoError(t, err)
	return o
}

func (w workload) read(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	o, err := objects(t, w.kind, w.ns).Get(t.Context(), w.name, metav1.GetOptions{})
	require.NoError(t, err)
	return o
}

func (w workload) patch(t *testing.T, body string) {
	t.Helper()
	_, err := objects(t, w.kind, w.ns).Patch(t.Context(), w.name, types.MergePatchType, []byte(body), metav1.PatchOptions{})
	require.NoError(t, err)
}

func (w workload) delete(t *testing.T) {
	t.Helper()
	background := metav1.DeletePropagationBackground
	require.NoError(t, objects(t, w.kind, w.ns).Delete(t.Context(), w.name, metav1.DeleteOptions{PropagationPolicy: &background}))
}

// listed returns what there is of a kind, newest last.
func listed(t *testing.T, k reloader.WorkloadKind, ns string) []unstructured.Unstructured {
	t.Helper()
	list, err := objects(t, k, ns).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	return list.Items
}

// jobsOf returns the names of the Jobs that a CronJob controls.
func jobsOf(t *testing.T, cronJob *unstructured.Unstructured) (names []string) {
	t.Helper()
	for _, o := range listed(t, reloader.Job, cronJob.GetNamespace()) {
		if owner := metav1.GetControllerOf(&o); owner != nil && owner.UID == cronJob.GetUID() {
			names = append(names, o.GetName())
		}
	}
	return names
}

// templateOf decodes the pod template of an object.
func templateOf(t *testing.T, o *unstructured.Unstructured) corev1.PodTemplateSpec {
	t.Helper()
	fields, _, err := unstructured.NestedMap(o.Object, "spec", "template")
	require.NoError(t, err)
	raw, err := json.Marshal(fields)
	require.NoError(t, err)
	var template corev1.PodTemplateSpec
	require.NoError(t, json.Unmarshal(raw, &template))
	return template
}

func variable(template corev1.PodTemplateSpec, container, name string) string {
	for _, c := range template.Spec.Containers {
		for _, v := range c.Env {
			if c.Name == container && v.Name == name {
				return v.Value
			}
		}
	}
	return ""
}

func asMap(t *testing.T, of any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(of)
	require.NoError(t, err)
	o := new(unstructured.Unstructured)
	o.Object = map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &o.Object))
	return o.Object
}

// using is a pod that takes its environment from ConfigMaps.
func using(configMaps ...string) corev1.PodSpec {
	container := corev1.Container{Name: "app", Image: "registry.example/app:1"}
	for _, name := range configMaps {
		container.EnvFrom = append(container.EnvFrom, corev1.EnvFromSource{
			ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
		})
	}
	return corev1.PodSpec{Containers: []corev1.Container{container}}
}

func gone(t *testing.T, w workload) bool {
	t.Helper()
	_, err := objects(t, w.kind, w.ns).Get(t.Context(), w.name, metav1.GetOptions{})
	if err != nil {
		require.True(t, apierrors.IsNotFound(err), "%v", err)
	}
	return err != nil
}

func keys() annotation.Keys { return annotation.DefaultKeys() }

// requireReload makes a change and waits for the reload that it asks for.
func requireReload(t *testing.T, r *reports, w reloader.Workload, change func()) {
	t.Helper()
	before := r.count(w)
	change()
	require.Eventually(t, func() bool { return r.count(w) > before }, soon, often, w.String())
	assert.Equal(t, before+1, r.count(w))
}

// never makes sure, for a while, that something does not happen. Other than
// require.Never it has looked for the last time when it returns, so that the
// condition may make requests.
func never(t *testing.T, condition func() bool, what ...any) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for begun := time.Now(); time.Since(begun) < quiet; <-ticker.C {
		require.False(t, condition(), what...)
	}
}
