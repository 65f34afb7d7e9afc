package report

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"k8s-reloader/reloader"
)

// MetricsOptions say which metrics there are.
type MetricsOptions struct {
	// ByNamespace counts reloads by namespace, too: a series per namespace.
	ByNamespace bool
}

// Metrics of an engine. The names and labels are those of today's Reloader
// where it has them. Methods may be called by many at once and never block; on
// a nil Metrics they do nothing.
type Metrics struct {
	reloads          *prometheus.CounterVec
	namespaceReloads *prometheus.CounterVec // nil without
	actions          *prometheus.CounterVec
	actionLatency    *prometheus.HistogramVec
	corrections      *prometheus.CounterVec
	faults           *prometheus.CounterVec
	held             *prometheus.CounterVec
	takenBack        *prometheus.CounterVec
	doubtful         *prometheus.CounterVec
	paused           prometheus.Gauge
	leftOut          prometheus.Gauge
	alerts           *prometheus.CounterVec

	work     workMetrics
	queues   queueMetrics
	requests requestMetrics
}

// The values of the label result, success and error apart those of alerts.
const (
	resultSuccess = "success"
	resultError   = "error"
)

func result(ok bool) string {
	if ok {
		return resultSuccess
	}
	return resultError
}

// NewMetrics returns Metrics that are registered with r. Names that are taken
// there are an error.
func NewMetrics(r prometheus.Registerer, o MetricsOptions) (*Metrics, error) {
	m := &Metrics{
		reloads:       counters("reload_executed_total", "Attempts to reload a workload, by success.", "success"),
		actions:       counters("action_total", "Attempts to reload a workload, by kind and result.", "workload_kind", "result"),
		actionLatency: histograms("action_latency_seconds", "Duration of the request that reloads a workload.", "workload_kind"),
		corrections: counters("index_corrections_total",
			"Workloads whose index entry was wrong at the periodic verification. Zero is normal.", "workload_kind"),
		doubtful: counters("doubtful_changes_total",
			"Changes made while no engine was running for which it is unknown whether the workload's pods use them.", "workload_kind"),
		faults: counters("annotation_faults_total",
			"Annotation values that cannot be used, by reason; counted when detected.", "reason"),
		takenBack: counters("reloads_taken_back_total",
			"Times that reloads of a workload were suspended because another field manager kept reverting them.", "workload_kind"),
		held: counters("reloads_held_total",
			"Times that a workload was throttled because it had been reloaded too often.", "workload_kind"),
		paused: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace,
			Name:      "paused_deployments",
			Help:      "Deployments within a pause period: what changes for them is rolled out when it ends.",
		}),
		leftOut: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace,
			Name:      "checkpoint_sources_left_out",
			Help:      "Sources for which the checkpoint has no room. Changes to them while no engine is running are missed.",
		}),
		alerts: counters("alerts_total", "Alerts, by result: sent, failed, or dropped because the queue was full.", "result"),

		work:     newWorkMetrics(),
		queues:   newQueueMetrics(),
		requests: newRequestMetrics(),
	}
	all := []prometheus.Collector{
		m.reloads, m.actions, m.actionLatency, m.corrections, m.faults, m.held, m.takenBack, m.doubtful, m.paused, m.leftOut, m.alerts,
	}
	if o.ByNamespace {
		m.namespaceReloads = counters("reload_executed_total_by_namespace",
			"Attempts to reload a workload, by whether they succeeded and by its namespace.", "success", "namespace")
		all = append(all, m.namespaceReloads)
	}
	all = append(all, m.work.collectors()...)
	all = append(all, m.queues.collectors()...)
	all = append(all, m.requests.collectors()...)
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	// A counter starts at zero rather than being absent.
	for _, success := range []bool{true, false} {
		m.reloads.WithLabelValues(strconv.FormatBool(success))
	}
	return m, nil
}

// namespace is what all names begin with.
const namespace = "reloader"

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace,
		Name:      name,
		Help:      help,
		Buckets:   prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
	}, labels)
}

func (m *Metrics) executed(r Reload, success bool) {
	kind, text := string(r.Workload.Kind), strconv.FormatBool(success)
	m.reloads.WithLabelValues(text).Inc()
	if m.namespaceReloads != nil {
		m.namespaceReloads.WithLabelValues(text, r.Workload.Namespace).Inc()
	}
	m.actions.WithLabelValues(kind, result(success)).Inc()
	m.actionLatency.WithLabelValues(kind).Observe(r.Latency.Seconds())
}

