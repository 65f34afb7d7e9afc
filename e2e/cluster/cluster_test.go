package cluster

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

const webDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: example.com/web:1}
`

func TestStopLeavesNoProcessFolderOrGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx := t.Context()
	c, err := Start(ctx, Options{Images: map[string]string{serverImage: server}})
	require.NoError(t, err)
	_, err = c.Kubectl(ctx, "apply", "-f", "testdata/server.yaml")
	require.NoError(t, err)
	require.NoError(t, c.WaitForDeployment(ctx, "default", "server"))
	pids := c.group.PIDs()
	require.Len(t, pids, 8, "the guard, five components and two pods")

	require.NoError(t, c.Stop())
	require.NoError(t, c.Stop(), "stopping again does nothing")

	for _, pid := range pids {
		assert.False(t, runs(pid), "process %d", pid)
	}
	assert.NoDirExists(t, c.Dir())
}

func TestStartReportsAComponentThatEnds(t *testing.T) {
	dir := t.TempDir()
	_, err := Start(t.Context(), Options{Dir: dir, APIServerArgs: []string{"--no-such-flag"}})

	require.ErrorContains(t, err, "unknown flag: --no-such-flag")
	assert.ErrorContains(t, err, filepath.Join(dir, "logs", "kube-apiserver.log"))
}

func TestOptionsReportEverythingWrong(t *testing.T) {
	err := Options{
		Nodes:       -1,
		Images:      map[string]string{"a/b:1": "/no/such/program"},
		PodEnv:      []string{"NAME"},
		AuditUsers:  []string{"someone"},
		AuditPolicy: "rules: []",
	}.Validate()

	for _, want := range []string{"nodes (-1)", "image a/b:1", `"NAME"`, "exclude each other"} {
		assert.ErrorContains(t, err, want)
	}
}

func TestDeploymentRollsOnTemplateEdit(t *testing.T) {
	ctx := t.Context()
	namespace := newNamespace(t, "rolls")
	_, err := shared.KubectlInput(ctx, webDeployment, "apply", "-n", namespace, "-f", "-")
	require.NoError(t, err)
	require.NoError(t, shared.WaitForDeployment(ctx, namespace, "web"))

	patch := `{"spec":{"template":{"metadata":{"annotations":{"edited":"yes"}}}}}`
	_, err = shared.Client().AppsV1().Deployments(namespace).
		Patch(ctx, "web", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
	require.NoError(t, shared.WaitForDeployment(ctx, namespace, "web"))

	sets, err := shared.Client().AppsV1().ReplicaSets(namespace).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	replicas := map[string]int32{}
	for _, set := range sets.Items {
		replicas[set.Spec.Template.Annotations["edited"]] = set.Status.ReadyReplicas
	}
	assert.Equal(t, map[string]int32{"": 0, "yes": 3}, replicas)
}

func TestHelmInstallsAndWaits(t *testing.T) {
	ctx := t.Context()
	namespace := newNamespace(t, "helm")
	chart := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(chart, "templates"), 0o750))
	for name, content := range map[string]string{
		"Chart.yaml":         "apiVersion: v2\nname: web\nversion: 1.0.0\n",
		"templates/web.yaml": webDeployment,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(chart, name), []byte(content), 0o600))
	}

	_, err := shared.Helm(ctx, "install", "web", chart, "-n", namespace, "--wait", "--timeout", "1m")

	require.NoError(t, err)
	deployment, err := shared.Client().AppsV1().Deployments(namespace).Get(ctx, "web", metav1.GetOptions{})
	require.NoError(t, err)
	assert.True(t, deploymentComplete(deployment))
}

func TestAuditLogHasTheRequestsOfItsUsers(t *testing.T) {
	ctx := t.Context()
	// Not made anew by each run of the test: the audit policy has its name.
	_, err := shared.KubectlInput(ctx, `
apiVersion: v1
kind: Namespace
metadata: {name: audited}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: caller, namespace: audited}
`, "apply", "-f", "-")
	require.NoError(t, err)
	config, err := shared.ServiceAccountConfig(ctx, "audited", "caller")
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)

	_, err = client.CoreV1().Secrets("audited").Get(ctx, "before", metav1.GetOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	mark, err := shared.AuditMark()
	require.NoError(t, err)
	_, err = client.CoreV1().Secrets("audited").Get(ctx, "after", metav1.GetOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)

	events, err := shared.AuditSince(mark)
	require.NoError(t, err)
	require.Len(t, events, 1)
	events[0].UserAgent = ""
	assert.WithinDuration(t, time.Now(), events[0].Time, time.Minute)
	events[0].Time = time.Time{}
	assert.Equal(t, AuditEvent{
		Verb: "get", User: sharedUser, Resource: "secrets", Namespace: "audited", Name: "after",
		RequestURI: "/api/v1/namespaces/audited/secrets/after", Code: 403,
	}, events[0])
}

func TestClusterSurvivesItsAPIServerAndEtcd(t *testing.T) {
	ctx := t.Context()
	c, err := Start(ctx, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Stop()) }()
	before, err := c.PID(APIServer)
	require.NoError(t, err)

	require.NoError(t, c.Signal(APIServer, syscall.SIGKILL))
	_, err = c.PID(APIServer)
	require.Error(t, err)
	require.NoError(t, c.Restart(ctx, APIServer, "--feature-gates=WatchList=false"))
	const streamed = "/api/v1/namespaces?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
	_, err = c.Kubectl(ctx, "get", "--raw", streamed)
	require.ErrorContains(t, err, "WatchList", "the argument has come")
	require.NoError(t, c.Restart(ctx, APIServer))
	_, err = c.Kubectl(ctx, "get", "--raw", streamed)
	require.NoError(t, err, "and is gone with the next restart")

	require.NoError(t, c.Restart(ctx, Etcd))

	after, err := c.PID(APIServer)
	require.NoError(t, err)
	assert.NotEqual(t, before, after)
	_, err = c.KubectlInput(ctx, webDeployment, "apply", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, c.WaitForDeployment(ctx, "default", "web"))
	soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	assert.NoError(t, c.Wait(soon), "a wanted end is no failure")

	require.NoError(t, c.components[Kwok].process.Signal(syscall.SIGKILL))
	assert.ErrorContains(t, c.Wait(ctx), "kwok ended")
}

func TestDeploymentComplete(t *testing.T) {
	tests := map[string]struct {
		status string
		want   bool
	}{
		"all replicas new and available":    {"{observedGeneration: 2, replicas: 1, updatedReplicas: 1, availableReplicas: 1}", true},
		"the controller has not looked yet": {"{observedGeneration: 1, replicas: 1, updatedReplicas: 1, availableReplicas: 1}", false},
		"an old pod is left":                {"{observedGeneration: 2, replicas: 2, updatedReplicas: 1, availableReplicas: 1}", false},
		"the new pod is not available":      {"{observedGeneration: 2, replicas: 1, updatedReplicas: 1}", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
			require.NoError(t, yaml.Unmarshal([]byte(tc.status), &deployment.Status))
			assert.Equal(t, tc.want, deploymentComplete(deployment))
		})
	}
}

// newNamespace makes a namespace in the shared cluster whose ServiceAccount is
// there, so that pods can be created at once. Its name begins with prefix.
func newNamespace(t *testing.T, prefix string) string {
	t.Helper()
	ctx := t.Context()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-"}}
	namespace, err := shared.Client().CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := shared.Client().CoreV1().ServiceAccounts(namespace.Name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	}, patience, often)
	return namespace.Name
}
