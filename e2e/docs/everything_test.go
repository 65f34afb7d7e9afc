package docs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster/process"
)

// A values file of Stakater's chart with everything in it switched on installs
// as it stands, by an upgrade, and its engines work.
func TestAllOfStakatersValues(t *testing.T) {
	s := newShell(t)
	s.bring(t, "csi.yaml", "kinds.yaml")
	const namespace = "everything"
	s.must(t, "kubectl apply -f charts/testdata/crds -f csi.yaml")
	require.NoError(t, shared.InstallDeploymentConfigs(t.Context()))
	require.NoError(t, shared.InstallRollouts(t.Context()))
	s.must(t, "kubectl wait --for=condition=Established --timeout=60s customresourcedefinitions --all")
	stakater(t, s, namespace, "--values charts/testdata/stakater-values.yaml")
	s.must(t, "kubectl create secret generic alert-settings --from-literal=info=test --namespace "+namespace)
	defer s.must(t, "helm uninstall reloader --namespace "+namespace)

	out, err := s.run(t, "helm upgrade reloader charts/reloader --values charts/testdata/stakater-values.yaml --wait --timeout 2m --namespace "+namespace)
	require.NoError(t, err, "%s\n%s", out, tails(t, namespace))

	deployment, err := shared.Client().AppsV1().Deployments(namespace).Get(t.Context(), "reloader-reloader", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, int32(2), deployment.Status.ReadyReplicas)
	assert.Equal(t, map[string]string{"app": "reloader-reloader", "release": "reloader", "part-of": "platform"}, deployment.Spec.Selector.MatchLabels)

	doesWhatItSays(t, s)
	requireNothingForbidden(t, namespace)
	looksBack(t, s, namespace)
	requireNothingForbidden(t, namespace)
	s.must(t, "kubectl delete namespace selected --wait=false")
}

// requireNothingForbidden holds that the chart has given the pods of a namespace
// every right that they have asked for.
func requireNothingForbidden(t *testing.T, namespace string) {
	t.Helper()
	pods, err := shared.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "release=reloader"})
	require.NoError(t, err)
	require.NotEmpty(t, pods.Items)
	for i := range pods.Items {
		pod := &pods.Items[i]
		text, err := os.ReadFile(shared.Pods().LogPath(namespace, pod.Name, pod.Spec.Containers[0].Name))
		require.NoError(t, err)
		var forbidden []string
		for line := range strings.Lines(string(text)) {
			if strings.Contains(strings.ToLower(line), "forbidden") {
				forbidden = append(forbidden, line)
			}
		}
		assert.Empty(t, forbidden, pod.Name)
	}
}

// doesWhatItSays holds that the engines do what the values file says: namespace
// and label select, the annotation has another name, what is written is an
// annotation, and every kind is reloaded.
func doesWhatItSays(t *testing.T, s *shell) {
	t.Helper()
	s.must(t, "kubectl apply -f kinds.yaml")
	s.must(t, "kubectl wait --for=jsonpath={.status.ready}=1 --timeout=60s job/app --namespace selected")
	want := []string{
		"CronJob/app", "DaemonSet/app", "Deployment/app", "DeploymentConfig/app", "Job/app", "Rollout/app", "StatefulSet/app", "Deployment/mounts",
	}
	version := 1
	var reloaded []string
	if !assert.Eventually(t, func() bool {
		// What is there when an engine looks first is no change.
		version++
		s.must(t, fmt.Sprintf(`
kubectl patch configmap settings --patch '{"data":{"A":"%[1]d"}}' --namespace selected
kubectl apply -f - <<<'{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClassPodStatus, metadata: {name: one, namespace: selected},
  status: {podName: one, secretProviderClassName: vault, mounted: true, objects: [{id: secret/vault, version: "%[1]d"}]}}'`, version))
		reloaded = strings.Fields(s.must(t, "kubectl get events --namespace selected --field-selector reason=Reloaded --output "+
			`jsonpath='{range .items[*]}{.involvedObject.kind}/{.involvedObject.name} {end}'`))
		return len(without(want, reloaded)) == 0
	}, 2*soon, 5*time.Second) {
		t.Log("not reloaded:", without(want, reloaded))
	}
	assert.Contains(t, lastReloadedFrom(t), "settings")
}

// looksBack holds that a change is rolled out that was made while no engine ran.
func looksBack(t *testing.T, s *shell, namespace string) {
	t.Helper()
	before := lastReloadedFrom(t)
	s.must(t, strings.ReplaceAll(`
kubectl scale deployment reloader-reloader --replicas=0 --namespace NAMESPACE
kubectl wait --for=delete pod --selector app=reloader-reloader --timeout=60s --namespace NAMESPACE
kubectl patch configmap settings --patch '{"data":{"A":"changed"}}' --namespace selected
kubectl scale deployment reloader-reloader --replicas=2 --namespace NAMESPACE`, "NAMESPACE", namespace))
	require.Eventually(t, func() bool { return lastReloadedFrom(t) != before }, soon, often)
}

// lastReloadedFrom is what the annotations strategy has written.
func lastReloadedFrom(t *testing.T) string {
	t.Helper()
	app, err := shared.Client().AppsV1().Deployments("selected").Get(t.Context(), "app", metav1.GetOptions{})
	require.NoError(t, err)
	return app.Spec.Template.Annotations["reloader.stakater.com/last-reloaded-from"]
}

// without returns the elements of all that some has not.
func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(one string) bool { return slices.Contains(some, one) })
}

// tails are the last lines of what the pods' processes wrote, for the log of a
// failure.
func tails(t *testing.T, namespace string) string {
	t.Helper()
	pods, err := shared.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	var b strings.Builder
	for i := range pods.Items {
		pod := &pods.Items[i]
		for _, container := range pod.Spec.Containers {
			fmt.Fprintf(&b, "%s:\n%s\n", pod.Name, process.Tail(shared.Pods().LogPath(namespace, pod.Name, container.Name), 512))
		}
	}
	return b.String()
}
