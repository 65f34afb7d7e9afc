package report

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
)

// Reload is one attempt to reload one workload.
type Reload struct {
	Workload reloader.Workload
	UID      types.UID
	// APIVersion of the workload, for the event that names it.
	APIVersion string
	// Sources whose content changed; none if nothing is to be reloaded.
	Sources []reloader.Source
	// Latency of the request.
	Latency time.Duration
	// Posted is true if a webhook was called instead of patching the workload.
	Posted bool
}

// The reasons of events on workloads.
const (
	reasonReloaded = "Reloaded"
	reasonFailed   = "ReloadFail"
	reasonHeld     = "ReloadHeld"
	reasonReverted = "ReloadReverted"
	reasonPosted   = "WebhookCalled"
)

// Reporter writes events and metrics and sends alerts. It is safe for
// concurrent use.
type Reporter struct {
	metrics *Metrics
	events  *Events
	alerts  alerts
}

// New returns a Reporter; without events or alerts, which may be nil, there are
// none.
func New(m *Metrics, e *Events, a Alerter) *Reporter {
	return &Reporter{metrics: m, events: e, alerts: alerts{to: a}}
}

// Reloaded counts a reload and tells the workload.
func (r *Reporter) Reloaded(reload Reload) {
	r.metrics.executed(reload, true)
	r.alerts.reloaded(reload)
	if r.events == nil {
		return
	}
	if reload.Posted {
		r.events.write(reload, corev1.EventTypeNormal, reasonPosted, postedMessage(reload))
		return
	}
	r.events.write(reload, corev1.EventTypeNormal, reasonReloaded, reloadedMessage(reload))
}

// Failed counts a failed attempt and tells the workload why.
func (r *Reporter) Failed(reload Reload, outcome reloader.Outcome, err error) {
	r.metrics.executed(reload, false)
	r.alerts.failed(reload, err)
	if r.events != nil {
		r.events.write(reload, corev1.EventTypeWarning, reasonFailed, failedMessage(reload, outcome, err))
	}
}

// Held counts a workload that was reloaded too often, and tells it for how long
// it is held back.
func (r *Reporter) Held(reload Reload, wait time.Duration) {
	r.metrics.held.WithLabelValues(string(reload.Workload.Kind)).Inc()
	r.alerts.held(reload, wait)
	if r.events != nil {
		r.events.write(reload, corev1.EventTypeWarning, reasonHeld, heldMessage(reload, wait))
	}
}

// TakenBack counts a workload whose reloads somebody keeps taking back, and
// tells it who.
func (r *Reporter) TakenBack(reload Reload, by string) {
	r.metrics.takenBack.WithLabelValues(string(reload.Workload.Kind)).Inc()
	r.alerts.takenBack(reload, by)
	if r.events != nil {
		r.events.write(reload, corev1.EventTypeWarning, reasonReverted, takenBackMessage(reload, by))
	}
}

// maxFaults is how many faults of a workload are told in events.
const maxFaults = 5

// Faulty counts what cannot be used of a workload's annotations, and tells the
// workload. Of reload, what names the workload is enough.
func (r *Reporter) Faulty(reload Reload, faults []reloader.Problem) {
	for i, fault := range faults {
		r.metrics.faults.WithLabelValues(string(fault.Reason)).Inc()
		if r.events != nil && i < maxFaults {
			r.events.write(reload, corev1.EventTypeWarning, string(fault.Reason), clip(fault.Message))
		}
	}
}

// Doubtful counts a change of which it cannot be known whether the workload's
// pods have it.
func (r *Reporter) Doubtful(w reloader.Workload, _ reloader.Source) {
	r.metrics.doubtful.WithLabelValues(string(w.Kind)).Inc()
}

// Corrected counts a workload that the index had wrong.
func (r *Reporter) Corrected(w reloader.Workload) {
	r.metrics.corrections.WithLabelValues(string(w.Kind)).Inc()
}
