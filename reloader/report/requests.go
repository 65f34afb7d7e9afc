package report

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// requestMetrics are about requests to the API server.
type requestMetrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newRequestMetrics() requestMetrics {
	return requestMetrics{
		total: counters("rest_client_requests_total", "Requests to the API server, by the status of the answer.", "code", "method", "host"),
		duration: histograms("rest_client_request_duration_seconds",
			"Time until the answer to a request began; that of a watch begins with its first event or before.", "verb", "host"),
	}
}

func (m requestMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.total, m.duration}
}

// Transport returns next with its requests counted, for rest.Config.Wrap.
func (m *Metrics) Transport(next http.RoundTripper) http.RoundTripper {
	if m == nil {
		return next
	}
	return counted{next: next, metrics: m.requests}
}

// counted is a transport that counts.
type counted struct {
	next    http.RoundTripper
	metrics requestMetrics
}

var _ utilnet.RoundTripperWrapper = counted{}

// noAnswer is the code of a request without one.
const noAnswer = "<error>"

// RoundTrip implements http.RoundTripper.
func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	// A transport may change the request, but not these.
	method, host := r.Method, r.URL.Host
	started := time.Now()
	answer, err := c.next.RoundTrip(r)
	code := noAnswer
	if err == nil {
		code = strconv.Itoa(answer.StatusCode)
	}
	c.metrics.total.WithLabelValues(code, method, host).Inc()
	c.metrics.duration.WithLabelValues(method, host).Observe(time.Since(started).Seconds())
	return answer, err
}

// WrappedRoundTripper lets others look at the transport behind it.
func (c counted) WrappedRoundTripper() http.RoundTripper { return c.next }
