package kind

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
)

// Manifest is what the product needs of one decoded workload. Its pointers
// lead into the object that it was made from.
type Manifest struct {
	Kind     reloader.WorkloadKind
	Meta     *metav1.ObjectMeta
	Template *corev1.PodTemplateSpec
	// OnDelete is true if the controller replaces no pod by itself.
	OnDelete bool
	// Rolling is true if, by its status, the controller is still replacing
	// pods, and makes progress as far as it says.
	Rolling bool

	// spec is the typed spec, for comparison with another of its kind.
	spec any
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

	// annotationsCount is true if a change of annotations alone raises the
	// generation.
	annotationsCount bool

	newObject func() runtime.Object
	newList   func() runtime.Object
	// items calls visit for each item of a list made by newList.
	items func(list runtime.Object, visit func(runtime.Object))
	// manifest looks into an object made by newObject.
	manifest func(runtime.Object) *Manifest
}

// All returns every workload kind, in a fixed order.
func All() []Kind {
	return []Kind{deployment(), statefulSet(), daemonSet()}
}

// ByName returns the kind with that name.
func ByName(name reloader.WorkloadKind) (Kind, bool) {
	for _, k := range All() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// ByGroupKind returns the kind with that API group and kind, whatever the
// version.
func ByGroupKind(group, name string) (Kind, bool) {
	k, ok := ByName(reloader.WorkloadKind(name))
	if !ok || k.Resource.Group != group {
		return Kind{}, false
	}
	return k, true
}

// NewObject returns an empty object of the kind, to decode into.
func (k Kind) NewObject() runtime.Object { return k.newObject() }

// NewList returns an empty list of the kind, to decode into.
func (k Kind) NewList() runtime.Object { return k.newList() }

// Manifest looks into an object made by NewObject.
func (k Kind) Manifest(object runtime.Object) *Manifest { return k.manifest(object) }

// Items calls visit for each item of a list made by NewList.
func (k Kind) Items(list runtime.Object, visit func(*Manifest)) {
	k.items(list, func(object runtime.Object) { visit(k.manifest(object)) })
}

// Decode reads the JSON of one object of the kind. The error never quotes the
// input.
func (k Kind) Decode(raw []byte) (*Manifest, error) {
	object := k.newObject()
	if err := json.Unmarshal(raw, object); err != nil {
		return nil, fmt.Errorf("decode %s: %w", k.Name, withoutInput(err))
	}
	return k.manifest(object), nil
}

// CountsAnnotations reports whether a change of annotations alone raises the
// generation, as it does on Deployments, which hand them on to their
// ReplicaSets.
func (k Kind) CountsAnnotations() bool { return k.annotationsCount }

// Generation returns the metadata.generation that the API server will give to
// updated when it replaces old, both as admission sees them; old is nil on
// create. See PrepareForCreate and PrepareForUpdate of the kinds in
// k8s.io/kubernetes/pkg/registry/apps.
func (k Kind) Generation(old, updated *Manifest) int64 {
	if old == nil {
		return 1
	}
	if !apiequality.Semantic.DeepEqual(old.spec, updated.spec) {
		return old.Meta.Generation + 1
	}
	if k.annotationsCount && !apiequality.Semantic.DeepEqual(old.Meta.Annotations, updated.Meta.Annotations) {
		return old.Meta.Generation + 1
	}
	return old.Meta.Generation
}

// Patch returns the patch that makes the change, and its type. The same change
// gives the same bytes, and applying it twice changes nothing.
func (k Kind) Patch(c Change) ([]byte, types.PatchType, error) {
	return templatePatch(c)
}

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
