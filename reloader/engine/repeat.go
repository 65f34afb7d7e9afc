package engine

import (
	"context"
	"encoding/json"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
)

// payInherited reads a workload to which something is due from before this
// engine: an engine before it may have made that reload. If its marks are there,
// nothing is sent and nothing is reported again. It reads a workload once.
//
// A webhook that is called instead leaves no mark: it is called again, with the
// same ID.
func (e *Engine) payInherited(ctx context.Context, k kind.Kind, w reloader.Workload) error {
	debts := e.dueNow(w)
	if k.Way != kind.ByPatch || e.webhook != nil || !e.ledger.inherited(debts) || e.attempts.compared(w) {
		return nil
	}
	to, ok := e.intake.aim(w)
	if !ok {
		return nil
	}
	e.intake.missed(w, false) // nothing is sent yet
	change := kind.Change{UID: to.uid, Marks: e.marks(debts, to), Strategy: e.strategy, Keys: e.settings.Keys}
	made, err := e.isMade(ctx, k, w, change)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	}
	e.attempts.compare(w)
	if made {
		e.ledger.paid(w, debts)
		e.log.V(1).Info("reloaded by an engine before", "workload", w.String(), "sources", sourceNames(debts))
	}
	return nil
}

// isMade reports whether the pod template of w, which may be borrowed, has the
// marks of a change.
func (e *Engine) isMade(ctx context.Context, k kind.Kind, w reloader.Workload, c kind.Change) (bool, error) {
	m, err := e.client.workload(ctx, k, w)
	// One that is restarted has them in its metadata, which restartPatch compares.
	if err != nil || m.Meta.UID != c.UID || k.Restarts(m, c.Keys) {
		return false, err
	}
	if m.Borrows {
		lends, ok := e.known.ByName(m.Lender.Kind)
		if !ok {
			return false, nil
		}
		if m, err = e.client.workload(ctx, lends, m.Lender); err != nil {
			return false, err
		}
	}
	c = fitted(c, m)
	if c.MarkedIn(m.Template) {
		return true, nil
	}
	c.Compact = true // there may have been no room for names
	return c.MarkedIn(m.Template), nil
}

// correct makes sure that after a patch of ours a workload has no record for a
// later generation: it would fit that one, whatever it brings. It returns the
// metadata as they are then, and whether the patch has only repeated an earlier
// one: our record is for the generation that it would have made.
//
// The correction has the UID as its only precondition, so that frequent writes
// cannot prevent it. If a generation has come in between, the corrected record is
// behind, and does not fit.
func (e *Engine) correct(ctx context.Context, k kind.Kind, w reloader.Workload, c kind.Change, written *metav1.PartialObjectMetadata) (now *metav1.PartialObjectMetadata, repeated bool) {
	text := written.Annotations[c.Keys.Index]
	if !record.Ahead(text, written.Generation) {
		return written, false
	}
	var right *string // nil removes it
	rec, err := record.Decode(text)
	repeated = err == nil && text == c.Record && rec.Generation == written.Generation+1
	if repeated && !k.CountsAnnotations() {
		// Where annotations count, the same text was there before, and has to go.
		if text, err = rec.WithGeneration(written.Generation).Encode(); err == nil {
			right = &text
		}
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": written.UID, "annotations": map[string]*string{c.Keys.Index: right},
	}})
	if err != nil {
		return written, repeated
	}
	corrected, err := e.client.patch(ctx, k, w, types.MergePatchType, body)
	if err != nil {
		e.log.Error(err, "cannot correct an index record that is for a later generation", "workload", w.String())
		return written, repeated
	}
	return corrected, repeated
}
