package report

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"k8s-reloader/reloader"
)

// Metrics of reloads. The names and labels are those of today's Reloader where
// it has them.
type Metrics struct {
	reloads       *prometheus.CounterVec
	actions       *prometheus.CounterVec
	actionLatency *prometheus.HistogramVec
	corrections   *prometheus.CounterVec
	held          *prometheus.CounterVec
	takenBack     *prometheus.CounterVec
	doubtful      *prometheus.CounterVec
}

// NewMetrics returns Metrics that are registered with r. Names that are taken
// there are an error.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_reload_executed_total",
			Help: "Attempts to reload a workload, by whether they succeeded.",
		}, []string{"success"}),
		actions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_action_total",
			Help: "Attempts to reload a workload, by its kind and what came of them.",
		}, []string{"workload_kind", "result"}),
		actionLatency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "reloader_action_latency_seconds",
			Help:    "Time that the patch of a workload took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}, []string{"workload_kind"}),
		corrections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_index_corrections_total",
			Help: "Workloads that the index had wrong when everything was verified. Zero is normal.",
		}, []string{"workload_kind"}),
		doubtful: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_doubtful_changes_total",
			Help: "Changes made while no engine ran of which it cannot be known whether the workload's pods have them.",
		}, []string{"workload_kind"}),
		takenBack: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_reloads_taken_back_total",
			Help: "Times that a workload was held back, because somebody kept taking its reloads back.",
		}, []string{"workload_kind"}),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_reloads_held_total",
			Help: "Times that a workload was held back, because it had been reloaded too often.",
		}, []string{"workload_kind"}),
	}
	for _, c := range []prometheus.Collector{m.reloads, m.actions, m.actionLatency, m.corrections, m.held, m.takenBack, m.doubtful} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	for _, success := range []bool{true, false} {
		m.reloads.WithLabelValues(strconv.FormatBool(success))
	}
	return m, nil
}

func (m *Metrics) executed(r Reload, success bool) {
	m.reloads.WithLabelValues(strconv.FormatBool(success)).Inc()
	m.actionLatency.WithLabelValues(string(r.Workload.Kind)).Observe(r.Latency.Seconds())
}

func (m *Metrics) action(r Reload, outcome reloader.Outcome) {
	m.actions.WithLabelValues(string(r.Workload.Kind), string(outcome)).Inc()
}
