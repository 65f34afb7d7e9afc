package webhook

import (
	"cmp"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
	"k8s-reloader/reloader/reference"
	"k8s-reloader/reloader/review"
)

// validateWorkload judges what a request brings into a workload.
func (w *Webhook) validateWorkload(req admission.Request) (verdict, error) {
	if !changes(req) {
		return verdict{}, nil
	}
	a, err := w.decode(req)
	if err != nil {
		return verdict{}, err
	}
	var introduced []reloader.Problem
	if w.mode != policy.ModeOff {
		introduced = review.Workload(a.updated, w.settings)
		if len(introduced) > 0 && a.old != nil {
			introduced = policy.Introduced(review.Workload(a.old, w.settings), introduced)
		}
	}
	return w.judged(append(introduced, w.unrecorded(req, a)...)), nil
}

// unrecorded warns when the template that will be stored has other references than
// the record: another webhook changed it after ours.
func (w *Webhook) unrecorded(req admission.Request, a *admitted) []reloader.Problem {
	text, ok := a.updated.Meta.Annotations[w.settings.Keys.Index]
	if !ok {
		return nil
	}
	r, err := record.Decode(text)
	if err != nil {
		return nil
	}
	// The engine does not trust a record that does not fit, so it misses nothing.
	// Such a record came with a manifest that our mutating webhook did not see, or
	// a later webhook raised the generation.
	if err := r.Fits(record.Identity{
		Namespace:  req.Namespace,
		Name:       a.updated.Meta.Name,
		UID:        cmp.Or(a.uid(), string(a.updated.Meta.UID)), // set by now
		Generation: a.kind.Generation(a.old, a.updated, ""),
	}, w.settings.Keys); err != nil {
		return nil
	}
	problems := policy.Unrecorded(r.References, reference.Of(&a.updated.Template.Spec), w.settings.Keys)
	if len(problems) > 0 {
		w.metrics.unrecorded.Inc()
	}
	return problems
}

// validateSource judges what a request brings into the metadata of a source.
func (w *Webhook) validateSource(req admission.Request) (verdict, error) {
	if !changes(req) || w.mode == policy.ModeOff {
		return verdict{}, nil
	}
	kind, ok := review.SourceKind(req.Kind.Group, req.Kind.Kind)
	if !ok {
		return verdict{}, errKind
	}
	introduced, err := review.Source(kind, req.Object.Raw, w.settings)
	if err != nil {
		return verdict{}, fmt.Errorf("new object: %w", err)
	}
	if len(introduced) > 0 && req.Operation == admissionv1.Update {
		before, err := review.Source(kind, req.OldObject.Raw, w.settings)
		if err != nil {
			return verdict{}, fmt.Errorf("old object: %w", err)
		}
		introduced = policy.Introduced(before, introduced)
	}
	return w.judged(introduced), nil
}

func (w *Webhook) judged(problems []reloader.Problem) verdict {
	w.metrics.found(problems)
	return verdict{Verdict: w.mode.Verdict(problems)}
}
