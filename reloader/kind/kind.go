package kind

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// Manifest is what the product needs of one decoded workload. Its pointers
// lead into the object that it was made from.
type Manifest struct {
	Kind     reloader.WorkloadKind
	Meta     *metav1.ObjectMeta
	Template *corev1.PodTemplateSpec
	// TemplatePath is the JSON path of the template.
	TemplatePath string
	// Borrows is true if the template is another workload's, the Lender's;
	// Template is empty then. The lender has no name if its kind is none that
	// is known.
	Borrows bool
	Lender  reloader.Workload
	// LenderObserved is the generation of the Lender that the controller has
	// acted on; empty if it does not report one.
	LenderObserved string
	// Unreadable says why the object is not what its kind promises; Template
	// may be empty then. It never quotes the object.
	Unreadable error
	// OnDelete is true if the controller replaces no pod by itself.
	OnDelete bool
	// Progress is how far the controller is with replacing pods.
	Progress Progress
	// Raw is what it was read from; empty if that was no JSON.
	Raw Raw

	// object is what the manifest was made from.
	object runtime.Object
}

// Workload names the manifest's workload.
func (m *Manifest) Workload() reloader.Workload {
	return reloader.Workload{Kind: m.Kind, Namespace: m.Meta.Namespace, Name: m.Meta.Name}
}

// Kind is one kind of workload. The values are made by this package only and
// are safe for concurrent use.
type Kind struct {
	Name     reloader.WorkloadKind
	Resource schema.GroupVersionResource
	// Way is how a workload of this kind is reloaded.
	Way Way
	// Pausable is true if a workload has spec.paused, so that a pause period can
	// limit how often it rolls.
	Pausable bool
	// StartsPods is true if a new pod template starts pods at once. That of a
	// CronJob is for its next run.
	StartsPods bool
	// Records is the resource in which the controller keeps the templates that a
	// workload has had; empty if it keeps none.
	Records schema.GroupVersionResource

	// annotationsCount is true if a change of annotations alone raises the
	// generation.
	annotationsCount bool
	// custom is true if the kind is a custom resource, whose lists the API
	// server cannot merge.
	custom bool
	// restarts reports whether a workload wants its pods restarted without a
	// change of the template; nil if none of the kind can.
	restarts func(*Manifest, annotation.Keys) bool

	newObject func() runtime.Object
	// manifest looks into an object made by newObject.
	manifest func(runtime.Object) *Manifest
}

// NewObject returns an empty object of the kind, to decode into.
func (k Kind) NewObject() runtime.Object { return k.newObject() }

// Manifest looks into an object made by NewObject.
func (k Kind) Manifest(object runtime.Object) *Manifest { return k.manifest(object) }

// Decode is Read for an object that has to be what its kind promises.
func (k Kind) Decode(raw []byte) (*Manifest, error) {
	m, err := k.Read(raw)
	if err != nil {
		return nil, err
	}
	if m.Unreadable != nil {
		return nil, fmt.Errorf("decode %s: %w", k.Name, m.Unreadable)
	}
	return m, nil
}

// CountsAnnotations reports whether a change of annotations alone raises the
// generation, as it does on Deployments, which hand them on to their
// ReplicaSets.
func (k Kind) CountsAnnotations() bool { return k.annotationsCount }

// withoutInput keeps a decoding error from carrying values of the object into
// a log or an answer.
func withoutInput(err error) error {
	switch e := err.(type) { //nolint:errorlint // encoding/json returns these unwrapped
	case *json.UnmarshalTypeError:
		return fmt.Errorf("field %q does not hold a %s", e.Field, e.Type)
	case *json.SyntaxError:
		return fmt.Errorf("broken JSON at byte %d", e.Offset)
	}
	return fmt.Errorf("not a valid object (%T)", err)
}
