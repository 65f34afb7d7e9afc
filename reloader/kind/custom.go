package kind

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader"
)

// templatePath is where most kinds have their pod template.
const templatePath = "spec.template"

// A custom resource has no Go types here: the few fields that matter are read
// from what was decoded, so that no module of its makers is needed, and unknown
// ones are no hindrance. The pod template is Kubernetes' own.

// customKind returns a kind whose objects are custom resources. look adds to a
// manifest what it takes from spec and status.
func customKind[Spec, Status any](name reloader.WorkloadKind, resource schema.GroupVersionResource, look func(*Manifest, *Spec, *Status)) Kind {
	return Kind{
		Name:       name,
		Resource:   resource,
		custom:     true,
		StartsPods: true,
		newObject:  func() runtime.Object { return new(unstructured.Unstructured) },
		manifest: func(object runtime.Object) *Manifest {
			spec, status := new(Spec), new(Status)
			m := customManifest(name, object, spec, status)
			look(m, spec, status)
			return m
		},
	}
}

// errFields does not tell which field, because that could quote the object.
var errFields = errors.New("a field does not hold what the kind says")

// customManifest looks into a custom resource. Of its fields, spec and status
// are decoded into what is given.
func customManifest(k reloader.WorkloadKind, object runtime.Object, spec, status any) *Manifest {
	o := object.(*unstructured.Unstructured)
	m := &Manifest{
		Kind:         k,
		Meta:         new(metav1.ObjectMeta),
		Template:     new(corev1.PodTemplateSpec),
		TemplatePath: templatePath,
		object:       o,
	}
	for field, into := range map[string]any{"metadata": m.Meta, "spec": spec, "status": status} {
		content, ok := o.Object[field].(map[string]any)
		if !ok && o.Object[field] != nil {
			m.Unreadable = errors.Join(m.Unreadable, fmt.Errorf("%s is no object", field))
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, into); err != nil {
			m.Unreadable = fmt.Errorf("%s: %w", field, errFields)
		}
	}
	return m
}
