package webhook

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"k8s-reloader/reloader"
)

// The answers, a closed set of label values.
const (
	answerAllowed    = "allowed"
	answerWarned     = "warned"
	answerDenied     = "denied"
	answerFailedOpen = "failed-open" // admitted unchecked after a fault
)

// The causes for which a request is admitted unchecked: a closed set of label values.
const (
	causePanic      = "panic"
	causeError      = "error"      // an object that cannot be decoded, above all
	causeUnreadable = "unreadable" // a review that is none, or too large
	causeSlow       = "slow"       // a review that did not arrive in time
	causeOverloaded = "overloaded"
)

// What became of a record, a closed set of label values.
const (
	recordWritten   = "written"
	recordUnchanged = "unchanged"
	recordRemoved   = "removed"
	recordNone      = "none" // not opted in, and none there
	recordTooLarge  = "too-large"
)

type metrics struct {
	failures   *prometheus.CounterVec
	requests   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	problems   *prometheus.CounterVec
	records    *prometheus.CounterVec
	unrecorded prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_admission_requests_total",
			Help: "Admission requests by handler and answer.",
		}, []string{"handler", "answer"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_admission_failed_open_total",
			Help: "Admission requests that were admitted unchecked because of a fault of the webhook, by cause.",
		}, []string{"handler", "cause"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reloader_admission_duration_seconds",
			Help: "Time from the arrival of an admission request to its answer.",
			// From 100 microseconds to 3.3 seconds; a request takes well under
			// a millisecond, and the API server waits for 3 seconds.
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}, []string{"handler"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_admission_problems_total",
			Help: "Problems that admission requests brought in, by reason.",
		}, []string{"reason"}),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reloader_admission_records_total",
			Help: "What became of index records in admission requests.",
		}, []string{"result"}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "reloader_admission_unrecorded_references_total",
			Help: "Workloads admitted with other references than their index record holds.",
		}),
	}
	var problems []error
	for _, c := range []prometheus.Collector{m.requests, m.failures, m.duration, m.problems, m.records, m.unrecorded} {
		problems = append(problems, registerer.Register(c))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("register admission metrics: %w", err)
	}
	return m, nil
}

// failedOpen counts a request that was admitted unchecked.
func (m *metrics) failedOpen(handler, cause string) {
	m.requests.WithLabelValues(handler, answerFailedOpen).Inc()
	m.failures.WithLabelValues(handler, cause).Inc()
}

func (m *metrics) found(problems []reloader.Problem) {
	for _, p := range problems {
		m.problems.WithLabelValues(string(p.Reason)).Inc()
	}
}
