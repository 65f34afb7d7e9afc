package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/cluster/binaries"
	"k8s-reloader/e2e/cluster/process"
	"k8s-reloader/reloader/annotation"
)

// ChartOptions say how the chart is installed. The zero value is the release
// "reloader" in the namespace of that name, with the chart's own values.
type ChartOptions struct {
	Namespace string
	Release   string
	// Values replace the chart's, as a values file would. The image and the
	// full name are Chart's to set.
	Values map[string]any
	// Folder of the chart; default: this checkout's.
	Folder string
	// Image that the pods run; default: Image.
	Image string
	// Force takes back what others have changed by hand in the release's
	// objects, where the upgrade would fail.
	Force bool
	// Timeout for the pods to become ready; default 2 minutes.
	Timeout time.Duration
	// Log receives progress for humans; nil is silent.
	Log io.Writer
}

// Release is an installed chart.
type Release struct {
	Namespace string
	// Engine and Webhook name a Deployment and its ServiceAccount each.
	Engine, Webhook string
	// WebhookEnabled is false if the values say so; then there is no such
	// Deployment.
	WebhookEnabled bool

	cluster *cluster.Cluster
	log     io.Writer
}

// EngineUser is the engine as the API server knows it.
func (r *Release) EngineUser() string {
	return "system:serviceaccount:" + r.Namespace + ":" + r.Engine
}

// Chart installs the chart, or upgrades the release to other values, and
// returns when both parts do their work: the pods of the new values, and no
// others, are ready, and the API server asks the webhook.
func Chart(ctx context.Context, c *cluster.Cluster, o ChartOptions) (*Release, error) {
	o.setDefaults()
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	began := time.Now()
	if err := o.helm(ctx, c); err != nil {
		return nil, err
	}
	// Both names follow from fullnameOverride.
	r := &Release{Namespace: o.Namespace, Engine: o.Release, Webhook: o.Release + "-webhook", cluster: c, log: o.Log}
	_, err := c.Client().AppsV1().Deployments(r.Namespace).Get(ctx, r.Webhook, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read the webhook's Deployment: %w", err)
	}
	r.WebhookEnabled = err == nil
	if err := r.AwaitReady(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Log, "installed the chart, all pods ready in %.1f s\n", time.Since(began).Seconds())
	return r, nil
}

func (o *ChartOptions) setDefaults() {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Release == "" {
		o.Release = "reloader"
	}
	if o.Namespace == "" {
		o.Namespace = "reloader"
	}
	if o.Image == "" {
		o.Image = Image
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
}

func (o *ChartOptions) helm(ctx context.Context, c *cluster.Cluster) error {
	if o.Folder == "" {
		root, err := binaries.Root()
		if err != nil {
			return err
		}
		o.Folder = filepath.Join(root, "charts", "reloader")
	}
	values := maps.Clone(o.Values)
	if values == nil {
		values = map[string]any{}
	}
	repository, tag, _ := strings.Cut(o.Image, ":")
	values["image"] = map[string]any{"repository": repository, "tag": tag}
	values["fullnameOverride"] = o.Release
	// All pods share the machine's loopback network.
	values["listenHost"] = "$(POD_IP)"
	text, err := json.Marshal(values)
	if err != nil {
		return fmt.Errorf("encode the chart's values: %w", err)
	}
	file := filepath.Join(c.Dir(), "values-"+o.Namespace+"-"+o.Release+".json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write the chart's values: %w", err)
	}
	// Not --wait: AwaitReady waits for more, and tells what it waits for.
	args := []string{
		"upgrade", o.Release, o.Folder,
		"--install", "--namespace", o.Namespace, "--create-namespace", "--values", file,
	}
	if o.Force {
		args = append(args, "--force-conflicts")
	}
	_, err = c.Helm(ctx, args...)
	return err
}

// AwaitReady returns when the release works, as Chart does; it is for those who
// have disturbed it.
func (r *Release) AwaitReady(ctx context.Context) error {
	names := []string{r.Engine}
	if r.WebhookEnabled {
		names = append(names, r.Webhook)
	}
	told := map[string]bool{}
	for _, name := range names {
		err := poll(ctx, "the pods of "+name, func(ctx context.Context) (bool, error) { return r.complete(ctx, name, told) })
		if err != nil {
			return err
		}
	}
	if !r.WebhookEnabled {
		return nil
	}
	return poll(ctx, "the API server to ask the webhook", r.asked)
}

// complete reports whether a Deployment's rollout is, and the old pods have
// ended: one that is ending still works, with what it was started with. It
// tells, once per pod, about a process that ended by itself.
func (r *Release) complete(ctx context.Context, name string, told map[string]bool) (bool, error) {
	deployment, err := r.cluster.Client().AppsV1().Deployments(r.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("read the Deployment %s: %w", name, err)
	}
	pods, err := r.Pods(ctx, name)
	if err != nil {
		return false, err
	}
	for i := range pods {
		pod := &pods[i]
		for _, status := range pod.Status.ContainerStatuses {
			if status.LastTerminationState.Terminated == nil || told[pod.Name] {
				continue
			}
			told[pod.Name] = true
			last := strings.Split(strings.TrimSpace(process.Tail(r.cluster.Pods().LogPath(r.Namespace, pod.Name, status.Name), 1024)), "\n")
			fmt.Fprintf(r.log, "pod %s ended with status %d and is started again: %s\n",
				pod.Name, status.LastTerminationState.Terminated.ExitCode, last[len(last)-1])
		}
	}
	want, status := int32(1), deployment.Status
	if deployment.Spec.Replicas != nil {
		want = *deployment.Spec.Replicas
	}
	return status.ObservedGeneration >= deployment.Generation && status.Replicas == want &&
		status.UpdatedReplicas == want && status.AvailableReplicas == want && len(pods) == int(want), nil
}

// Pods returns the pods of the engine or the webhook.
func (r *Release) Pods(ctx context.Context, deployment string) ([]corev1.Pod, error) {
	pods, err := r.cluster.Client().CoreV1().Pods(r.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + deployment})
	if err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", deployment, err)
	}
	return pods.Items, nil
}

// asked reports whether a Deployment that opts in gets its record, which takes
// the API server to have noticed the CA, and the Service to lead to a pod.
func (r *Release) asked(ctx context.Context) (bool, error) {
	keys := annotation.DefaultKeys()
	labels := map[string]string{"app": "probe"}
	probe := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "probe", Annotations: map[string]string{keys.ConfigMapNamed: "probe"}},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "probe", Image: "registry.example/probe:1"}}},
			},
		},
	}
	created, err := r.cluster.Client().AppsV1().Deployments(metav1.NamespaceDefault).
		Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return false, fmt.Errorf("probe the webhook: %w", err)
	}
	return created.Annotations[keys.Index] != "", nil
}

// poll returns when the condition holds. An error of the condition is reported
// when the time is up.
func poll(ctx context.Context, what string, condition func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		ok, err := condition(ctx)
		if ok {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, errors.Join(ctx.Err(), last))
		case <-ticker.C:
		}
	}
}
