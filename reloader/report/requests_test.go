package report

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/util/workqueue"

	"k8s-reloader/reloader"
)

func TestRequestsAreCounted(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	host := server.Listener.Addr().String()
	inner := new(http.Transport)
	defer inner.CloseIdleConnections()
	m, registry := newMetrics(t)
	transport := m.Transport(inner)
	assert.Equal(t, http.RoundTripper(inner), transport.(counted).WrappedRoundTripper())
	ask := func(method string) error {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+"/api", nil)
		require.NoError(t, err)
		answer, err := transport.RoundTrip(request)
		if err == nil {
			require.NoError(t, answer.Body.Close())
		}
		return err
	}
	require.NoError(t, ask(http.MethodGet))
	require.NoError(t, ask(http.MethodPatch))
	server.Close()
	require.Error(t, ask(http.MethodGet))

	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(strings.ReplaceAll(`
# HELP reloader_rest_client_requests_total Requests to the API server, by the status of the answer.
# TYPE reloader_rest_client_requests_total counter
reloader_rest_client_requests_total{code="404",host="HOST",method="GET"} 1
reloader_rest_client_requests_total{code="404",host="HOST",method="PATCH"} 1
reloader_rest_client_requests_total{code="<error>",host="HOST",method="GET"} 1
`, "HOST", host)), "reloader_rest_client_requests_total"))
	count, err := testutil.GatherAndCount(registry, "reloader_rest_client_request_duration_seconds")
	require.NoError(t, err)
	assert.Equal(t, 2, count)
}

func TestQueuesAreCountedTogether(t *testing.T) {
	m, registry := newMetrics(t)
	queue := func(name string) workqueue.TypedRateLimitingInterface[string] {
		return workqueue.NewTypedRateLimitingQueueWithConfig(workqueue.DefaultTypedControllerRateLimiter[string](),
			workqueue.TypedRateLimitingQueueConfig[string]{Name: name, MetricsProvider: m.Queues()})
	}
	first, second := queue("first"), queue("second")
	defer first.ShutDown()
	defer second.ShutDown()
	first.Add("a")
	first.Add("a")
	first.Add("b")
	second.Add("a")
	key, _ := first.Get()
	first.Done(key)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP reloader_workqueue_adds_total Keys that came into the queues.
# TYPE reloader_workqueue_adds_total counter
reloader_workqueue_adds_total 3
# HELP reloader_workqueue_depth Keys in the queues that wait for a worker.
# TYPE reloader_workqueue_depth gauge
reloader_workqueue_depth 2
`), "reloader_workqueue_adds_total", "reloader_workqueue_depth"))
}

func TestWithoutMetricsNothingIsCounted(t *testing.T) {
	var m *Metrics
	m.Paused(1)
	m.Alert("sent")
	m.Received(EventAdd, reloader.ConfigMap)
	m.Processed(EventAdd, reloader.ConfigMap, 1, true)
	m.Handled(time.Second, "other")
	m.Decided(reloader.Deployment, reloader.Decision{}, 1)
	assert.Nil(t, m.Queues())
	assert.Equal(t, http.DefaultTransport, m.Transport(http.DefaultTransport))
}

func TestWorkIsCounted(t *testing.T) {
	m, registry := newMetrics(t)
	m.Handled(time.Millisecond, "")
	m.Handled(time.Millisecond, "conflict")
	m.Decided(reloader.Deployment, reloader.Decision{Reload: true, Reason: reloader.ReasonAuto}, 1)
	m.Decided(reloader.Deployment, reloader.Decision{Reason: reloader.ReasonIgnored}, 1)
	m.Received(EventDelete, reloader.SecretProviderClass)
	m.Processed(EventDelete, reloader.SecretProviderClass, 2, false)
	m.Received(EventAdd, "Pod")
	m.Paused(3)
	m.CheckpointLeftOut(7)
	m.Alert("dropped")
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP reloader_alerts_total Alerts, by result: sent, failed, or dropped because the queue was full.
# TYPE reloader_alerts_total counter
reloader_alerts_total{result="dropped"} 1
# HELP reloader_errors_total Failures to handle a key, by their type.
# TYPE reloader_errors_total counter
reloader_errors_total{type="conflict"} 1
# HELP reloader_events_processed_total Events of sources that are done (success), and failed attempts to read the source (error).
# TYPE reloader_events_processed_total counter
reloader_events_processed_total{event_type="delete",resource_type="secretproviderclasspodstatus",result="error"} 2
# HELP reloader_events_received_total Events of sources that the watches have brought.
# TYPE reloader_events_received_total counter
reloader_events_received_total{event_type="add",resource_type="unknown"} 1
reloader_events_received_total{event_type="delete",resource_type="secretproviderclasspodstatus"} 1
# HELP reloader_checkpoint_sources_left_out Sources for which the checkpoint has no room. Changes to them while no engine is running are missed.
# TYPE reloader_checkpoint_sources_left_out gauge
reloader_checkpoint_sources_left_out 7
# HELP reloader_paused_deployments Deployments within a pause period: what changes for them is rolled out when it ends.
# TYPE reloader_paused_deployments gauge
reloader_paused_deployments 3
# HELP reloader_reconcile_total Keys of the queues (workloads to resolve, sources to read, workloads to reload) that were handled.
# TYPE reloader_reconcile_total counter
reloader_reconcile_total{result="error"} 1
reloader_reconcile_total{result="success"} 1
# HELP reloader_retries_total Keys that were requeued after a failure.
# TYPE reloader_retries_total counter
reloader_retries_total 1
# HELP reloader_skipped_total Workloads that depend on a changed source and were not reloaded, by reason.
# TYPE reloader_skipped_total counter
reloader_skipped_total{reason="Ignored"} 1
# HELP reloader_workloads_matched_total Workloads that a changed source reloads.
# TYPE reloader_workloads_matched_total counter
reloader_workloads_matched_total{kind="Deployment"} 1
# HELP reloader_workloads_scanned_total Workloads that were evaluated because a source that they depend on has changed.
# TYPE reloader_workloads_scanned_total counter
reloader_workloads_scanned_total{kind="Deployment"} 2
`), "reloader_alerts_total", "reloader_errors_total", "reloader_events_processed_total", "reloader_events_received_total",
		"reloader_checkpoint_sources_left_out", "reloader_paused_deployments", "reloader_reconcile_total", "reloader_retries_total", "reloader_skipped_total",
		"reloader_workloads_matched_total", "reloader_workloads_scanned_total"))
}
