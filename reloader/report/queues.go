package report

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

// queueMetrics are about all queues together. They are given to each queue
// when it is made, so that no global of client-go has to be set.
type queueMetrics struct {
	depth   prometheus.Gauge
	adds    prometheus.Counter
	latency prometheus.Histogram
}

var _ workqueue.MetricsProvider = queueMetrics{}

func newQueueMetrics() queueMetrics {
	return queueMetrics{
		depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace,
			Name:      "workqueue_depth",
			Help:      "Keys in the queues that wait for a worker.",
		}),
		adds: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace,
			Name:      "workqueue_adds_total",
			Help:      "Keys that came into the queues.",
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace,
			Name:      "workqueue_latency_seconds",
			Help:      "Time that a key waited for a worker.",
			Buckets:   prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
	}
}

func (m queueMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.depth, m.adds, m.latency}
}

// Queues returns what the queues count in; nil on a nil Metrics.
func (m *Metrics) Queues() workqueue.MetricsProvider {
	if m == nil {
		return nil
	}
	return m.queues
}

// NewDepthMetric implements workqueue.MetricsProvider.
func (m queueMetrics) NewDepthMetric(string) workqueue.GaugeMetric { return m.depth }

// NewAddsMetric implements workqueue.MetricsProvider.
func (m queueMetrics) NewAddsMetric(string) workqueue.CounterMetric { return m.adds }

// NewLatencyMetric implements workqueue.MetricsProvider.
func (m queueMetrics) NewLatencyMetric(string) workqueue.HistogramMetric { return m.latency }

// NewWorkDurationMetric implements workqueue.MetricsProvider; the workers
// measure it, as the time that handling a key took.
func (m queueMetrics) NewWorkDurationMetric(string) workqueue.HistogramMetric { return uncounted{} }

// NewUnfinishedWorkSecondsMetric implements workqueue.MetricsProvider.
func (m queueMetrics) NewUnfinishedWorkSecondsMetric(string) workqueue.SettableGaugeMetric {
	return uncounted{}
}

// NewLongestRunningProcessorSecondsMetric implements
// workqueue.MetricsProvider.
func (m queueMetrics) NewLongestRunningProcessorSecondsMetric(string) workqueue.SettableGaugeMetric {
	return uncounted{}
}

// NewRetriesMetric implements workqueue.MetricsProvider. A queue takes every
// key that has to wait for one that is tried again; the workers know better.
func (m queueMetrics) NewRetriesMetric(string) workqueue.CounterMetric { return uncounted{} }

// uncounted is a metric that is not exported.
type uncounted struct{}

func (uncounted) Inc()            {}
func (uncounted) Set(float64)     {}
func (uncounted) Observe(float64) {}
