package standalone

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
)

// healthy waits until the controller of Rollouts has nothing left to do.
func healthy(t *testing.T, w workload) {
	t.Helper()
	require.Eventually(t, func() bool {
		o := w.read(t)
		k, _ := kind.BuiltIn().ByName(reloader.Rollout)
		phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
		return phase == "Healthy" && k.Manifest(o).Progress == kind.Healthy
	}, time.Minute, often)
}

// podsOf returns the pods of a workload that are not on their way out, by UID.
func podsOf(t *testing.T, w workload) map[types.UID]bool {
	t.Helper()
	list, err := shared.Client().CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + w.name})
	require.NoError(t, err)
	uids := map[types.UID]bool{}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			uids[p.UID] = true
		}
	}
	return uids
}

// fresh reports whether there are n pods, none of them among the old ones.
func fresh(t *testing.T, w workload, n int, old map[types.UID]bool) bool {
	t.Helper()
	now := podsOf(t, w)
	for uid := range now {
		if old[uid] {
			return false
		}
	}
	return len(now) == n
}

func TestARolloutProgresses(t *testing.T) {
	everyKind(t)
	for _, strategy := range []kind.Strategy{kind.EnvVars, kind.Annotations} {
		t.Run(string(strategy), func(t *testing.T) {
			ns := namespace(t, "rollout-"+string(strategy))
			edit(t, ns, "settings", "1")
			w := workload{kind: reloader.Rollout, ns: ns, name: "web", annotations: auto(), pod: using("settings"), replicas: 2}
			w.create(t)
			healthy(t, w)
			old := podsOf(t, w)
			require.Len(t, old, 2)
			_, r := startEngine(t, func(o *engine.Options) { o.Strategy = strategy })

			requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
			require.Eventually(t, func() bool { return fresh(t, w, 2, old) }, time.Minute, often)
			healthy(t, w)
			template := templateOf(t, w.read(t))
			if strategy == kind.EnvVars {
				assert.NotEmpty(t, variable(template, "app", "STAKATER_SETTINGS_CONFIGMAP"))
			} else {
				assert.NotEmpty(t, template.Annotations[keys().LastReloadedFrom])
			}
			sets, err := shared.Client().AppsV1().ReplicaSets(ns).List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err)
			assert.Len(t, sets.Items, 2, "one before, one after")
		})
	}
}

func TestARolloutRestarts(t *testing.T) {
	everyKind(t)
	ns := namespace(t, "rollout-restart")
	edit(t, ns, "settings", "1")
	w := workload{kind: reloader.Rollout, ns: ns, name: "web", pod: using("settings"), replicas: 2,
		annotations: map[string]string{keys().Auto: "true", keys().RolloutStrategy: "restart"}}
	w.create(t)
	healthy(t, w)
	old := podsOf(t, w)
	before := w.read(t)
	// Pods that are younger than restartAt, in whole seconds, are left alone.
	require.Eventually(t, func() bool {
		return time.Since(before.GetCreationTimestamp().Time) > 3*time.Second
	}, soon, often)
	_, r := startEngine(t)

	requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
	require.Eventually(t, func() bool { return fresh(t, w, 2, old) }, time.Minute, often)
	after := w.read(t)
	assert.Equal(t, templateOf(t, before), templateOf(t, after), "the template stays as it is")
	assert.Contains(t, after.GetAnnotations()[keys().LastReloadedFrom], `"name":"settings"`)
	sets, err := shared.Client().AppsV1().ReplicaSets(ns).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Len(t, sets.Items, 1)
}

// borrowing is a Rollout that takes its template from a Deployment.
func borrowing(ns, name, lender string, annotations map[string]string) workload {
	return workload{kind: reloader.Rollout, ns: ns, name: name, annotations: annotations, replicas: 1, spec: map[string]any{
		"template":    nil,
		"selector":    map[string]any{"matchLabels": map[string]any{"app": lender}},
		"workloadRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": lender},
	}}
}

