package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader/annotation"
)

// What the cluster holds: half of the chart's memory limit is 256 MiB.
const (
	// large objects of largeSize that no workload references, and as many again,
	// of one namespace, that one pattern matches.
	large     = 250
	largeSize = 1_000_000
	// annotated objects of each of four kinds carry an annotation of noteSize, of
	// another product.
	annotated = 250
	noteSize  = 250_000
	// writers write at the same time.
	writers = 8
)

// TestLargeObjectsTakeLittleMemory has 500 MB of objects in the cluster that are
// none of Reloader's concern, and 250 MB more that one CronJob depends on. Neither a
// start nor a change of all of the latter takes half of the engine's memory limit,
// whether the API server streams lists or not.
func TestLargeObjectsTakeLittleMemory(t *testing.T) {
	// A cluster of its own: the other tests' would be slow afterwards.
	c, err := cluster.Start(t.Context(), cluster.Options{Log: t.Output(), Images: images})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Stop()) }()
	w := weight{cluster: c}
	w.create(t)
	timed(t, "a start of a new release", func() {
		w.release, err = install.Chart(t.Context(), c, install.ChartOptions{Log: t.Output()})
		require.NoError(t, err)
	})
	w.requireEdits(t, 1)
	requireHalf(t, c, w.release)

	w.scale(t, 0)
	// As on Kubernetes 1.30, 1.31 and 1.33.
	require.NoError(t, c.Restart(t.Context(), cluster.APIServer, "--feature-gates=WatchList=false"))
	w.edit(t, 2)
	timed(t, "a start after changes, lists not streamed", func() { w.scale(t, 1) })
	w.requireRuns(t, 2*large)
	w.requireEdits(t, 3)
	requireHalf(t, c, w.release)
}

func timed(t *testing.T, what string, do func()) {
	t.Helper()
	began := time.Now()
	do()
	t.Logf("%s: %s", what, time.Since(began).Round(time.Millisecond))
}

// weight is a cluster with large objects.
type weight struct {
	cluster *cluster.Cluster
	release *install.Release
}

// hoard is the namespace of the CronJob all and the large ConfigMaps that it
// depends on.
const hoard = "hoard"

func (w *weight) create(t *testing.T) {
	t.Helper()
	client := w.cluster.Client()
	namespaces := []string{hoard, "strangers-0", "strangers-1", "strangers-2", "strangers-3"}
	for _, name := range namespaces {
		_, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	content, note := strings.Repeat("x", largeSize), strings.Repeat("x", noteSize)
	began := time.Now()
	w.each(t, large, func(ctx context.Context, i int) error {
		o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: hoard, Name: largeName(i)}, Data: map[string]string{"a": content}}
		_, err := client.CoreV1().ConfigMaps(hoard).Create(ctx, o, metav1.CreateOptions{})
		return err
	})
	w.each(t, large, func(ctx context.Context, i int) error {
		meta := metav1.ObjectMeta{Namespace: namespaces[1+i%4], Name: largeName(i)}
		if i%2 == 0 {
			_, err := client.CoreV1().ConfigMaps(meta.Namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"a": content}}, metav1.CreateOptions{})
			return err
		}
		_, err := client.CoreV1().Secrets(meta.Namespace).Create(ctx, &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"a": content}}, metav1.CreateOptions{})
		return err
	})
	w.each(t, annotated, func(ctx context.Context, i int) error {
		meta := metav1.ObjectMeta{Namespace: namespaces[1+i%4], Name: fmt.Sprint("annotated-", i), Annotations: map[string]string{"example.com/note": note}}
		return w.createAnnotated(ctx, meta, i%2 == 0)
	})
	_, err := client.BatchV1().CronJobs(hoard).Create(t.Context(), newCronJob(metav1.ObjectMeta{
		Namespace: hoard, Name: "all",
		Annotations: map[string]string{
			annotation.DefaultKeys().ConfigMapNamed: ".*",
			// So that a burst on a slow machine is not so many reloads that the
			// breaker opens.
			annotation.DefaultKeys().CoalesceWindow: "10s",
		},
	}, false), metav1.CreateOptions{})
	require.NoError(t, err)
	t.Logf("created %d MB in %s", (2*large*largeSize+4*annotated*noteSize)/1_000_000, time.Since(began).Round(time.Millisecond))
}

