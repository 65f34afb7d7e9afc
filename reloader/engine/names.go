package engine

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"k8s-reloader/reloader/pattern"
)

// canExist returns a NotFound error for an object whose name, or namespace, the
// API server would never have accepted. Names come out of lists in annotations,
// owner references and workloadRefs, which are held to no rule: such a name must
// not become part of a request, and there is nothing to ask the API server for.
// Every method of client that names an object begins with it.
func canExist(resource schema.GroupResource, namespace, name string) error {
	if !pattern.ValidName(name) || len(validation.IsDNS1123Label(namespace)) > 0 {
		return apierrors.NewNotFound(resource, name)
	}
	return nil
}
