package webhook

import (
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"k8s-reloader/reloader/kind"
)

// errKind means that the webhook configuration sends us what we do not know.
var errKind = errors.New("kind is not one that the webhook knows")

// admitted is the workload of one request.
type admitted struct {
	kind    kind.Kind
	updated *kind.Manifest
	old     *kind.Manifest // nil on create
}

// uid returns the workload's UID; empty on create, where one that came with the
// manifest will be replaced. An update by PUT may leave it out.
func (a *admitted) uid() string {
	if a.old == nil {
		return ""
	}
	return string(a.old.Meta.UID)
}

// changes reports whether a request creates or updates an object itself; what
// else the configuration may send is none of our business.
func changes(req admission.Request) bool {
	return req.SubResource == "" && (req.Operation == admissionv1.Create || req.Operation == admissionv1.Update)
}

// decode reads the workload of a request.
func (w *Webhook) decode(req admission.Request) (*admitted, error) {
	k, ok := w.kinds.ByGroupKind(req.Kind.Group, req.Kind.Kind)
	if !ok {
		return nil, errKind
	}
	updated, err := k.Excerpt(req.Object.Raw, w.relevant)
	if err != nil {
		return nil, fmt.Errorf("new object: %w", err)
	}
	a := &admitted{kind: k, updated: updated}
	if req.Operation == admissionv1.Update {
		if a.old, err = k.Excerpt(req.OldObject.Raw, w.relevant); err != nil {
			return nil, fmt.Errorf("old object: %w", err)
		}
	}
	return a, nil
}
