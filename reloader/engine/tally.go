package engine

import (
	"context"
	"errors"
	"net"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/report"
)

func eventOf(how arrival) report.Event {
	if how == created {
		return report.EventAdd
	}
	return report.EventUpdate
}

// tally counts what came of handling a key once.
func (e *Engine) tally(key any, took time.Duration, err error) {
	e.metrics.Handled(took, errorType(err))
	if s, ok := key.(reloader.Source); ok {
		e.arrivals.settle(s, err == nil)
	}
}

// decided are decisions about a change, counted by what they are.
type decided map[alike]int

// alike is what the decisions of several workloads have in common.
type alike struct {
	kind     reloader.WorkloadKind
	decision reloader.Decision
}

// affected returns the workloads that a change of s reloads, and what all of them
// decide. It counts nothing yet: it may be called under a lock.
func (e *Engine) affected(s reloader.Source, m index.Matches, annotations map[string]string) (reloads []reloader.Workload, all decided) {
	all = decided{}
	for w, decision := range e.index.Decisions(s, m, annotations) {
		all[alike{w.Kind, decision}]++
		if decision.Reload {
			reloads = append(reloads, w)
		}
	}
	return reloads, all
}

// tallyDecided counts decisions.
func (e *Engine) tallyDecided(all decided) {
	for like, workloads := range all {
		e.metrics.Decided(like.kind, like.decision, workloads)
	}
}

// errorType sorts an error into a closed set, empty for none.
func errorType(err error) string {
	var network net.Error
	switch {
	case err == nil:
		return ""
	case panicked(err):
		return "panic"
	case denied(err):
		return "denied"
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return "forbidden"
	case apierrors.IsConflict(err), errors.Is(err, errOutdated):
		return "conflict"
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return "invalid"
	case apierrors.IsTooManyRequests(err):
		return "throttled"
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case apierrors.ReasonForError(err) != "", apierrors.IsInternalError(err):
		return "server"
	case errors.As(err, &network):
		return "network"
	}
	return "other"
}
