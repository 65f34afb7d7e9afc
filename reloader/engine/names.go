package engine

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
)

// canExist returns a NotFound error for an object whose name, or namespace, the
// API server would never have accepted. Names come out of lists in annotations,
// owner references and workloadRefs, which are held to no rule: such a name must
// not become part of a request, and there is nothing to ask the API server for.
// Every method of client that names an object begins with it.
func canExist(resource schema.GroupResource, namespace, name string) error {
	if len(validation.IsDNS1123Subdomain(name)) > 0 || len(validation.IsDNS1123Label(namespace)) > 0 {
		return apierrors.NewNotFound(resource, name)
	}
	return nil
}

// metadataOfOne returns the metadata of one object of any resource in a namespace.
func (c *client) metadataOfOne(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	err := canExist(resource.GroupResource(), namespace, name)
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%q: %w", resource.Resource, namespace, name, err)
	}
	meta, err := c.metadata.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", resource.Resource, namespace, name, err)
	}
	return meta, nil
}
