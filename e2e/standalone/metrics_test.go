package standalone

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// series is what a metric looks like: its type, and its labels in alphabetical
// order.
type series struct {
	kind, labels string
}

// contract are the metrics that dashboards and alerts of today's users read.
func contract() map[string]series {
	return map[string]series{
		"reloader_reload_executed_total":                {"counter", "success"},
		"reloader_reload_executed_total_by_namespace":   {"counter", "namespace,success"},
		"reloader_reconcile_total":                      {"counter", "result"},
		"reloader_reconcile_duration_seconds":           {"histogram", ""},
		"reloader_action_total":                         {"counter", "result,workload_kind"},
		"reloader_action_latency_seconds":               {"histogram", "workload_kind"},
		"reloader_skipped_total":                        {"counter", "reason"},
		"reloader_workqueue_depth":                      {"gauge", ""},
		"reloader_workqueue_adds_total":                 {"counter", ""},
		"reloader_workqueue_latency_seconds":            {"histogram", ""},
		"reloader_errors_total":                         {"counter", "type"},
		"reloader_retries_total":                        {"counter", ""},
		"reloader_events_received_total":                {"counter", "event_type,resource_type"},
		"reloader_events_processed_total":               {"counter", "event_type,resource_type,result"},
		"reloader_workloads_scanned_total":              {"counter", "kind"},
		"reloader_workloads_matched_total":              {"counter", "kind"},
		"reloader_rest_client_requests_total":           {"counter", "code,host,method"},
		"reloader_rest_client_request_duration_seconds": {"histogram", "host,verb"},
	}
}

// more are metrics of our own that are there without anything having happened.
func more() map[string]series {
	return map[string]series{
		"reloader_annotation_faults_total":     {"counter", "reason"},
		"reloader_checkpoint_sources_left_out": {"gauge", ""},
		"reloader_paused_deployments":          {"gauge", ""},
	}
}

var (
	typeLine   = regexp.MustCompile(`(?m)^# TYPE (reloader_\S+) (\S+)$`)
	seriesLine = regexp.MustCompile(`(?m)^(reloader_[a-z_]+)(?:\{(.*)\})? \S+$`)
	labelName  = regexp.MustCompile(`(?:^|,)([a-z_]+)="`)
)

// exposed reads the text that Prometheus scrapes.
func exposed(text string) map[string]series {
	found := map[string]series{}
	for _, m := range typeLine.FindAllStringSubmatch(text, -1) {
		found[m[1]] = series{kind: m[2]}
	}
	for _, m := range seriesLine.FindAllStringSubmatch(text, -1) {
		name := m[1]
		if _, ok := found[name]; !ok {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
		}
		var labels []string
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		slices.Sort(labels)
		found[name] = series{kind: found[name].kind, labels: strings.Join(labels, ",")}
	}
	return found
}

// exposes reports whether a line is in the text that Prometheus scrapes.
func exposes(text, line string) bool { return strings.Contains(text, "\n"+line+"\n") }

func TestMetricsOfARunningEngine(t *testing.T) {
	ns := namespace(t, "metrics")
	ctx, c := t.Context(), shared.Client()
	app := newApp(t, ns, "app")
	// It may not be patched.
	refused := newApp(t, ns, "refused", func(a *fixture.App) { a.Kind = reloader.StatefulSet })
	newApp(t, ns, "searching", func(a *fixture.App) {
		a.Annotations = map[string]string{annotation.DefaultKeys().Search: "true"}
	})
	newApp(t, ns, "faulty", func(a *fixture.App) {
		a.Annotations = map[string]string{annotation.DefaultKeys().CoalesceWindow: "soon"}
	})
	p := startProgram(t, ns, writing(), map[string]string{"METRICS_COUNT_BY_NAMESPACE": "enabled"})
	for _, name := range []string{app.Name, refused.Name, "searching"} {
		edit(t, ns, name, "1")
	}
	require.NoError(t, fixture.SetSecret(ctx, c, ns, "nobody-uses-it", map[string]string{"a": "1"}))
	var text string
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		text, _ = p.get("/metrics")
		for _, line := range []string{
			`reloader_reload_executed_total{success="true"} 1`,
			`reloader_reload_executed_total{success="false"} 1`,
			`reloader_reload_executed_total_by_namespace{namespace="metrics",success="true"} 1`,
			`reloader_action_total{result="success",workload_kind="Deployment"} 1`,
			`reloader_action_total{result="error",workload_kind="StatefulSet"} 1`,
			`reloader_skipped_total{reason="NoMatch"} 1`,
			`reloader_workloads_scanned_total{kind="Deployment"} 2`,
			`reloader_workloads_matched_total{kind="Deployment"} 1`,
			`reloader_errors_total{type="forbidden"} 1`,
			`reloader_retries_total 1`,
			`reloader_events_received_total{event_type="update",resource_type="configmap"} 3`,
			`reloader_events_processed_total{event_type="update",resource_type="configmap",result="success"} 3`,
			`reloader_events_received_total{event_type="add",resource_type="secret"} 1`,
		} {
			assert.True(t, exposes(text, line), line)
		}
	}, soon, 10*often)

	found := exposed(text)
	for name, want := range contract() {
		assert.Equal(t, want, found[name], name)
		delete(found, name)
	}
	assert.Equal(t, more(), found)

	problems, err := promlint.New(strings.NewReader(text)).Lint()
	require.NoError(t, err)
	problems = slices.DeleteFunc(problems, func(p promlint.Problem) bool {
		// Its name is older than the rule.
		return p.Metric == "reloader_reload_executed_total_by_namespace"
	})
	assert.Empty(t, problems)
}

func TestReloadsAreNotCountedByNamespaceUnasked(t *testing.T) {
	ns := namespace(t, "metrics-unasked")
	app := newApp(t, ns, "app")
	p := startProgram(t, ns, writing(), nil)
	edit(t, ns, app.Name, "1")
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		text, _ := p.get("/metrics")
		assert.Contains(t, text, `reloader_reload_executed_total{success="true"} 1`)
		assert.NotContains(t, text, "by_namespace")
	}, soon, 10*often)
}