// createAnnotated creates one object of each kind. Workloads that opt in have no
// index record, since there is no webhook yet: the engine has to read them.
func (w *weight) createAnnotated(ctx context.Context, meta metav1.ObjectMeta, optIn bool) error {
	client := w.cluster.Client()
	if _, err := client.CoreV1().ConfigMaps(meta.Namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := client.CoreV1().Secrets(meta.Namespace).Create(ctx, &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if optIn {
		meta.Annotations = map[string]string{annotation.DefaultKeys().Auto: "true", "example.com/note": meta.Annotations["example.com/note"]}
	}
	if _, err := client.BatchV1().CronJobs(meta.Namespace).Create(ctx, newCronJob(meta, true), metav1.CreateOptions{}); err != nil {
		return err
	}
	labels := map[string]string{"app": meta.Name}
	_, err := client.AppsV1().Deployments(meta.Namespace).Create(ctx, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32),
		// Its controller would copy the annotation to a ReplicaSet.
		Paused:   true,
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: plainPod(corev1.RestartPolicyAlways)},
	}}, metav1.CreateOptions{})
	return err
}

func plainPod(restart corev1.RestartPolicy) corev1.PodSpec {
	return corev1.PodSpec{RestartPolicy: restart, Containers: []corev1.Container{{Name: "app", Image: "registry.example/app:1"}}}
}

func newCronJob(meta metav1.ObjectMeta, suspend bool) *batchv1.CronJob {
	o := &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", Suspend: &suspend}}
	o.Spec.JobTemplate.Spec.Template.Spec = plainPod(corev1.RestartPolicyNever)
	return o
}

func largeName(i int) string { return fmt.Sprint("large-", i) }

// each calls do for each number below count, some at a time.
func (w *weight) each(t *testing.T, count int, do func(ctx context.Context, i int) error) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(writers)
	for i := range count {
		group.Go(func() error { return do(ctx, i) })
	}
	require.NoError(t, group.Wait())
}

// requireEdits edits all of the large ConfigMaps in a burst, each for the nth time.
func (w *weight) requireEdits(t *testing.T, nth int) {
	t.Helper()
	timed(t, "a burst until all of it is rolled out", func() {
		w.edit(t, nth)
		w.requireRuns(t, nth*large)
	})
}

func (w *weight) edit(t *testing.T, nth int) {
	t.Helper()
	body := fmt.Appendf(nil, `{"data":{"edit":"%d"}}`, nth)
	w.each(t, large, func(ctx context.Context, i int) error {
		return w.cluster.Client().(*kubernetes.Clientset).CoreV1().RESTClient().Patch(types.MergePatchType).
			Namespace(hoard).Resource("configmaps").Name(largeName(i)).Body(body).
			// The answer is not used.
			SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").Do(ctx).Error()
	})
}

// requireRuns waits until the CronJob's runs are for so many changes of ConfigMaps in
// all: no edit is lost, and none is run for twice.
func (w *weight) requireRuns(t *testing.T, changes int) {
	t.Helper()
	require.EventuallyWithT(t, func(ct *assert.CollectT) {
		jobs, err := w.cluster.Client().BatchV1().Jobs(hoard).List(t.Context(), metav1.ListOptions{})
		require.NoError(ct, err)
		got := 0
		for i := range jobs.Items {
			got += changesOf(ct, &jobs.Items[i].Spec.Template)
		}
		assert.Equal(ct, changes, got)
	}, 2*soon, 10*often)
}

// changesOf returns how many changes a run is for: a variable each, or one annotation
// if there are many.
func changesOf(t require.TestingT, template *corev1.PodTemplateSpec) int {
	text, many := template.Annotations[annotation.DefaultKeys().LastReloadedFrom]
	if !many {
		return len(template.Spec.Containers[0].Env)
	}
	var marks struct {
		Also []any `json:"also"`
		More int   `json:"more"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &marks))
	return 1 + len(marks.Also) + marks.More
}

// scale ends the engine or starts another one, and waits for it to be ready.
func (w *weight) scale(t *testing.T, replicas int32) {
	t.Helper()
	scale := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.release.Namespace, Name: w.release.Engine},
		Spec:       autoscalingv1.ScaleSpec{Replicas: replicas},
	}
	_, err := w.cluster.Client().AppsV1().Deployments(w.release.Namespace).UpdateScale(t.Context(), w.release.Engine, scale, metav1.UpdateOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	defer cancel()
	require.NoError(t, w.release.AwaitReady(ctx))
}
