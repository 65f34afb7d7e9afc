package engine

import (
	"context"
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/receiver"
	"k8s-reloader/reloader/report"
)

// Webhook is called instead of patching a workload. receiver.Receiver is one.
type Webhook interface {
	// Post posts once. An error for which receiver.Refused is true is tried
	// again slowly, any other one soon.
	Post(ctx context.Context, contentType string, body []byte) error
}

var _ Webhook = (*receiver.Receiver)(nil)

// call is the body of what is posted: one workload, and why it would be
// reloaded.
type call struct {
	// ID is the same whenever the same changes are posted for the same
	// workload: after an answer was lost, they are posted again.
	ID       string       `json:"id"`
	Workload callWorkload `json:"workload"`
	Sources  []callSource `json:"sources"`
	// MoreSources is how many have changed besides those in Sources, of which
	// there are maxCallSources at most.
	MoreSources int `json:"moreSources,omitempty"`
}

// maxCallSources bounds the sources of a call: names have up to 253 bytes, so that
// the body has less than 450 KiB.
const maxCallSources = 1000

type callWorkload struct {
	APIVersion string                `json:"apiVersion"`
	Kind       reloader.WorkloadKind `json:"kind"`
	Namespace  string                `json:"namespace"`
	Name       string                `json:"name"`
	UID        types.UID             `json:"uid"`
}

type callSource struct {
	Kind      reloader.SourceKind `json:"kind"`
	Namespace string              `json:"namespace"`
	Name      string              `json:"name"`
	// Reason of the decision that its change reloads the workload.
	Reason reloader.Reason `json:"reason"`
}

// callInstead calls the webhook instead of making an attempt at a workload, and
// writes nothing.
func (e *Engine) callInstead(ctx context.Context, k kind.Kind, it attempt, to target) error {
	r, debts := it.reload, it.debts
	r.Posted = true
	// No generation is made that could be expected, and nothing rolls.
	e.notMade(r.Workload, false)
	why, err := e.idle(ctx, k, r.Workload, it.change)
	if err != nil {
		return err
	}
	if why != "" {
		if e.ledger.paid(r.Workload, debts) {
			e.intake.reload(r.Workload)
		}
		e.log.V(1).Info(why, "workload", r.Workload.String(), "sources", sourceNames(debts))
		return nil
	}
	body, err := json.Marshal(e.newCall(r, debts, to))
	if err != nil {
		return fmt.Errorf("encode the call for %s: %w", r.Workload, err)
	}
	started := e.clock.Now()
	err = e.webhook.Post(ctx, "application/json", body)
	r.Latency = e.clock.Since(started)
	switch {
	case err == nil:
	case stopped(ctx):
		return err
	case receiver.Refused(err):
		err = stalledError{fmt.Errorf("call the webhook for %s: %w", r.Workload, err)}
		e.reporter.Failed(r, reloader.OutcomeStalled, err)
		return err
	default:
		// It may have arrived all the same: content that goes back is to be
		// told, too.
		e.ledger.doubt(r.Workload, debts)
		err = fmt.Errorf("call the webhook for %s: %w", r.Workload, err)
		e.reporter.Failed(r, reloader.OutcomeRetry, err)
		return err
	}
	e.limits.reloaded(r.Workload)
	if e.ledger.paid(r.Workload, debts) {
		e.intake.reload(r.Workload)
	}
	e.reporter.Reloaded(r)
	e.log.Info("called the webhook", "workload", r.Workload.String(), "sources", sourceNames(debts))
	return nil
}

// idle says why a change would start nothing; empty if it would. Jobs and
// CronJobs have to be read for that.
func (e *Engine) idle(ctx context.Context, k kind.Kind, w reloader.Workload, c kind.Change) (why string, err error) {
	if k.Way == kind.ByPatch {
		return "", nil
	}
	m, err := e.client.workload(ctx, k, w)
	switch {
	case apierrors.IsNotFound(err):
		return "it is gone", nil
	case err != nil:
		return "", err
	case m.Meta.UID != c.UID:
		e.intake.missed(w, true)
		return "", fmt.Errorf("call the webhook for %s: %w", w, errAnother)
	}
	starts := false
	if k.Way == kind.ByRun {
		var run kind.Run
		run, err = kind.RunOf(m, c)
		starts = run.Job != nil
	} else {
		var replacement *batchv1.Job
		replacement, err = kind.Replacement(m, c)
		starts = replacement != nil && (e.rerunFinished || !kind.Finished(m))
	}
	if err != nil {
		return "", fmt.Errorf("call the webhook for %s: %w", w, err)
	}
	if !starts {
		return "not called for: it has ended, is suspended, has this content, or is being deleted", nil
	}
	return "", nil
}

func (e *Engine) newCall(r report.Reload, debts []debt, to target) call {
	c := call{Workload: callWorkload{
		APIVersion: r.APIVersion,
		Kind:       r.Workload.Kind,
		Namespace:  r.Workload.Namespace,
		Name:       r.Workload.Name,
		UID:        r.UID,
	}}
	versions := make([]uint64, len(debts))
	c.MoreSources = max(len(debts)-maxCallSources, 0)
	for i, d := range debts {
		if i < maxCallSources {
			c.Sources = append(c.Sources, callSource{
				Kind:      d.source.Kind,
				Namespace: d.source.Namespace,
				Name:      d.source.Name,
				Reason:    e.reasonFor(d.source, to),
			})
		}
		versions[i] = e.ledger.writtenAt(d.source).version
	}
	c.ID = e.seals.call(r, debts, versions)
	return c
}

// reasonFor returns why a change of a source reloads a workload, given that it
// does. The source's annotations are not at hand: where the workload's own are
// not enough, the source has the match annotation.
func (e *Engine) reasonFor(s reloader.Source, to target) reloader.Reason {
	referenced := false
	for _, r := range to.references {
		referenced = referenced || r.Kind == s.Kind && r.Name == s.Name && e.settings.Follows(r.How)
	}
	decision := to.policy.Decide(s.Kind, s.Name, nil, referenced)
	if !decision.Reload {
		decision = to.policy.Decide(s.Kind, s.Name, map[string]string{e.settings.Keys.Match: "true"}, referenced)
	}
	return decision.Reason
}