// Paused reports how many Deployments are within a pause period.
func (m *Metrics) Paused(n int) {
	if m != nil {
		m.paused.Set(float64(n))
	}
}

// CheckpointLeftOut reports for how many sources the checkpoint has no room.
func (m *Metrics) CheckpointLeftOut(n int) {
	if m != nil {
		m.leftOut.Set(float64(n))
	}
}

// Alert counts an alert: sent, failed or dropped.
func (m *Metrics) Alert(result string) {
	if m != nil {
		m.alerts.WithLabelValues(result).Inc()
	}
}

// Event is what the watch says has happened to a source.
type Event string

// The events. What a list brings, at the start or after events were missed, is
// none.
const (
	EventAdd    Event = "add"
	EventUpdate Event = "update"
	EventDelete Event = "delete"
)

// Received counts an event that a watch has brought.
func (m *Metrics) Received(e Event, of reloader.SourceKind) {
	if m != nil {
		m.work.received.WithLabelValues(string(e), resourceType(of)).Inc()
	}
}

// Processed counts n events as done, or one attempt to read the source as
// failed.
func (m *Metrics) Processed(e Event, of reloader.SourceKind, n int, ok bool) {
	if m != nil {
		m.work.processed.WithLabelValues(string(e), resourceType(of), result(ok)).Add(float64(n))
	}
}

// Handled counts one key of a queue that was handled. An error has a type, of a
// closed set; empty is success.
func (m *Metrics) Handled(took time.Duration, errorType string) {
	if m == nil {
		return
	}
	m.work.handled.WithLabelValues(result(errorType == "")).Inc()
	m.work.handling.Observe(took.Seconds())
	if errorType != "" {
		m.work.errors.WithLabelValues(errorType).Inc()
		m.work.retries.Inc()
	}
}

// Panicked counts a panic that was caught outside of the queues.
func (m *Metrics) Panicked() {
	if m != nil {
		m.work.errors.WithLabelValues("panic").Inc()
	}
}

// Decided counts workloads that were evaluated because one of their sources
// changed, and for which the decision was the same.
func (m *Metrics) Decided(w reloader.WorkloadKind, d reloader.Decision, workloads int) {
	if m == nil {
		return
	}
	n := float64(workloads)
	m.work.scanned.WithLabelValues(string(w)).Add(n)
	if d.Reload {
		m.work.matched.WithLabelValues(string(w)).Add(n)
		return
	}
	m.work.skipped.WithLabelValues(string(d.Reason)).Add(n)
}

// resourceType is the value of that label; what the CSI driver writes stands
// for a SecretProviderClass.
func resourceType(of reloader.SourceKind) string {
	switch of {
	case reloader.ConfigMap:
		return "configmap"
	case reloader.Secret:
		return "secret"
	case reloader.SecretProviderClass:
		return "secretproviderclasspodstatus"
	}
	return "unknown"
}

// workMetrics are about what happens before a reload.
type workMetrics struct {
	received, processed       *prometheus.CounterVec
	handled, errors           *prometheus.CounterVec
	handling                  prometheus.Histogram
	retries                   prometheus.Counter
	scanned, matched, skipped *prometheus.CounterVec
}

func newWorkMetrics() workMetrics {
	return workMetrics{
		received: counters("events_received_total",
			"Events of sources that the watches have brought.", "event_type", "resource_type"),
		processed: counters("events_processed_total",
			"Events of sources that are done (success), and failed attempts to read the source (error).", "event_type", "resource_type", "result"),
		handled: counters("reconcile_total",
			"Keys of the queues (workloads to resolve, sources to read, workloads to reload) that were handled.", "result"),
		handling: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace,
			Name:      "reconcile_duration_seconds",
			Help:      "Time that handling a key took.",
			Buckets:   prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		errors: counters("errors_total", "Failures to handle a key, by their type.", "type"),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace,
			Name:      "retries_total",
			Help:      "Keys that were requeued after a failure.",
		}),
		scanned: counters("workloads_scanned_total", "Workloads that were evaluated because a source that they depend on has changed.", "kind"),
		matched: counters("workloads_matched_total", "Workloads that a changed source reloads.", "kind"),
		skipped: counters("skipped_total", "Workloads that depend on a changed source and were not reloaded, by reason.", "reason"),
	}
}

func (m workMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.received, m.processed, m.handled, m.handling, m.errors, m.retries, m.scanned, m.matched, m.skipped,
	}
}
