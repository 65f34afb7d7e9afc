package docs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestInstalling(t *testing.T) {
	s := newShell(t)
	s.walk(t, "docs/install.md")

	// Nothing of it is left.
	out := s.must(t, "kubectl get clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations --output name")
	assert.NotContains(t, strings.ReplaceAll(out, "reloader.stakater.com", ""), "reloader")
}

func TestUninstallingLeavesNothingInTheNamespace(t *testing.T) {
	s := newShell(t)
	// The namespace lets in nothing but what is restricted.
	s.must(t, `
kubectl create namespace left
kubectl label namespace left pod-security.kubernetes.io/enforce=restricted
helm install reloader charts/reloader --namespace left --wait --timeout 3m --set reloader.enableHA=true
helm uninstall reloader --namespace left --wait`)
	var left []string
	if !assert.Eventually(t, func() bool {
		left = strings.Fields(s.must(t,
			"kubectl get all,configmaps,secrets,serviceaccounts,roles,rolebindings,leases,poddisruptionbudgets --namespace left --output name"))
		return slices.Equal(left, []string{"configmap/kube-root-ca.crt", "serviceaccount/default"})
	}, soon, often) {
		t.Log(left)
	}
}

// stakater installs the release that the page about moving over begins with, as
// Helm's former or present version does it, and what Stakater's program makes
// itself when it runs.
func stakater(t *testing.T, s *shell, namespace, helmFlags string) {
	t.Helper()
	s.must(t, fmt.Sprintf(`helm install reloader charts/testdata/stakater --namespace %s --create-namespace %s`, namespace, helmFlags))
	for _, manifest := range []string{
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: reloader-meta-info, labels: {reloader.stakater.com/meta-info: reloader}}, data: {buildInfo: '{}'}}",
		"{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: stakater-reloader-lock}}",
	} {
		_, err := shared.KubectlInput(t.Context(), manifest, "create", "--namespace", namespace, "-f", "-")
		require.NoError(t, err)
	}
}

// shop makes an app that has been taken care of. Each of its templates is rolled
// out, and leaves a ReplicaSet.
func shop(t *testing.T, s *shell) {
	t.Helper()
	s.must(t, `
kubectl create configmap shop-settings --from-literal=COLOR=red
kubectl create deployment shop --image=registry.example/shop:1
kubectl rollout status deployment/shop --timeout=2m
kubectl set env deployment/shop --from=configmap/shop-settings
kubectl rollout status deployment/shop --timeout=2m
kubectl annotate deployment shop reloader.stakater.com/auto=true`)
}

func TestMovingOver(t *testing.T) {
	s := newShell(t)
	shop(t, s)
	stakater(t, s, "reloader", `--server-side=false \
  --set reloader.reloadStrategy=annotations --set reloader.logFormat=json --set reloader.podDisruptionBudget.enabled=true`)
	s.walk(t, "docs/migrate.md")
	// As created, with its environment, and reloaded once: the page's change. The
	// move itself and the way back have rolled nothing.
	out := s.must(t, "kubectl get replicasets --selector app=shop --output name")
	assert.Len(t, strings.Fields(out), 3)
	s.must(t, "helm uninstall reloader --namespace reloader --wait; kubectl delete deployment shop; kubectl delete configmap shop-settings")
}

// Whichever Helm has installed Stakater's chart, what is there is taken over and
// not replaced.
func TestMovingOverKeepsTheObjects(t *testing.T) {
	for version, flags := range map[string]string{"3": "--server-side=false", "4": "--server-side=true"} {
		t.Run("installed by Helm "+version, func(t *testing.T) {
			namespace := "moving-" + version
			s := newShell(t)
			stakater(t, s, namespace, flags)
			before := objects(t, namespace)
			s.must(t, "helm upgrade reloader charts/reloader --set reloader.enableHA=true --wait --timeout 3m --namespace "+namespace)
			assert.Equal(t, before, objects(t, namespace))
			s.must(t, "helm upgrade reloader charts/reloader --set reloader.enableHA=true --wait --timeout 3m --namespace "+namespace)
			s.must(t, "helm uninstall reloader --wait --namespace "+namespace)
			out := s.must(t, "kubectl get configmaps,leases --output name --namespace "+namespace)
			assert.ElementsMatch(t, []string{
				"configmap/kube-root-ca.crt", "configmap/reloader-meta-info", "lease.coordination.k8s.io/stakater-reloader-lock",
			}, strings.Fields(out), "what Stakater's Reloader made is its user's")
		})
	}
}

// objects are the UIDs of what both charts have, by kind.
func objects(t *testing.T, namespace string) map[string]string {
	t.Helper()
	c := shared.Client()
	deployment, err := c.AppsV1().Deployments(namespace).Get(t.Context(), "reloader-reloader", metav1.GetOptions{})
	require.NoError(t, err)
	account, err := c.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "reloader-reloader", metav1.GetOptions{})
	require.NoError(t, err)
	role, err := c.RbacV1().ClusterRoles().Get(t.Context(), "reloader-reloader-role", metav1.GetOptions{})
	require.NoError(t, err)
	binding, err := c.RbacV1().ClusterRoleBindings().Get(t.Context(), "reloader-reloader-role-binding", metav1.GetOptions{})
	require.NoError(t, err)
	return map[string]string{
		"Deployment": string(deployment.UID), "ServiceAccount": string(account.UID),
		"ClusterRole": string(role.UID), "ClusterRoleBinding": string(binding.UID),
	}
}
