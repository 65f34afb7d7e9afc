package engine

import (
	"context"
	"fmt"
	"net/http"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

const (
	// FieldManager owns the fields that a reload writes.
	FieldManager = "Reloader"

	protobuf           = "application/vnd.kubernetes.protobuf"
	metadataOnly       = protobuf + ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1," + runtime.ContentTypeJSON + ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	chunk        int64 = 250
)

// client makes the requests of the engine. A request that fails is not tried
// again here: that is the queues' part, where it holds up nothing else.
type client struct {
	metadata metadata.Interface
	core     rest.Interface
	apps     rest.Interface
}

func newClient(config *rest.Config) (*client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register API types: %w", err)
		}
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to the API server: %w", err)
	}
	c := new(client)
	if c.metadata, err = metadata.NewForConfigAndClient(config, httpClient); err != nil {
		return nil, fmt.Errorf("set up the metadata client: %w", err)
	}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	if c.core, err = restClient(config, httpClient, codecs, corev1.SchemeGroupVersion, "/api"); err != nil {
		return nil, err
	}
	if c.apps, err = restClient(config, httpClient, codecs, appsv1.SchemeGroupVersion, "/apis"); err != nil {
		return nil, err
	}
	return c, nil
}

func restClient(config *rest.Config, h *http.Client, codecs runtime.NegotiatedSerializer, gv schema.GroupVersion, path string) (rest.Interface, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion = &gv
	config.APIPath = path
	config.NegotiatedSerializer = codecs
	config.ContentType = protobuf
	config.AcceptContentTypes = protobuf + "," + runtime.ContentTypeJSON
	c, err := rest.RESTClientForConfigAndClient(config, h)
	if err != nil {
		return nil, fmt.Errorf("set up the client for %s: %w", gv, err)
	}
	return c, nil
}

// readable is what the engine reads of sources, decoded.
type readable interface {
	runtime.Object
	metav1.Object
}

func (c *client) source(ctx context.Context, s reloader.Source) (readable, error) {
	object := newSource(s.Kind)
	err := c.core.Get().Namespace(s.Namespace).Resource(sourceResource(s.Kind).Resource).Name(s.Name).
		MaxRetries(0).Do(ctx).Into(object)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s, err)
	}
	return object, nil
}

// sources calls visit for every source of a kind in a namespace, a chunk in
// memory at a time.
func (c *client) sources(ctx context.Context, of reloader.SourceKind, namespace string, visit func(readable)) error {
	err := inChunks(func(options *metav1.ListOptions) (string, error) {
		request := c.core.Get().Namespace(namespace).Resource(sourceResource(of).Resource).
			VersionedParams(options, metav1.ParameterCodec).MaxRetries(0)
		if of == reloader.Secret {
			list := new(corev1.SecretList)
			if err := request.Do(ctx).Into(list); err != nil {
				return "", err
			}
			for i := range list.Items {
				visit(&list.Items[i])
			}
			return list.Continue, nil
		}
		list := new(corev1.ConfigMapList)
		if err := request.Do(ctx).Into(list); err != nil {
			return "", err
		}
		for i := range list.Items {
			visit(&list.Items[i])
		}
		return list.Continue, nil
	})
	if err != nil {
		return fmt.Errorf("list %ss in namespace %s: %w", of, namespace, err)
	}
	return nil
}

func (c *client) workload(ctx context.Context, k kind.Kind, w reloader.Workload) (*kind.Manifest, error) {
	object := k.NewObject()
	err := c.apps.Get().Namespace(w.Namespace).Resource(k.Resource.Resource).Name(w.Name).
		MaxRetries(0).Do(ctx).Into(object)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", w, err)
	}
	return k.Manifest(object), nil
}

// workloads calls visit for every workload of a kind in an area, a chunk in
// memory at a time.
func (c *client) workloads(ctx context.Context, k kind.Kind, in area, visit func(*kind.Manifest)) error {
	err := inChunks(func(options *metav1.ListOptions) (string, error) {
		options.FieldSelector = in.fields
		list := k.NewList()
		err := c.apps.Get().Namespace(in.namespace).Resource(k.Resource.Resource).
			VersionedParams(options, metav1.ParameterCodec).MaxRetries(0).Do(ctx).Into(list)
		if err != nil {
			return "", err
		}
		k.Items(list, visit)
		return list.(metav1.ListInterface).GetContinue(), nil
	})
	if err != nil {
		return fmt.Errorf("list %ss: %w", k.Name, err)
	}
	return nil
}

// metadataOf calls visit for every object of a resource in an area, a chunk in
// memory at a time.
func (c *client) metadataOf(ctx context.Context, resource schema.GroupVersionResource, in area, visit func(*metav1.PartialObjectMetadata)) error {
	err := inChunks(func(options *metav1.ListOptions) (string, error) {
		options.FieldSelector = in.fields
		list, err := c.metadata.Resource(resource).Namespace(in.namespace).List(ctx, *options)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			visit(&list.Items[i])
		}
		return list.Continue, nil
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", resource.GroupResource(), err)
	}
	return nil
}

func inChunks(list func(*metav1.ListOptions) (next string, err error)) error {
	options := &metav1.ListOptions{Limit: chunk}
	for {
		next, err := list(options)
		if err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		options.Continue = next
	}
}

// patch returns the metadata of the workload as it is after the patch.
func (c *client) patch(ctx context.Context, k kind.Kind, w reloader.Workload, pt types.PatchType, body []byte) (*metav1.PartialObjectMetadata, error) {
	patched := new(metav1.PartialObjectMetadata)
	err := c.apps.Patch(pt).Namespace(w.Namespace).Resource(k.Resource.Resource).Name(w.Name).
		VersionedParams(&metav1.PatchOptions{FieldManager: FieldManager}, metav1.ParameterCodec).
		SetHeader("Accept", metadataOnly).Body(body).
		MaxRetries(0).Do(ctx).Into(patched)
	if err != nil {
		return nil, fmt.Errorf("patch %s: %w", w, err)
	}
	return patched, nil
}

// sourceResource is the API resource of a kind of source; only the kinds of
// the core group have one yet.
func sourceResource(k reloader.SourceKind) schema.GroupVersionResource {
	if k == reloader.Secret {
		return corev1.SchemeGroupVersion.WithResource("secrets")
	}
	return corev1.SchemeGroupVersion.WithResource("configmaps")
}

func newSource(k reloader.SourceKind) readable {
	if k == reloader.Secret {
		return new(corev1.Secret)
	}
	return new(corev1.ConfigMap)
}
