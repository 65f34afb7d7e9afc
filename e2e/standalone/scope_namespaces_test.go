package standalone

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/engine"
)

func TestANamespaceThatIsRelabelledJoinsOrLeavesAtOnce(t *testing.T) {
	const key = "relabelled"
	ns, kept := namespace(t, "relabelled"), namespace(t, "relabelled-checkpoint")
	app, calm := newApp(t, ns, "app"), newApp(t, ns, "calm")
	e, r := startEngine(t, scoped(selects(t, key)), remembering(t, kept))
	assert.Zero(t, e.Stats().Workloads)
	joins := func() {
		t.Helper()
		label(t, ns, key, "yes")
		require.Eventually(t, func() bool { return e.Stats().Workloads > 0 }, soon, often)
	}
	leaves := func() {
		t.Helper()
		label(t, ns, key, "")
		require.Eventually(t, func() bool { return e.Stats().Workloads == 0 }, soon, often)
	}
	saved := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return e.Stats().Sources == n }, soon, often)
		stays(t, r, app, calm)
	}

	joins()
	saved(2)
	assert.Zero(t, r.count(app.Workload()), "what was there is adopted")
	edit(t, ns, "app", "1")
	reloads(t, r, app, 1)

	leaves()
	edit(t, ns, "app", "2")
	stays(t, r, app, calm)
	joins()
	reloads(t, r, app, 2)
	stays(t, r, app, calm)
	assert.Zero(t, r.count(calm.Workload()), "nothing has changed")

	leaves()
	joins()
	stays(t, r, app, calm)

	t.Run("and while it is out, workloads and sources may come and go", func(t *testing.T) {
		leaves()
		maps := shared.Client().CoreV1().ConfigMaps(ns)
		require.NoError(t, maps.Delete(t.Context(), "app", metav1.DeleteOptions{}))
		edit(t, ns, "app", "3")
		require.NoError(t, deployments(ns).Delete(t.Context(), "calm", metav1.DeleteOptions{}))
		late := newApp(t, ns, "late")
		joins()
		reloads(t, r, app, 3)
		stays(t, r, app, calm, late)
		edit(t, ns, "late", "1")
		reloads(t, r, late, 1)
	})

	t.Run("and what was due when it left is due when it joins", func(t *testing.T) {
		slow := newApp(t, ns, "slow", func(a *fixture.App) { a.Annotations["reloader.stakater.com/coalesce-window"] = "8s" })
		require.Eventually(t, func() bool { return e.Stats().Workloads == 3 }, soon, often)
		stays(t, r, slow)
		edit(t, ns, "slow", "1")
		// Its window has begun when another one's reload is over.
		edit(t, ns, "app", "4")
		reloads(t, r, app, 4)
		leaves()
		stays(t, r, slow)
		joins()
		reloads(t, r, slow, 1)
		assert.Equal(t, 4, r.count(app.Workload()))
	})
}

func TestAChangeBeforeTheNextStartIsNotLostWithANamespace(t *testing.T) {
	const key = "restarted"
	ns, kept := namespace(t, "restarted"), namespace(t, "restarted-checkpoint")
	app := newApp(t, ns, "app")
	label(t, ns, key, "yes")
	keep := remembering(t, kept)
	t.Run("the first engine adopts it, and it leaves", func(t *testing.T) {
		e, _ := startEngine(t, scoped(selects(t, key)), keep)
		require.Equal(t, 1, e.Stats().Workloads)
		label(t, ns, key, "")
		require.Eventually(t, func() bool { return e.Stats().Workloads == 0 }, soon, often)
	})
	t.Run("the second never sees it", func(t *testing.T) {
		_, r := startEngine(t, scoped(selects(t, key)), keep)
		edit(t, ns, "app", "1")
		stays(t, r, app)
	})
	t.Run("with the third it joins", func(t *testing.T) {
		_, r := startEngine(t, scoped(selects(t, key)), keep)
		label(t, ns, key, "yes")
		reloads(t, r, app, 1)
	})
}

// Joining costs one list per kind of workload and what has to be read for the
// first time, and nothing in other namespaces.
func TestJoiningCostsAListPerKind(t *testing.T) {
	const key = "counted"
	ns := namespace(t, "counted")
	allow(t, "", "counted", readSources("configmaps", "secrets"), writeWorkloads("deployments", "statefulsets", "daemonsets"),
		rule("", []string{"get", "list", "watch"}, "namespaces"))
	for i := range 40 {
		newApp(t, ns, fmt.Sprintf("app-%d", i))
	}
	config := restricted(t)
	e, r := startEngine(t, scoped(selects(t, key)), func(o *engine.Options) { o.Config = config })
	start := mark(t)
	label(t, ns, key, "yes")
	require.Eventually(t, func() bool { return e.Stats().Workloads == 40 }, soon, often)
	app := fixture.App{Namespace: ns, Name: "app-1"}
	reloaded := func(context.Context) (bool, error) { return r.count(app.Workload()) > 0, nil }
	// What is found at the first look is adopted, and nothing tells when that
	// was: an edit before it reloads nothing, the next one does.
	for i, err := 0, context.DeadlineExceeded; err != nil; i++ {
		require.Less(t, i, 3, "it reloads")
		edit(t, ns, app.Name, fmt.Sprint(i+1))
		err = wait.PollUntilContextTimeout(t.Context(), often, soon/3, true, reloaded)
	}
	counted := map[string]int{}
	require.Eventually(t, func() bool {
		clear(counted)
		for _, request := range asked(t, start) {
			assert.Equal(t, ns, request.Namespace, "%s %s", request.Verb, request.RequestURI)
			counted[request.Verb+" "+request.Resource]++
		}
		return counted["patch deployments"] > 0 && counted["list statefulsets"] > 0 && counted["list daemonsets"] > 0
	}, soon, often)
	assert.Equal(t, 1, counted["list statefulsets"])
	assert.Equal(t, 1, counted["list daemonsets"])
	assert.LessOrEqual(t, counted["list deployments"], 2, "their metadata, and them all at once")
	assert.LessOrEqual(t, counted["list configmaps"]+counted["get configmaps"], 43)
	assert.Equal(t, 1, counted["patch deployments"])
	assert.NotContains(t, counted, "watch deployments")
}

func TestNamespacesThatMayNotBeWatchedHoldUpNothing(t *testing.T) {
	const key = "unwatched"
	ns := namespace(t, "unwatched")
	label(t, ns, key, "yes")
	app := newApp(t, ns, "app")
	rest := []rbacv1.PolicyRule{readSources("configmaps", "secrets"), writeWorkloads("deployments", "statefulsets", "daemonsets")}
	allow(t, "", "unwatched", rest...)
	config := restricted(t)
	var j journal
	e, r := startEngine(t, scoped(selects(t, key)), func(o *engine.Options) { o.Config, o.Log = config, j.logger() })
	assert.Zero(t, e.Stats().Workloads)
	assert.Len(t, j.with("forbidden, so", `"namespaces"`), 1)
	allow(t, "", "unwatched-later", rule("", []string{"list", "watch"}, "namespaces"))
	require.Eventually(t, func() bool { return e.Stats().Workloads == 1 }, soon, often)
	stays(t, r, app)
	edit(t, ns, "app", "1")
	reloads(t, r, app, 1)
}
