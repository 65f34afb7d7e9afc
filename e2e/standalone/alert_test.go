package standalone

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
)

func alerting(to *endpoint, more ...string) map[string]string {
	env := map[string]string{"ALERT_ON_RELOAD": "true", "ALERT_WEBHOOK_URL": to.url}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

func TestReloadsAndFailuresAlert(t *testing.T) {
	ns := namespace(t, "alert")
	app := newApp(t, ns, "app")
	refused := newApp(t, ns, "refused", func(a *fixture.App) { a.Kind = reloader.StatefulSet })
	chat := newEndpoint(t, codes(http.StatusInternalServerError, http.StatusOK))
	p := startProgram(t, ns, writing(), alerting(chat, "ALERT_SINK", "slack", "ALERT_ADDITIONAL_INFO", "cluster a"))

	edit(t, ns, app.Name, "1")
	require.Eventually(t, func() bool { return len(chat.posts()) == 2 }, soon, often, "it is sent again after an error")
	assert.JSONEq(t, `{"attachments":[{"color":"good","author_name":"Reloader","text":"cluster a : Reloader detected changes in *app* `+
		`of type *CONFIGMAP* in namespace *alert*. Hence reloaded *app* of type *Deployment* in namespace *alert*"}]}`, chat.posts()[1])

	edit(t, ns, refused.Name, "1")
	require.Eventually(t, func() bool { return len(chat.posts()) == 3 }, soon, often)
	var body struct {
		Attachments []struct{ Text, Color string }
	}
	require.NoError(t, json.Unmarshal([]byte(chat.posts()[2]), &body))
	assert.Equal(t, "danger", body.Attachments[0].Color)
	assert.Contains(t, body.Attachments[0].Text, "Could not reload *refused* of type *StatefulSet* in namespace *alert*, trying again: ")
	assert.NotContains(t, p.log(), "hunter2")
}

func TestAReceiverThatDoesNotAnswerDelaysNothing(t *testing.T) {
	const changes = 5
	ns := namespace(t, "alert-dead")
	app := newApp(t, ns, "app")
	ended := make(chan struct{})
	var givenUp atomic.Int64
	chat := newEndpoint(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			givenUp.Add(1)
		case <-ended:
		}
	})
	p := startProgram(t, ns, writing(), alerting(chat))
	last, ahead := "", false
	for i := range changes {
		edit(t, ns, app.Name, fmt.Sprint(i+1))
		require.Eventually(t, func() bool {
			s, err := fixture.Read(t.Context(), shared.Client(), app.Workload())
			require.NoError(t, err)
			now := s.Env("STAKATER_APP_CONFIGMAP")
			defer func() { last = now }()
			return now != last
		}, soon, often, "it is reloaded")
		ahead = ahead || int(givenUp.Load()) < i
	}
	assert.True(t, ahead, "each reload has waited for the alert of the one before to be given up")
	require.Eventually(t, func() bool { return len(chat.posts()) > 0 }, soon, often)

	// What waits is sent before the program ends.
	close(ended)
	p.stop()
	// One that nobody answered in time is sent again.
	assert.GreaterOrEqual(t, len(chat.about("Hence reloaded app of type Deployment")), changes)
	assert.NotContains(t, p.log(), "hunter2")
}

func TestAlertsGoThroughTheirProxy(t *testing.T) {
	ns := namespace(t, "alert-proxy")
	app := newApp(t, ns, "app")
	proxy := newEndpoint(t, nil)
	env := alerting(proxy, "ALERT_WEBHOOK_PROXY", proxy.url)
	// Nobody is there; only the proxy is asked.
	env["ALERT_WEBHOOK_URL"] = "http://chat.invalid/hunter2"
	startProgram(t, ns, writing(), env)
	edit(t, ns, app.Name, "1")
	require.Eventually(t, func() bool { return len(proxy.posts()) == 1 }, soon, often)
	assert.Equal(t, "Reloader detected changes in app of type CONFIGMAP in namespace alert-proxy. "+
		"Hence reloaded app of type Deployment in namespace alert-proxy", proxy.posts()[0])
}
