package docs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A release that watches its own namespace and another is asked about these, and
// about no other; its own objects neither need it nor wait for it.
func TestAReleaseForSomeNamespaces(t *testing.T) {
	s := newShell(t)
	s.must(t, `
for namespace in own watched elsewhere; do kubectl create namespace $namespace; done
helm install reloader charts/reloader --namespace own --set reloader.watchGlobally=false --set 'reloader.namespaces={own,watched}' --wait --timeout 3m`)
	defer s.must(t, "helm uninstall reloader --namespace own --wait; kubectl delete namespace own watched elsewhere --wait=false")

	app := func(namespace string) string {
		return s.must(t, strings.ReplaceAll(`
kubectl create configmap settings --from-literal=A=1 --namespace NAMESPACE
kubectl create deployment app --image=registry.example/app:1 --dry-run=client --output yaml |
  kubectl annotate -f - --local --output yaml reloader.stakater.com/auto=true reloader.stakater.com/serach=true |
  kubectl apply --namespace NAMESPACE -f -
kubectl set env deployment/app --from=configmap/settings --namespace NAMESPACE
kubectl get deployment app --namespace NAMESPACE --output jsonpath='{.metadata.annotations}'`, "NAMESPACE", namespace))
	}
	for namespace, watched := range map[string]bool{"own": true, "watched": true, "elsewhere": false} {
		out := app(namespace)
		assert.Equal(t, watched, strings.Contains(out, "Warning: reloader.stakater.com/serach is unknown"), "%s: %s", namespace, out)
		assert.Equal(t, watched, strings.Contains(out, "reloader.stakater.com/index"), "%s: %s", namespace, out)
		s.must(t, `kubectl patch configmap settings --patch '{"data":{"A":"2"}}' --namespace `+namespace)
	}
	reloaded := func(namespace string) bool {
		out := s.must(t, "kubectl get events --field-selector reason=Reloaded --output name --namespace "+namespace)
		return strings.Contains(out, "event/")
	}
	for _, namespace := range []string{"own", "watched"} {
		require.Eventually(t, func() bool { return reloaded(namespace) }, soon, often, namespace)
	}
	assert.False(t, reloaded("elsewhere"))

	// What has its labels is its own, and is not asked about.
	out := s.must(t, "kubectl annotate deployment reloader-reloader --namespace own reloader.stakater.com/serach=true")
	assert.NotContains(t, out, "Warning")
	requireNothingForbidden(t, "own")
}
