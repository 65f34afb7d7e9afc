package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"k8s-reloader/reloader/excerpt"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
)

// mutateWorkload writes the index record of a workload that is opted in, and
// removes that of one that is not.
func (w *Webhook) mutateWorkload(req admission.Request) (verdict, error) {
	if !changes(req) {
		return verdict{}, nil
	}
	a, err := w.decode(req)
	if err != nil {
		return verdict{}, err
	}
	text, result, err := w.record(req, a)
	if err != nil {
		return verdict{}, err
	}
	patch, err := annotationPatch(a.updated.Meta.Annotations, w.settings.Keys.Index, text)
	if err != nil {
		return verdict{}, err
	}
	switch _, had := a.updated.Meta.Annotations[w.settings.Keys.Index]; {
	case result != "":
	case text != "" && patch == nil:
		result = recordUnchanged
	case text != "":
		result = recordWritten
	case had:
		result = recordRemoved
	default:
		result = recordNone
	}
	w.metrics.records.WithLabelValues(result).Inc()
	return verdict{patch: patch}, nil
}

// record returns the record that the workload is to carry; empty: none. The
// result is set if there is more to say than that.
func (w *Webhook) record(req admission.Request, a *admitted) (text, result string, err error) {
	meta := a.updated.Meta
	if !policy.Parse(meta.Annotations, a.updated.Template.Annotations, w.settings).Active() {
		return "", "", nil
	}
	// What a borrowed template references is not in the request.
	if a.updated.Borrows {
		return "", "", nil
	}
	// A name that the API server has yet to generate makes a record that
	// nothing would trust.
	if meta.Name == "" {
		return "", "", nil
	}
	if len(a.updated.Raw.Template) > maxTemplate {
		return "", recordTooLarge, nil
	}
	hash, err := a.updated.TemplateHash(w.settings.Keys)
	if err != nil {
		return "", "", err
	}
	r := record.New(record.Identity{
		Namespace: req.Namespace,
		Name:      meta.Name,
		UID:       a.uid(),
	}, a.updated.Template, hash, w.settings.Keys)
	text, err = w.encodeForGeneration(r, a)
	if errors.Is(err, record.ErrTooLarge) {
		return "", recordTooLarge, nil
	}
	if err != nil {
		return "", "", fmt.Errorf("encode record: %w", err)
	}
	if !hasRoom(a.updated, w.settings.Keys.Index, text) {
		return "", recordTooLarge, nil
	}
	return text, "", nil
}

// maxTemplate is the length of the largest pod template that gets a record.
// Hashing a template takes a multiple of its length, and no API server stores
// much larger ones.
const maxTemplate = 512 << 10

// roomForOthers is what a record leaves of the size that annotations may have
// together: for webhooks after ours, and for the controllers, which hand
// annotations on to what they create and add their own.
const roomForOthers = 16 << 10

// hasRoom reports whether a workload's annotations may take the record. The API
// server would refuse the object otherwise, for a fault of ours.
func hasRoom(m *kind.Manifest, key, text string) bool {
	others := excerpt.Length(m.Raw.Annotations, key)
	return others+len(key)+len(text)+roomForOthers <= validation.TotalAnnotationSizeLimitB
}

// encodeForGeneration returns the record made for the generation that the
// object will have once it carries it; empty if no record can be. The record is
// part of what decides about that on kinds that count annotations: writing
// another one raises the generation, leaving it as it is does not.
//
// A record that says the same already stays as it is where the request raises no
// generation, so that a dry run of an unchanged manifest differs in nothing: it
// may lack the UID, or be for a generation that an autoscaler has left behind. The
// engine does not trust it then, and reads the workload.
func (w *Webhook) encodeForGeneration(r record.Record, a *admitted) (string, error) {
	key := w.settings.Keys.Index
	generation := a.kind.Generation(a.old, a.updated, key)
	if a.old == nil {
		return r.WithGeneration(generation).Encode()
	}
	before := a.old.Meta.Annotations[key]
	raised := generation != a.old.Meta.Generation
	if rec, ok := w.equivalent(before, r, a.old); ok {
		if !raised && rec.Generation <= generation {
			return before, nil
		}
		// The text of an older version stays until the template changes: marks
		// go by it.
		r.Version, r.Template = rec.Version, rec.Template
	}
	if raised || !a.kind.CountsAnnotations() {
		return r.WithGeneration(generation).Encode()
	}
	text, err := r.WithGeneration(generation + 1).Encode()
	if text == before {
		// To leave it as it is makes no generation, and it is for one to come.
		return "", nil
	}
	return text, err
}

// equivalent decodes the record that the object has, and reports whether it says
// of the template what r does, which was made now.
func (w *Webhook) equivalent(text string, r record.Record, old *kind.Manifest) (record.Record, bool) {
	rec, err := record.Decode(text)
	if err != nil || rec.UID != "" && rec.UID != r.UID {
		return record.Record{}, false
	}
	template := rec.Template
	if rec.Version != r.Version {
		// Its text is compared with nothing; the template before is.
		if template, err = old.TemplateHash(w.settings.Keys); err != nil {
			return record.Record{}, false
		}
	}
	same := rec
	same.Version, same.UID, same.Generation, same.Template = r.Version, r.UID, r.Generation, template
	return rec, reflect.DeepEqual(same, r)
}

// operation is one step of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// annotationPatch returns the JSON patch that gives an annotation a value, or
// removes it if the value is empty; nil if there is nothing to do.
func annotationPatch(annotations map[string]string, key, value string) ([]byte, error) {
	path := "/metadata/annotations/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
	now, ok := annotations[key]
	var op operation
	switch {
	case now == value && ok == (value != ""):
		return nil, nil
	case value == "":
		op = operation{Op: "remove", Path: path}
	case ok:
		op = operation{Op: "replace", Path: path, Value: value}
	case annotations == nil:
		op = operation{Op: "add", Path: "/metadata/annotations", Value: map[string]string{key: value}}
	default:
		op = operation{Op: "add", Path: path, Value: value}
	}
	patch, err := json.Marshal([]operation{op})
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	return patch, nil
}
