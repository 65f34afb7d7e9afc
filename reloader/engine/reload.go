package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/report"
)

// Reporter is told what came of reloads. Its methods are called by many
// workers at once and must not block.
type Reporter interface {
	// Reloaded is called once per patch that the API server took.
	Reloaded(report.Reload)
	// Failed is called once per patch that it refused, or that never reached
	// it. The outcome says what happens next.
	Failed(r report.Reload, outcome reloader.Outcome, err error)
	// Corrected is called when the verifying pass found the index wrong.
	Corrected(w reloader.Workload)
}

// reload handles one key of the workload queue: it patches a workload so that
// its pods start with the content that it has yet to get.
func (e *Engine) reload(ctx context.Context, w reloader.Workload) error {
	k, ok := kind.ByName(w.Kind)
	debts := e.ledger.due(w)
	if !ok || len(debts) == 0 {
		return nil
	}
	to, ok := e.intake.aim(w)
	if !ok {
		// Once it has been read it comes back.
		return nil
	}
	started := e.clock.Now()
	body, patchType, err := k.Patch(kind.Change{
		UID:      to.uid,
		Marks:    marks(debts, to),
		Strategy: e.strategy,
		Record:   to.record,
		Keys:     e.settings.Keys,
	})
	if err != nil {
		return err
	}
	patched, err := e.client.patch(ctx, k, w, patchType, body)
	r := report.Reload{
		Workload:   w,
		UID:        to.uid,
		APIVersion: k.Resource.GroupVersion().String(),
		Sources:    sourcesOf(debts),
		Latency:    e.clock.Since(started),
	}
	if err != nil {
		return e.refused(w, r, err)
	}
	e.intake.landed(w, patched)
	if e.ledger.paid(w, debts) {
		e.queues.reload(w)
	}
	e.reporter.Reloaded(r)
	e.log.Info("reloaded", "workload", w.String(), "sources", sourceNames(debts), "generation", patched.Generation)
	return nil
}

// refused sorts the failure of a patch by what has to happen next.
func (e *Engine) refused(w reloader.Workload, r report.Reload, err error) error {
	switch {
	case apierrors.IsNotFound(err):
		// The event of its deletion comes, and forgets what was due.
		e.intake.missed(w, false)
		return nil
	case apierrors.IsConflict(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		// It is not what we took it for: another one of that name, or other
		// containers.
		e.intake.missed(w, true)
		e.reporter.Failed(r, reloader.OutcomeRetry, err)
		return err
	case apierrors.IsForbidden(err), denied(err):
		e.intake.missed(w, false)
		e.reporter.Failed(r, reloader.OutcomeStalled, err)
		return stalledError{err}
	}
	e.intake.missed(w, false)
	e.reporter.Failed(r, reloader.OutcomeRetry, err)
	return err
}

// stalledError is a refusal that somebody has to lift.
type stalledError struct{ error }

func (e stalledError) Unwrap() error { return e.error }

// denied reports whether an admission webhook said no: it chooses its own
// status code, but the API server's words before it stand.
func denied(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Status == metav1.StatusFailure &&
		strings.HasPrefix(status.Status().Message, "admission webhook ")
}

func marks(debts []debt, to target) []kind.Mark {
	all := make([]kind.Mark, len(debts))
	for i, d := range debts {
		mark := kind.Mark{Source: d.source, Value: string(d.fingerprint), Container: to.container, Env: envName(d.source, to.references)}
		placed := false
		for _, r := range to.references {
			if r.Kind != d.source.Kind || r.Name != d.source.Name || r.Container == "" {
				continue
			}
			if !placed && !r.Init {
				mark.Container, placed = r.Container, true
			}
			if !slices.Contains(mark.UsedBy, r.Container) {
				mark.UsedBy = append(mark.UsedBy, r.Container)
			}
		}
		slices.Sort(mark.UsedBy)
		all[i] = mark
	}
	return all
}

// envName is the variable of a source in one workload. Names that differ only
// in punctuation share one by the rule that today's users rely on; here the
// first of them in the alphabet keeps it, and the others get one of their own.
func envName(s reloader.Source, references []reloader.Reference) string {
	name := policy.EnvName(s.Kind, s.Name)
	for _, r := range references {
		if r.Kind == s.Kind && r.Name < s.Name && policy.EnvName(r.Kind, r.Name) == name {
			sum := sha256.Sum256([]byte(s.Name))
			return name + "_" + strings.ToUpper(hex.EncodeToString(sum[:4]))
		}
	}
	return name
}

func sourcesOf(debts []debt) []reloader.Source {
	sources := make([]reloader.Source, len(debts))
	for i, d := range debts {
		sources[i] = d.source
	}
	return sources
}

func sourceNames(debts []debt) []string {
	names := make([]string, len(debts))
	for i, d := range debts {
		names[i] = d.source.String()
	}
	return names
}
