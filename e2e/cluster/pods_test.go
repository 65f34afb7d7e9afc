package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const serverImage = "example.com/server:test"

// buildServer compiles testdata/server into dir and returns its path.
func buildServer(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "server")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./testdata/server")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the test server: %w\n%s", err, out)
	}
	return path, nil
}

func TestPodRunsAsAProcess(t *testing.T) {
	namespace := newNamespace(t, "pod-runs")
	url := deployServer(t, namespace)

	pods := serverPods(t, namespace)
	require.Len(t, pods, 2)
	seen := map[string]map[string]string{}
	for range 2 * len(pods) {
		about := askAbout(t, url)
		seen[about["POD_NAME"]] = about
	}
	require.Len(t, seen, 2, "the Service leads to both pods")

	for _, pod := range pods {
		about := seen[pod.Name]
		want := map[string]string{
			"args":          "--name=" + pod.Name + " --literal=$(POD_NAME) --unknown=$(NOBODY)",
			"configMaps":    "allowed",
			"secrets":       "forbidden",
			"POD_NAMESPACE": namespace,
			"POD_IP":        pod.Status.PodIP,
			"ACCOUNT":       "server",
			"CPUS":          "2",
			"MEMORY":        "64",
			"WELCOME":       "hello, " + namespace,
			"EXTRA":         "from the options",
		}
		for name, value := range want {
			assert.Equal(t, value, about[name], name)
		}
		assert.NotContains(t, about, "NOTHING", "an optional key that is absent sets nothing")
		usage, err := shared.Pods().Usage(namespace, pod.Name)
		require.NoError(t, err)
		assert.Greater(t, usage.Resident, int64(1<<20))
		assert.GreaterOrEqual(t, usage.PeakResident, usage.Resident)
	}
	assert.NotEqual(t, pods[0].Status.PodIP, pods[1].Status.PodIP)
}

func TestPodThatIsNotReadyGetsNoConnections(t *testing.T) {
	namespace := newNamespace(t, "pod-unready")
	url := deployServer(t, namespace)
	unready := serverPods(t, namespace)[0]

	get(t, "http://"+net.JoinHostPort(unready.Status.PodIP, "8080")+"/unready")
	require.Eventually(t, func() bool { return !isReady(getPod(t, namespace, unready.Name)) }, patience, often)

	for range 4 {
		assert.NotEqual(t, unready.Name, askAbout(t, url)["POD_NAME"])
	}
}

func TestPodIsRestartedWhenItsProcessEnds(t *testing.T) {
	namespace := newNamespace(t, "pod-restarts")
	deployServer(t, namespace)
	name := serverPods(t, namespace)[0].Name
	before, err := shared.Pods().PID(namespace, name)
	require.NoError(t, err)

	require.NoError(t, shared.Pods().Kill(namespace, name, syscall.SIGKILL))

	require.Eventually(t, func() bool {
		pod := getPod(t, namespace, name)
		return isReady(pod) && pod.Status.ContainerStatuses[0].RestartCount == 1
	}, patience, often)
	pod := getPod(t, namespace, name)
	require.NotNil(t, pod.Status.ContainerStatuses[0].LastTerminationState.Terminated)
	assert.Equal(t, int32(137), pod.Status.ContainerStatuses[0].LastTerminationState.Terminated.ExitCode)
	after, err := shared.Pods().PID(namespace, name)
	require.NoError(t, err)
	assert.NotEqual(t, before, after)
}

func TestPodEndsGracefully(t *testing.T) {
	ctx := t.Context()
	namespace := newNamespace(t, "pod-ends")
	url := deployServer(t, namespace)
	pods := serverPods(t, namespace)
	var pids []int
	for _, pod := range pods {
		pid, err := shared.Pods().PID(namespace, pod.Name)
		require.NoError(t, err)
		pids = append(pids, pid)
	}

	_, err := shared.Kubectl(ctx, "delete", "deployment", "server", "-n", namespace)
	require.NoError(t, err)

	require.Eventually(t, func() bool { return len(serverPods(t, namespace)) == 0 }, patience, often)
	for i, pod := range pods {
		assert.False(t, runs(pids[i]), "process %d", pids[i])
		log, err := os.ReadFile(shared.Pods().LogPath(namespace, pod.Name, "server"))
		require.NoError(t, err)
		assert.Equal(t, "listening on "+pod.Status.PodIP+":8080\nended by SIGTERM\n", string(log))
	}
	assert.Eventually(t, func() bool {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/ready", http.NoBody)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
		}
		return err != nil
	}, patience, often, "without pods the Service refuses connections")
}

func TestPodsRollWithTheirDeployment(t *testing.T) {
	ctx := t.Context()
	namespace := newNamespace(t, "pod-rolls")
	deployServer(t, namespace)
	old := serverPods(t, namespace)

	_, err := shared.Kubectl(ctx, "rollout", "restart", "deployment/server", "-n", namespace)
	require.NoError(t, err)
	require.NoError(t, shared.WaitForDeployment(ctx, namespace, "server"))

	names := map[string]bool{}
	for _, pod := range old {
		names[pod.Name] = true
	}
	require.Eventually(t, func() bool { return len(serverPods(t, namespace)) == 2 }, patience, often)
	for _, pod := range serverPods(t, namespace) {
		assert.False(t, names[pod.Name], pod.Name)
		assert.True(t, isReady(&pod), pod.Name)
	}
}

func TestJobWithAProcessFails(t *testing.T) {
	ctx := t.Context()
	namespace := newNamespace(t, "pod-job")
	// The server fails: nobody can listen on .invalid.
	_, err := shared.KubectlInput(ctx, `
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: server
        image: `+serverImage+`
        env: [{name: POD_IP, value: ".invalid"}]
`, "apply", "-n", namespace, "-f", "-")
	require.NoError(t, err)

	require.Eventually(t, func() bool {
		job, err := shared.Client().BatchV1().Jobs(namespace).Get(ctx, "job", metav1.GetOptions{})
		return err == nil && job.Status.Failed == 1
	}, patience, often)
}

// deployServer returns the URL of the Service, once its pods are ready.
func deployServer(t *testing.T, namespace string) string {
	t.Helper()
	ctx := t.Context()
	_, err := shared.Kubectl(ctx, "apply", "-n", namespace, "-f", "testdata/server.yaml")
	require.NoError(t, err)
	require.NoError(t, shared.WaitForDeployment(ctx, namespace, "server"))
	service, err := shared.Client().CoreV1().Services(namespace).Get(ctx, "server", metav1.GetOptions{})
	require.NoError(t, err)
	address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	require.Eventually(t, func() bool {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return err == nil && conn.Close() == nil
	}, patience, often)
	return "http://" + address
}

func serverPods(t *testing.T, namespace string) []corev1.Pod {
	t.Helper()
	list, err := shared.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=server"})
	require.NoError(t, err)
	return list.Items
}

func getPod(t *testing.T, namespace, name string) *corev1.Pod {
	t.Helper()
	pod, err := shared.Client().CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return pod
}

func isReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func askAbout(t *testing.T, url string) map[string]string {
	t.Helper()
	var about map[string]string
	require.NoError(t, json.Unmarshal(get(t, url+"/about"), &about))
	return about
}

// get makes a connection of its own: the Service picks a pod for each.
func get(t *testing.T, url string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", body)
	return body
}
