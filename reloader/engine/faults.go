package engine

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/report"
)

// mostFaults is how many of a workload are kept, and reported.
const mostFaults = 16

// judge has those told who have annotations that cannot be used, once for the
// same faults. in.mu is held.
func (in *intake) judge(w reloader.Workload, t *tracked, faults []reloader.Problem) {
	if len(faults) > mostFaults {
		faults = slices.Clone(faults[:mostFaults])
	}
	if slices.Equal(faults, t.faults) {
		return
	}
	if t.faults = faults; len(faults) > 0 {
		in.queues.faults.Add(w)
	}
}

// faultsOf returns what cannot be used of the annotations of w.
func (in *intake) faultsOf(w reloader.Workload) (types.UID, []reloader.Problem) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if t := in.workloads[w]; t != nil {
		return t.uid, t.faults
	}
	return "", nil
}

// tellFaults handles one key of the queue of faults. Only a leader comes here.
func (e *Engine) tellFaults(_ context.Context, w reloader.Workload) error {
	k, ok := e.known.ByName(w.Kind)
	uid, faults := e.intake.faultsOf(w)
	if !ok || len(faults) == 0 {
		return nil
	}
	e.reporter.Faulty(report.Reload{Workload: w, UID: uid, APIVersion: k.Resource.GroupVersion().String()}, faults)
	for _, fault := range faults {
		e.log.Info("an annotation cannot be used", "workload", w.String(), "reason", fault.Reason, "message", fault.Message)
	}
	return nil
}
