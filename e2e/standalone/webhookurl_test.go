package standalone

import (
	"encoding/json"
	"fmt"
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// called is what is posted instead of a reload.
type called struct {
	ID       string `json:"id"`
	Workload struct {
		APIVersion, Kind, Namespace, Name, UID string
	} `json:"workload"`
	Sources []struct {
		Kind, Namespace, Name, Reason string
	} `json:"sources"`
}

func calls(t *testing.T, e *endpoint, about string) (all []called) {
	t.Helper()
	for _, body := range e.about(`"name":"` + about + `"`) {
		var one called
		require.NoError(t, json.Unmarshal([]byte(body), &one))
		all = append(all, one)
	}
	return all
}

func TestAWebhookIsCalledInsteadOfReloading(t *testing.T) {
	ns := namespace(t, "webhook-url")
	ctx, c := t.Context(), shared.Client()
	e := newEndpoint(t, codes(http.StatusServiceUnavailable, http.StatusOK))
	app, searching := newApp(t, ns, "app"), newApp(t, ns, "searching", func(a *fixture.App) {
		a.Annotations = map[string]string{annotation.DefaultKeys().Search: "true", annotation.DefaultKeys().ConfigMapNamed: "named"}
	})
	worker := newApp(t, ns, "worker", func(a *fixture.App) { a.Kind = reloader.StatefulSet })
	var before *appsv1.Deployment
	// Its controller writes an annotation, too.
	require.Eventually(t, func() bool {
		before = deployment(t, app)
		return before.Status.ObservedGeneration == before.Generation && before.Annotations["deployment.kubernetes.io/revision"] != ""
	}, soon, often)
	// It may patch nothing.
	p := startProgram(t, ns, reading(), nil, "--webhook-url="+e.url)

	edit(t, ns, app.Name, "1")
	require.Eventually(t, func() bool { return len(e.posts()) == 2 }, soon, often, "it is told again after an error")
	first := calls(t, e, app.Name)
	assert.Equal(t, first[0], first[1], "and the same")
	assert.NotEmpty(t, first[0].ID)
	assert.Equal(t, "apps/v1 Deployment webhook-url/app "+string(before.UID), fmt.Sprintf("%s %s %s/%s %s",
		first[0].Workload.APIVersion, first[0].Workload.Kind, first[0].Workload.Namespace, first[0].Workload.Name, first[0].Workload.UID))
	assert.Equal(t, "[{ConfigMap webhook-url app Auto}]", fmt.Sprint(first[0].Sources))

	// Nothing is posted for what would reload nothing.
	_, err := c.CoreV1().ConfigMaps(ns).Patch(ctx, app.Name, "application/merge-patch+json",
		[]byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	edit(t, ns, searching.Name, "1")
	edit(t, ns, "nobody-uses-it", "1")
	edit(t, ns, worker.Name, "1")
	require.Eventually(t, func() bool { return len(calls(t, e, worker.Name)) == 1 }, soon, often)
	assert.Equal(t, "StatefulSet", calls(t, e, worker.Name)[0].Workload.Kind)

	// Content that comes back is a change, too.
	edit(t, ns, app.Name, "0")
	require.Eventually(t, func() bool { return len(calls(t, e, app.Name)) == 3 }, soon, often)
	edit(t, ns, app.Name, "1")
	require.Eventually(t, func() bool { return len(calls(t, e, app.Name)) == 4 }, soon, often)
	all := calls(t, e, app.Name)
	assert.Len(t, map[string]bool{all[1].ID: true, all[2].ID: true, all[3].ID: true}, 3)

	// The reason is the one of the decision.
	require.NoError(t, fixture.SetConfigMap(ctx, c, ns, "named", map[string]string{"a": "1"}))
	edit(t, ns, "named", "2")
	require.Eventually(t, func() bool { return len(calls(t, e, "named")) > 0 }, soon, often)
	last := calls(t, e, "named")
	assert.Equal(t, "[{ConfigMap webhook-url named Named}]", fmt.Sprint(last[len(last)-1].Sources))

	require.Never(t, func() bool { return len(e.posts()) > 6 }, quiet, often, "once per change and workload")
	after := deployment(t, app)
	assert.Equal(t, before.Generation, after.Generation, "nothing is patched")
	assert.Equal(t, before.Annotations, after.Annotations)
	assert.NotContains(t, p.log(), "hunter2")
	events, err := shared.Kubectl(ctx, "events", "-n", ns)
	require.NoError(t, err)
	assert.Contains(t, events, "WebhookCalled")
	assert.NotContains(t, events, "hunter2")
}

func TestAWebhookThatRefusesHoldsUpNobody(t *testing.T) {
	ns := namespace(t, "webhook-refuses")
	refused, slow, other := newApp(t, ns, "refused"), newApp(t, ns, "slow"), newApp(t, ns, "other")
	e := newEndpoint(t, nil)
	released := make(chan struct{})
	defer close(released)
	e.answer = func(_ int, w http.ResponseWriter, r *http.Request) {
		switch posts := e.posts(); {
		case len(calls(t, e, refused.Name)) == len(posts):
			w.WriteHeader(http.StatusNotFound)
		case len(calls(t, e, slow.Name))+len(calls(t, e, refused.Name)) == len(posts):
			select {
			case <-released:
			case <-r.Context().Done():
			}
		}
	}
	p := startProgram(t, ns, reading(), nil, "--webhook-url="+e.url)
	for i, app := range []fixture.App{refused, slow, other} {
		edit(t, ns, app.Name, "1")
		require.Eventually(t, func() bool { return len(e.posts()) == i+1 }, soon, often)
	}
	require.Eventually(t, func() bool {
		text, _ := p.get("/metrics")
		return exposes(text, `reloader_action_total{result="success",workload_kind="Deployment"} 1`) &&
			exposes(text, `reloader_action_total{result="error",workload_kind="Deployment"} 1`)
	}, soon, 10*often)
	assert.Contains(t, p.log(), "refused; trying again slowly")
	assert.NotContains(t, p.log(), "hunter2")
}

// Who posts when it is told to stop waits for the answer, so that the next one
// posts nothing twice.
func TestTheEndWaitsForTheAnswerOfAWebhook(t *testing.T) {
	ns := namespace(t, "webhook-end")
	app := newApp(t, ns, "app")
	arrived, release := make(chan struct{}), make(chan struct{})
	e := newEndpoint(t, func(int, http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	})
	p := startProgram(t, ns, reading(), nil, "--webhook-url="+e.url)
	edit(t, ns, app.Name, "1")
	receive(t, arrived, "it posts")
	require.NoError(t, p.command.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { _, code := p.get("/live"); return code == 0 }, soon, often, "it stops")
	close(release)
	receive(t, p.ended, "it ends")
	assert.Contains(t, p.log(), "called the webhook")
	assert.NotContains(t, p.log(), "Unable to record event")
	assert.Len(t, e.posts(), 1)
}
