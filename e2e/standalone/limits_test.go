package standalone

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedappsv1 "k8s.io/client-go/kubernetes/typed/apps/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine"
)

const (
	soon  = 30 * time.Second // on a busy machine
	often = 10 * time.Millisecond
	// quiet is how long something that must not happen is waited for.
	quiet = 2 * time.Second
)

// newApp makes a Deployment that opted in, and its ConfigMap.
func newApp(t *testing.T, ns, name string, set ...func(*fixture.App)) fixture.App {
	t.Helper()
	edit(t, ns, name, "0")
	app := fixture.App{Namespace: ns, Name: name, Annotations: auto(), ConfigMaps: []string{name}}
	for _, s := range set {
		s(&app)
	}
	_, err := app.Create(t.Context(), shared.Client())
	require.NoError(t, err)
	return app
}

func deployments(ns string) typedappsv1.DeploymentInterface {
	return shared.Client().AppsV1().Deployments(ns)
}

func edit(t *testing.T, ns, name, value string) {
	t.Helper()
	require.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), ns, name, map[string]string{"a": value}))
}

func TestAWorkloadHasAWindowOfItsOwn(t *testing.T) {
	ns := namespace(t, "own-window")
	patient := newApp(t, ns, "patient", func(a *fixture.App) { a.Annotations[annotation.DefaultKeys().CoalesceWindow] = "8s" })
	prompt := newApp(t, ns, "prompt")
	_, r := startEngine(t)

	edit(t, ns, "patient", "1")
	edit(t, ns, "prompt", "1")
	require.Eventually(t, func() bool { return r.count(prompt.Workload()) == 1 }, soon, often)
	assert.Zero(t, r.count(patient.Workload()), "it waits for more")
	edit(t, ns, "patient", "2")
	edit(t, ns, "prompt", "2")
	require.Eventually(t, func() bool { return r.count(prompt.Workload()) == 2 }, soon, often)
	require.Eventually(t, func() bool { return r.count(patient.Workload()) == 1 }, soon, often)
	require.Never(t, func() bool { return r.count(patient.Workload()) > 1 }, quiet, often)
}

func TestAWriterThatNeverStopsIsHeldBack(t *testing.T) {
	const most = 3
	ns := namespace(t, "breaker")
	app, calm := newApp(t, ns, "restless"), newApp(t, ns, "calm")
	_, r := startEngine(t, func(o *engine.Options) { o.ReloadsPerWorkload = most })
	for i := range most {
		edit(t, ns, "restless", fmt.Sprint(i+1))
		require.Eventually(t, func() bool { return r.count(app.Workload()) == i+1 }, soon, often)
	}

	edit(t, ns, "restless", "one too many")
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.held[app.Workload()] == 1
	}, soon, often)
	edit(t, ns, "restless", "and another")
	edit(t, ns, "calm", "1")
	require.Eventually(t, func() bool { return r.count(calm.Workload()) == 1 }, soon, often, "nobody else is held back")
	assert.Equal(t, most, r.count(app.Workload()))
}

func TestRolloutsWaitForOneAnother(t *testing.T) {
	ns := namespace(t, "one-by-one")
	var apps []fixture.App
	for i := range 3 {
		// No node takes its pods, so that its rollouts never end.
		apps = append(apps, newApp(t, ns, fmt.Sprintf("stuck-%d", i), func(a *fixture.App) {
			a.Replicas, a.NodeSelector = 1, map[string]string{"no": "node"}
		}))
	}
	_, r := startEngine(t, func(o *engine.Options) { o.ConcurrentRollouts = 1 })
	total := func() (n int) {
		for _, app := range apps {
			n += r.count(app.Workload())
		}
		return n
	}
	for _, app := range apps {
		edit(t, ns, app.Name, "1")
	}
	require.Eventually(t, func() bool { return total() == 1 }, soon, often)
	require.Never(t, func() bool { return total() > 1 }, quiet, often)
	for _, app := range apps {
		if r.count(app.Workload()) == 1 {
			// What is gone rolls no more.
			require.NoError(t, deployments(ns).Delete(t.Context(), app.Name, metav1.DeleteOptions{}))
		}
	}
	require.Eventually(t, func() bool { return total() == 2 }, soon, often)
	require.Never(t, func() bool { return total() > 2 }, quiet, often)
}

// heard returns when an engine has heard of every write to a Deployment until
// now: one watch brings all of them, in order, and it reloads the last that came.
func heard(t *testing.T, r *reports, ns, name string) {
	t.Helper()
	last := newApp(t, ns, name)
	edit(t, ns, name, "1")
	require.Eventually(t, func() bool { return r.count(last.Workload()) == 1 }, soon, often)
}

func TestWhoTakesReloadsBackIsNamed(t *testing.T) {
	ns := namespace(t, "rival")
	edit(t, ns, "app", "0")
	app := fixture.App{Namespace: ns, Name: "app", Annotations: auto(), ConfigMaps: []string{"app"}}
	_, err := deployments(ns).Create(t.Context(), app.Deployment(), metav1.CreateOptions{FieldManager: "gitops"})
	require.NoError(t, err)
	_, r := startEngine(t)
	for i := range 3 {
		edit(t, ns, app.Name, fmt.Sprint(i+1))
		require.Eventually(t, func() bool { return r.count(app.Workload()) == i+1 }, soon, often)
		// It puts everything back to what stands in its repository.
		require.Eventually(t, func() bool {
			present, err := deployments(ns).Get(t.Context(), app.Name, metav1.GetOptions{})
			require.NoError(t, err)
			wanted := app.Deployment()
			wanted.ResourceVersion = present.ResourceVersion
			_, err = deployments(ns).Update(t.Context(), wanted, metav1.UpdateOptions{FieldManager: "gitops"})
			return err == nil
		}, soon, often)
		heard(t, r, ns, fmt.Sprintf("heard-%d", i))
	}
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.takenBack[app.Workload()] == "gitops"
	}, soon, often)
	edit(t, ns, app.Name, "4")
	require.Never(t, func() bool { return r.count(app.Workload()) > 3 }, quiet, often, "it is held back")
}
