package standalone

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
)

// customKind is a CustomResourceDefinition of the group that Rollouts are in.
func customKind(plural, singular string) string {
	return strings.NewReplacer("PLURAL", plural, "KIND", singular).Replace(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: PLURAL.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {plural: PLURAL, kind: KIND}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`)
}

const rollout = `
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name: web
  namespace: default
  annotations: {reloader.stakater.com/auto: "true"}
spec:
  template:
    spec:
      containers: [{name: app, image: "registry.example/app:1", envFrom: [{configMapRef: {name: settings}}]}]
`

// A kind of workload that is not installed costs one small request in a while.
// It is followed from when it is installed until it is removed, and again.
func TestAKindThatIsInstalledLater(t *testing.T) {
	of, known := kind.BuiltIn().ByName(reloader.Rollout)
	require.True(t, known)
	ctx := t.Context()
	alone, err := cluster.Start(ctx, cluster.Options{AuditUsers: []string{restrictedUser}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, alone.Stop()) })
	apply := func(verb, text string) {
		t.Helper()
		_, err := alone.KubectlInput(ctx, text, verb, "-f", "-")
		require.NoError(t, err)
	}
	_, err = alone.Kubectl(ctx, "create", "namespace", restrictedNamespace)
	require.NoError(t, err)
	_, err = alone.Kubectl(ctx, "create", "serviceaccount", "-n", restrictedNamespace, restrictedName)
	require.NoError(t, err)
	_, err = alone.Kubectl(ctx, "create", "clusterrolebinding", "engine", "--clusterrole=cluster-admin", "--serviceaccount="+restrictedNamespace+":"+restrictedName)
	require.NoError(t, err)
	config, err := alone.ServiceAccountConfig(ctx, restrictedNamespace, restrictedName)
	require.NoError(t, err)
	rollouts, err := dynamic.NewForConfig(alone.RESTConfig())
	require.NoError(t, err)
	set := func(value string) {
		t.Helper()
		require.NoError(t, fixture.SetConfigMap(ctx, alone.Client(), "default", "settings", map[string]string{"a": value}))
	}
	requests := func() []cluster.AuditEvent {
		t.Helper()
		events, err := alone.AuditSince(0)
		require.NoError(t, err)
		return events
	}
	set("0")
	apply("create", customKind("applications", "Application"))
	require.Eventually(t, func() bool {
		_, err := alone.Kubectl(ctx, "get", "--raw", "/apis/argoproj.io/v1alpha1")
		return err == nil
	}, soon, often)
	var j journal
	e, r := startEngine(t, func(o *engine.Options) {
		o.Config, o.Log, o.LookInterval = config, j.logger(), time.Second
	})

	require.Eventually(t, func() bool {
		return 3 <= len(slices.DeleteFunc(requests(), func(e cluster.AuditEvent) bool { return e.RequestURI != "/apis" }))
	}, soon, often, "it is looked for")
	for _, request := range requests() {
		assert.Less(t, request.Code, 400, "%s %s", request.Verb, request.RequestURI)
	}
	// Installed, removed, installed again.
	for round := range 2 {
		apply("create", customKind("rollouts", "Rollout"))
		require.Eventually(t, func() bool {
			_, err := alone.KubectlInput(ctx, rollout, "create", "-f", "-")
			return err == nil
		}, soon, often)
		require.Eventually(t, func() bool { return e.Stats().Workloads == 1 }, soon, often)
		require.Never(t, func() bool { return r.count(theRollout()) > round }, quiet, often, "what is there is adopted")
		set(string(rune('1' + round)))
		require.Eventually(t, func() bool { return r.count(theRollout()) == round+1 }, soon, often)
		o, err := rollouts.Resource(of.Resource).Namespace("default").Get(ctx, "web", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Greater(t, o.GetGeneration(), int64(1))

		apply("delete", customKind("rollouts", "Rollout"))
		require.Eventually(t, func() bool { return e.Stats().Workloads == 0 }, soon, often)
		require.True(t, e.Ready())
	}
	assert.Empty(t, j.with("cannot"))
	assert.Empty(t, j.with("again"))
}

func theRollout() reloader.Workload {
	return reloader.Workload{Kind: "Rollout", Namespace: "default", Name: "web"}
}
