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
func (e *Engine) payInherited(ctx context.Context, k kind.Kind, w reloader.Workload) error {
	debts := e.ledger.due(w)
	if k.Way != kind.ByPatch || e.webhook != nil || !e.ledger.inherited(debts) || e.attempts.compared(w) {
		return nil
	}
	to, ok := e.intake.aim(w)
	if !ok {
		return nil
	}
	e.intake.missed(w, false) // nothing is sent yet
	change := kind.Change{UID: to.uid, Marks: e.marks(debts, to), Strategy: e.strategy, ByPlace: to.byPlace, Keys: e.settings.Keys}
	if k.Reads(change) {
		// Those are read before they are written anyway.
		return nil
	}
	m, err := e.client.workload(ctx, k, w)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	}
	e.attempts.compare(w)
	if m.Meta.UID != to.uid || !change.MarkedIn(m.Template) {
		return nil
	}
	e.ledger.paid(w, debts)
	e.log.V(1).Info("reloaded by an engine before", "workload", w.String(), "sources", sourceNames(debts))
	return nil
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
