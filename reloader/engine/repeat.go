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

// correct makes sure that the record which a patch has left is not for a
// generation to come: it would fit that one, whatever it brings. It returns the
// metadata as they are then, and whether there was such a record, which means
// that the patch has changed nothing else.
func (e *Engine) correct(ctx context.Context, k kind.Kind, w reloader.Workload, c kind.Change, written *metav1.PartialObjectMetadata) (now *metav1.PartialObjectMetadata, future bool) {
	rec, err := record.Decode(written.Annotations[c.Keys.Index])
	if err != nil || c.Record == "" || rec.Generation <= written.Generation {
		return written, false
	}
	generation := written.Generation
	if k.CountsAnnotations() {
		generation++ // this patch makes it
	}
	text, err := rec.WithGeneration(generation).Encode()
	if err != nil {
		return written, true
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": written.UID, "annotations": map[string]string{c.Keys.Index: text},
	}})
	if err != nil {
		return written, true
	}
	corrected, err := e.client.patch(ctx, k, w, types.MergePatchType, body)
	if err != nil {
		e.log.Error(err, "cannot correct an index record that is for a later generation", "workload", w.String())
		return written, true
	}
	return corrected, true
}
