package standalone

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
)

// told is what people read in an event.
type told struct{ severity, reason, component, message string }

// warnings are the Warnings about a Deployment.
func warnings(t *assert.CollectT, app fixture.App) (all []told) {
	events, err := shared.Client().CoreV1().Events(app.Namespace).List(context.Background(), metav1.ListOptions{
		FieldSelector: "type=Warning,involvedObject.kind=Deployment,involvedObject.name=" + app.Name,
	})
	require.NoError(t, err)
	for i := range events.Items {
		e := &events.Items[i]
		all = append(all, told{e.Type, e.Reason, e.Source.Component, e.Message})
	}
	return all
}

// What holds a workload back is told where its owner looks: on the workload, in
// words that say what to do, and in a metric of its own.
func TestWhoIsHeldBackIsTold(t *testing.T) {
	const most = 4
	ns := namespace(t, "held")
	restless := newApp(t, ns, "restless")
	edit(t, ns, "contested", "0")
	contested := fixture.App{Namespace: ns, Name: "contested", Annotations: auto(), ConfigMaps: []string{"contested"}}
	_, err := deployments(ns).Create(t.Context(), contested.Deployment(), metav1.CreateOptions{FieldManager: "gitops"})
	require.NoError(t, err)
	p := startProgram(t, ns, writing(), nil, fmt.Sprintf("--breaker-reloads=%d", most), "--coalesce-window=0s")

	for i := range most {
		edit(t, ns, restless.Name, fmt.Sprint(i+1))
		require.Eventually(t, func() bool { return deployment(t, restless).Generation == int64(i+2) }, soon, often)
	}
	edit(t, ns, restless.Name, "one too many")
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Equal(c, []told{{
			"Warning", "ReloadHeld", "reloader-configmaps",
			"Reloaded too often; the next reload comes in 1m0s. Find out who keeps changing ConfigMap held/restless",
		}}, warnings(c, restless))
	}, soon, often)
	assert.Equal(t, int64(most+1), deployment(t, restless).Generation)

	mark := reloader.EnvName(reloader.ConfigMap, contested.Name)
	for i := range 3 {
		edit(t, ns, contested.Name, fmt.Sprint(i+1))
		require.Eventually(t, func() bool {
			state, err := fixture.Read(t.Context(), shared.Client(), contested.Workload())
			return err == nil && state.Env(mark) != ""
		}, soon, often)
		_, err := deployments(ns).Update(t.Context(), contested.Deployment(), metav1.UpdateOptions{FieldManager: "gitops"})
		require.NoError(t, err)
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Equal(c, []told{{
			"Warning", "ReloadReverted", "reloader-configmaps",
			`Reloads are suspended for one hour: the field manager "gitops" keeps reverting them. ` +
				"Configure it to ignore the fields of the pod template that the field manager Reloader owns. Changed: ConfigMap held/contested",
		}}, warnings(c, contested))
	}, soon, often)

	metrics, _ := p.get("/metrics")
	assert.True(t, exposes(metrics, `reloader_reloads_held_total{workload_kind="Deployment"} 1`), metrics)
	assert.True(t, exposes(metrics, `reloader_reloads_taken_back_total{workload_kind="Deployment"} 1`), metrics)
}
