package report

import (
	"slices"
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
	// More counts further sources whose names are not kept: see Brief.
	More int
	// Latency of the request.
	Latency time.Duration
	// Posted is true if a webhook was called instead of patching the workload.
	Posted bool
}

// mostKept is how many sources Brief keeps: more than any text names.
const mostKept = 100

// Brief returns the reload as it is kept for later: with some of the sources, and
// the number of the others.
func (r Reload) Brief() Reload {
	if more := len(r.Sources) - mostKept; more > 0 {
		r.Sources, r.More = slices.Clone(r.Sources[:mostKept]), r.More+more
	}
	return r
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

// New returns a Reporter. Events and alerts may be nil; none are sent then.
func New(m *Metrics, e *Events, a Alerter) *Reporter {
	return &Reporter{metrics: m, events: e, alerts: alerts{to: a}}
}

// Reloaded counts a reload and writes an event on the workload.
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

// Failed counts a failed attempt and writes an event with the reason.
func (r *Reporter) Failed(reload Reload, outcome reloader.Outcome, err error) {
	r.metrics.executed(reload, false)
	r.alerts.failed(reload, err)
	if r.events != nil {
		r.events.write(reload, corev1.EventTypeWarning, reasonFailed, failedMessage(reload, outcome, err))
	}
}

// Held counts a workload that was reloaded too often, and writes an event that says
// for how long it is throttled.
func (r *Reporter) Held(reload Reload, wait time.Duration) {
	r.metrics.held.WithLabelValues(string(reload.Workload.Kind)).Inc()
	r.alerts.held(reload, wait)
	if r.events != nil {
		r.events.write(reload, corev1.EventTypeWarning, reasonHeld, heldMessage(reload, wait))
	}
}

// TakenBack counts a workload whose reloads another field manager keeps reverting,
// and writes an event that names the manager.
func (r *Reporter) TakenBack(reload Reload, by string) {
	r.metrics.takenBack.WithLabelValues(string(reload.Workload.Kind)).Inc()
	r.alerts.takenBack(reload, by)
	if r.events != nil {
		r.events.write(reload, corev1.EventTypeWarning, reasonReverted, takenBackMessage(reload, by))
	}
}

// maxFaults bounds the events about faults of one workload.
const maxFaults = 5

// Faulty counts annotation values that cannot be used, and writes an event for
// each. Only the fields of reload that name the workload are read.
func (r *Reporter) Faulty(reload Reload, faults []reloader.Problem) {
	for i, fault := range faults {
		r.metrics.faults.WithLabelValues(string(fault.Reason)).Inc()
		if r.events != nil && i < maxFaults {
			r.events.write(reload, corev1.EventTypeWarning, string(fault.Reason), clip(fault.Message))
		}
	}
}

// Doubtful counts a change for which it is unknown whether the workload's pods use
// the new content.
func (r *Reporter) Doubtful(w reloader.Workload, _ reloader.Source) {
	r.metrics.doubtful.WithLabelValues(string(w.Kind)).Inc()
}

// Corrected counts a workload whose index entry was wrong.
func (r *Reporter) Corrected(w reloader.Workload) {
	r.metrics.corrections.WithLabelValues(string(w.Kind)).Inc()
}