func TestARolloutFollowsTheDeploymentItNames(t *testing.T) {
	everyKind(t)
	ns := namespace(t, "rollout-lender")
	edit(t, ns, "settings", "1")
	edit(t, ns, "more", "1")
	lender := workload{kind: reloader.Deployment, ns: ns, name: "lender", pod: using("settings")}
	lender.create(t)
	rolls := borrowing(ns, "rolls", "lender", auto())
	rolls.create(t)
	restarts := borrowing(ns, "restarts", "lender", map[string]string{keys().Auto: "true", keys().RolloutStrategy: "restart"})
	restarts.create(t)
	early := borrowing(ns, "early", "late", auto())
	early.create(t)
	_, r := startEngine(t)

	// What it names counts, and the template is changed where it is.
	requireReload(t, r, rolls.key(), func() { edit(t, ns, "settings", "2") })
	require.Eventually(t, func() bool { return r.count(restarts.key()) == 1 }, soon, often)
	mark := variable(templateOf(t, lender.read(t)), "app", "STAKATER_SETTINGS_CONFIGMAP")
	assert.NotEmpty(t, mark)
	_, restartAt, err := unstructured.NestedString(restarts.read(t).Object, "spec", "restartAt")
	require.NoError(t, err)
	assert.True(t, restartAt)
	_, restartAt, err = unstructured.NestedString(rolls.read(t).Object, "spec", "restartAt")
	require.NoError(t, err)
	assert.False(t, restartAt)
	assert.Zero(t, r.count(lender.key()), "it has not opted in")

	// A reference that the Deployment gets is one of the Rollout.
	lender.pod = using("settings", "more")
	_, err = objects(t, reloader.Deployment, ns).Update(t.Context(), lender.object(t), metav1.UpdateOptions{})
	require.NoError(t, err)
	requireReload(t, r, rolls.key(), func() { edit(t, ns, "more", "2") })
	assert.NotEmpty(t, variable(templateOf(t, lender.read(t)), "app", "STAKATER_MORE_CONFIGMAP"))

	// So is that of a Deployment that comes later.
	late := workload{kind: reloader.Deployment, ns: ns, name: "late", pod: using("more")}
	late.create(t)
	requireReload(t, r, early.key(), func() { edit(t, ns, "more", "3") })
	assert.NotEmpty(t, variable(templateOf(t, late.read(t)), "app", "STAKATER_MORE_CONFIGMAP"))

	// And those of one that is gone are none any more.
	late.delete(t)
	edit(t, ns, "more", "4")
	never(t, func() bool { return r.count(early.key()) > 1 })
}

func TestADeploymentConfigIsPatched(t *testing.T) {
	everyKind(t)
	for _, strategy := range []kind.Strategy{kind.EnvVars, kind.Annotations} {
		t.Run(string(strategy), func(t *testing.T) {
			ns := namespace(t, "deploymentconfig-"+string(strategy))
			edit(t, ns, "settings", "1")
			edit(t, ns, "more", "1")
			w := workload{kind: reloader.DeploymentConfig, ns: ns, name: "web", annotations: auto(), pod: using("settings", "more")}
			created := w.create(t)
			_, r := startEngine(t, func(o *engine.Options) { o.Strategy = strategy })

			requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
			requireReload(t, r, w.key(), func() { edit(t, ns, "more", "2") })
			requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "3") })
			o := w.read(t)
			assert.Equal(t, created.GetGeneration()+3, o.GetGeneration())
			template := templateOf(t, o)
			if strategy == kind.EnvVars {
				require.Len(t, template.Spec.Containers, 1)
				assert.Len(t, template.Spec.Containers[0].Env, 2, "one variable per source")
				assert.Equal(t, using("settings", "more").Containers[0].EnvFrom, template.Spec.Containers[0].EnvFrom)
			} else {
				assert.Contains(t, template.Annotations[keys().LastReloadedFrom], `"name":"settings"`)
			}
		})
	}
}
