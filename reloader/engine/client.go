package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine/internal/answer"
	"k8s-reloader/reloader/kind"
)

const (
	// FieldManager owns the fields that a reload writes.
	FieldManager = "Reloader"

	protobuf     = "application/vnd.kubernetes.protobuf"
	metadataOnly = protobuf + ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1," + runtime.ContentTypeJSON + ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	metadataList = protobuf + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," + runtime.ContentTypeJSON + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," + runtime.ContentTypeJSON

	// manyObjects is the limit of the first page of a list of metadata.
	manyObjects = 500
	// someObjects is that of a list of whole objects: the API server has all of
	// a page in memory, too. Further pages are longer if their objects are short.
	someObjects = 100
)

// client makes the requests of the engine. A request that fails is not tried
// again here: that is the queues' part, where it holds up nothing else.
type client struct {
	core rest.Interface
	// reads and writes reach the workloads; writes may stand behind a fence.
	reads, writes apis
	// answers bound what is in memory of all answers but those to writes.
	answers *answer.Reader
	// statuses read what the CSI driver reports; nil without that integration.
	statuses *podStatuses
}

// apis reach workloads: those of kinds with Go types, and all others.
type apis struct {
	typed  map[schema.GroupVersion]rest.Interface
	custom rest.Interface
}

// newClient returns a client whose reloads go out with the configuration for
// writes.
func newClient(config, forWrites *rest.Config, log logr.Logger) (*client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register API types: %w", err)
		}
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to the API server: %w", err)
	}
	c := &client{answers: answer.New(log)}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	if c.core, err = restClient(config, httpClient, codecs, corev1.SchemeGroupVersion, "/api", protobuf); err != nil {
		return nil, err
	}
	if c.reads, err = newAPIs(config, httpClient, codecs); err != nil {
		return nil, err
	}
	c.writes = c.reads
	if forWrites != config {
		if httpClient, err = rest.HTTPClientFor(forWrites); err != nil {
			return nil, fmt.Errorf("set up the connection to the API server: %w", err)
		}
		if c.writes, err = newAPIs(forWrites, httpClient, codecs); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func newAPIs(config *rest.Config, h *http.Client, codecs runtime.NegotiatedSerializer) (a apis, err error) {
	a.typed = map[schema.GroupVersion]rest.Interface{}
	for _, gv := range []schema.GroupVersion{appsv1.SchemeGroupVersion, batchv1.SchemeGroupVersion} {
		if a.typed[gv], err = restClient(config, h, codecs, gv, "/apis", protobuf); err != nil {
			return apis{}, err
		}
	}
	// Each request names its own group and version, in its path.
	a.custom, err = restClient(config, h, codecs, schema.GroupVersion{}, "/apis", runtime.ContentTypeJSON)
	return a, err
}

func restClient(config *rest.Config, h *http.Client, codecs runtime.NegotiatedSerializer, gv schema.GroupVersion, path, contentType string) (rest.Interface, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion = &gv
	config.APIPath = path
	config.NegotiatedSerializer = codecs
	config.ContentType = contentType
	config.AcceptContentTypes = contentType
	if contentType != runtime.ContentTypeJSON {
		config.AcceptContentTypes += "," + runtime.ContentTypeJSON
	}
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

// source hands a source to use, which copies what it needs: what is large takes
// turns until use returns.
func (c *client) source(ctx context.Context, s reloader.Source, use func(readable)) error {
	err := canExist(sourceResource(s.Kind).GroupResource(), s.Namespace, s.Name)
	if err != nil {
		return fmt.Errorf("read %s: %w", s, err)
	}
	request := c.core.Get().Namespace(s.Namespace).Resource(sourceResource(s.Kind).Resource).Name(s.Name).MaxRetries(0)
	if err = c.answers.Object(ctx, request, decoded(s.Kind, use)); err != nil {
		return fmt.Errorf("read %s: %w", s, err)
	}
	return nil
}

// sources hands every source of a kind in a namespace to use, as source does,
// and calls more after each page of the list, unless it is nil.
func (c *client) sources(ctx context.Context, of reloader.SourceKind, namespace string, use func(readable), more func()) error {
	request := func() *rest.Request { return c.core.Get().Namespace(namespace).Resource(sourceResource(of).Resource) }
	if _, err := c.list(ctx, request, metav1.ListOptions{Limit: someObjects}, decoded(of, use), more); err != nil {
		return fmt.Errorf("list %ss in namespace %s: %w", of, namespace, err)
	}
	return nil
}

// decoded decodes one source for use.
func decoded(of reloader.SourceKind, use func(readable)) func(answer.Object) error {
	return func(o answer.Object) error {
		object := newSource(of)
		if err := o.Into(object); err != nil {
			return err
		}
		use(object)
		return nil
	}
}

// list makes the requests of a list, each made anew by request. The limit is
// that of the first page. See answer.Reader.
func (c *client) list(ctx context.Context, request func() *rest.Request, options metav1.ListOptions, use func(answer.Object) error, more func()) (version string, err error) {
	pages := func(limit int64, next string) *rest.Request {
		page := options
		page.Limit, page.Continue = limit, next
		return request().VersionedParams(&page, metav1.ParameterCodec).MaxRetries(0)
	}
	return c.answers.List(ctx, options.Limit, pages, use, more)
}

// request starts one for the workloads of a kind.
func (a apis) request(verb string, k kind.Kind) *rest.Request {
	gv := k.Resource.GroupVersion()
	if api, ok := a.typed[gv]; ok {
		return api.Verb(verb).Resource(k.Resource.Resource).MaxRetries(0)
	}
	return a.custom.Verb(verb).AbsPath("/apis", gv.Group, gv.Version).Resource(k.Resource.Resource).MaxRetries(0)
}

// read starts a request that reads workloads of a kind.
func (c *client) read(k kind.Kind) *rest.Request { return c.reads.request(http.MethodGet, k) }

// write starts a request that writes one. What the API server has not done by the
// deadline of ctx it does not do any more.
func (c *client) write(ctx context.Context, verb string, k kind.Kind) *rest.Request {
	return within(ctx, c.writes.request(verb, k))
}

// within gives the deadline of ctx to the API server, too.
func within(ctx context.Context, request *rest.Request) *rest.Request {
	if deadline, ok := ctx.Deadline(); ok {
		request.Timeout(max(time.Millisecond, time.Until(deadline)))
	}
	return request
}

// workload reads one, as the JSON that the API server has of it: hashes of pod
// templates are taken from that.
func (c *client) workload(ctx context.Context, k kind.Kind, w reloader.Workload) (*kind.Manifest, error) {
	if err := canExist(k.Resource.GroupResource(), w.Namespace, w.Name); err != nil {
		return nil, fmt.Errorf("read %s: %w", w, err)
	}
	var m *kind.Manifest
	request := c.read(k).Namespace(w.Namespace).Name(w.Name).SetHeader("Accept", runtime.ContentTypeJSON)
	err := c.answers.Object(ctx, request, func(o answer.Object) (err error) {
		m, err = manifest(k, o)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", w, err)
	}
	return m, nil
}

// deployment returns the Deployment w in full.
func (c *client) deployment(ctx context.Context, w reloader.Workload) (*appsv1.Deployment, error) {
	gv := appsv1.SchemeGroupVersion
	err := canExist(gv.WithResource("deployments").GroupResource(), w.Namespace, w.Name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", w, err)
	}
	d := new(appsv1.Deployment)
	if err = c.get(ctx, c.reads.typed[gv].Get().Namespace(w.Namespace).Resource("deployments").Name(w.Name).MaxRetries(0), d); err != nil {
		return nil, fmt.Errorf("read %s: %w", w, err)
	}
	return d, nil
}

// manifest decodes one workload.
func manifest(k kind.Kind, o answer.Object) (*kind.Manifest, error) {
	raw, err := o.JSON()
	if err != nil {
		return nil, err
	}
	return k.Read(raw)
}

func (c *client) get(ctx context.Context, request *rest.Request, object runtime.Object) error {
	return c.answers.Object(ctx, request, func(o answer.Object) error { return o.Into(object) })
}

// workloads calls visit for every workload of a kind in an area that can be
// decoded, one in memory at a time. It makes no request.
func (c *client) workloads(ctx context.Context, k kind.Kind, in area, visit func(*kind.Manifest)) error {
	request := func() *rest.Request {
		return c.read(k).Namespace(in.namespace).SetHeader("Accept", runtime.ContentTypeJSON)
	}
	options := metav1.ListOptions{Limit: someObjects, FieldSelector: in.fields}
	_, err := c.list(ctx, request, options, func(o answer.Object) error {
		// What cannot be decoded is a matter of that object: who reads it alone
		// gets the error.
		if m, err := manifest(k, o); err == nil {
			visit(m)
		}
		return nil
	}, nil)
	if err != nil {
		return fmt.Errorf("list %ss: %w", k.Name, err)
	}
	return nil
}

// someWorkloads is workloads until enough returns true. What cannot be decoded is an
// error.
func (c *client) someWorkloads(ctx context.Context, k kind.Kind, in area, enough func(*kind.Manifest) bool) error {
	request := func() *rest.Request {
		return c.read(k).Namespace(in.namespace).SetHeader("Accept", runtime.ContentTypeJSON)
	}
	options := metav1.ListOptions{Limit: someObjects, FieldSelector: in.fields}
	_, err := c.list(ctx, request, options, func(o answer.Object) error {
		m, err := manifest(k, o)
		if err == nil && enough(m) {
			err = errEnough
		}
		return err
	}, nil)
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("list %ss: %w", k.Name, err)
	}
	return nil
}

// errEnough ends a list.
var errEnough = errors.New("enough of a list has been read")

// metadataOf calls visit for every object of a resource in an area that has the
// labels, one in memory at a time, and returns the resource version of the list.
// visit makes no request. Without a version in the request the API server heeds
// the limit; it would ignore it at version 0.
func (c *client) metadataOf(ctx context.Context, resource schema.GroupVersionResource, in area, labels string, visit func(*metav1.PartialObjectMetadata)) (version string, err error) {
	request := func() *rest.Request {
		return c.under(resource.GroupVersion()).Namespace(in.namespace).Resource(resource.Resource).SetHeader("Accept", metadataList)
	}
	use := func(o answer.Object) error {
		meta := new(metav1.PartialObjectMetadata)
		if err := o.Into(meta); err != nil {
			return err
		}
		visit(meta)
		return nil
	}
	if c.statuses != nil && resource == podStatusResource() {
		request = func() *rest.Request { return c.statuses.request(in.namespace) }
		use = c.statuses.decoded(visit)
	}
	options := metav1.ListOptions{Limit: manyObjects, FieldSelector: in.fields, LabelSelector: labels}
	if version, err = c.list(ctx, request, options, use, nil); err != nil {
		return "", fmt.Errorf("list %s: %w", resource.GroupResource(), err)
	}
	return version, nil
}

// metadataOfOne returns the metadata of one object of any resource in a namespace.
func (c *client) metadataOfOne(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	err := canExist(resource.GroupResource(), namespace, name)
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%q: %w", resource.Resource, namespace, name, err)
	}
	meta := new(metav1.PartialObjectMetadata)
	request := c.under(resource.GroupVersion()).Namespace(namespace).Resource(resource.Resource).Name(name).
		SetHeader("Accept", metadataOnly+","+runtime.ContentTypeJSON).MaxRetries(0)
	if err = c.get(ctx, request, meta); err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", resource.Resource, namespace, name, err)
	}
	return meta, nil
}

// watch watches the metadata of a resource in a namespace, or in all if it is empty.
func (c *client) watch(ctx context.Context, resource schema.GroupVersionResource, namespace string, options metav1.ListOptions) (watch.Interface, error) {
	if c.statuses != nil && resource == podStatusResource() {
		return c.statuses.watch(ctx, namespace, options)
	}
	options.Watch = true
	events, err := c.under(resource.GroupVersion()).Namespace(namespace).Resource(resource.Resource).
		VersionedParams(&options, metav1.ParameterCodec).
		SetHeader("Accept", metadataOnly).MaxRetries(0).
		Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", resource.GroupResource(), err)
	}
	return events, nil
}

// under starts a request for resources of an API.
func (c *client) under(gv schema.GroupVersion) *rest.Request {
	if gv.Group == "" {
		return c.core.Get()
	}
	return c.core.Get().AbsPath("/apis", gv.Group, gv.Version)
}

// patch returns the metadata of the workload as it is after the patch.
func (c *client) patch(ctx context.Context, k kind.Kind, w reloader.Workload, pt types.PatchType, body []byte) (*metav1.PartialObjectMetadata, error) {
	err := canExist(k.Resource.GroupResource(), w.Namespace, w.Name)
	if err != nil {
		return nil, fmt.Errorf("patch %s: %w", w, err)
	}
	patched := new(metav1.PartialObjectMetadata)
	err = c.write(ctx, http.MethodPatch, k).Namespace(w.Namespace).Name(w.Name).
		VersionedParams(&metav1.PatchOptions{FieldManager: FieldManager}, metav1.ParameterCodec).
		SetHeader("Content-Type", string(pt)).SetHeader("Accept", metadataOnly).Body(body).
		Do(ctx).Into(patched)
	if err != nil {
		return nil, fmt.Errorf("patch %s: %w", w, err)
	}
	return patched, nil
}

// createJob returns the metadata of the Job as it was created.
func (c *client) createJob(ctx context.Context, o *batchv1.Job) (*metav1.PartialObjectMetadata, error) {
	return c.postJob(ctx, o, metav1.CreateOptions{FieldManager: FieldManager})
}

// tryJob returns the error that creating the Job would have, but creates none.
func (c *client) tryJob(ctx context.Context, o *batchv1.Job) error {
	_, err := c.postJob(ctx, o, metav1.CreateOptions{FieldManager: FieldManager, DryRun: []string{metav1.DryRunAll}})
	return err
}

func (c *client) postJob(ctx context.Context, o *batchv1.Job, options metav1.CreateOptions) (*metav1.PartialObjectMetadata, error) {
	jobs := kind.Jobs()
	err := canExist(jobs.Resource.GroupResource(), o.Namespace, o.Name)
	if err != nil {
		return nil, fmt.Errorf("create Job %s/%s: %w", o.Namespace, o.Name, err)
	}
	created := new(metav1.PartialObjectMetadata)
	err = c.write(ctx, http.MethodPost, jobs).Namespace(o.Namespace).
		VersionedParams(&options, metav1.ParameterCodec).
		SetHeader("Accept", metadataOnly).Body(o).
		Do(ctx).Into(created)
	if err != nil {
		return nil, fmt.Errorf("create Job %s/%s: %w", o.Namespace, o.Name, err)
	}
	return created, nil
}

// deleteJob ends the Job w and its pods, if it is the one that the
// preconditions say. The policy is one of those that end pods at all, which the
// default for Jobs does not.
func (c *client) deleteJob(ctx context.Context, w reloader.Workload, policy metav1.DeletionPropagation, only metav1.Preconditions) error {
	jobs := kind.Jobs()
	err := canExist(jobs.Resource.GroupResource(), w.Namespace, w.Name)
	if err != nil {
		return fmt.Errorf("delete %s: %w", w, err)
	}
	err = c.write(ctx, http.MethodDelete, jobs).Namespace(w.Namespace).Name(w.Name).
		SetHeader("Accept", metadataOnly).
		Body(&metav1.DeleteOptions{Preconditions: &only, PropagationPolicy: &policy}).
		Do(ctx).Into(new(metav1.PartialObjectMetadata))
	if err != nil {
		return fmt.Errorf("delete %s: %w", w, err)
	}
	return nil
}

// waitForReports waits until the watches of reports have ended, which whoever began
// them has stopped.
func (c *client) waitForReports() {
	if c.statuses != nil {
		c.statuses.running.Wait()
	}
}

// sourceResource is the API resource that tells the content of a kind of
// source.
func sourceResource(k reloader.SourceKind) schema.GroupVersionResource {
	switch k {
	case reloader.Secret:
		return corev1.SchemeGroupVersion.WithResource("secrets")
	case reloader.SecretProviderClass:
		return podStatusResource()
	default:
		return corev1.SchemeGroupVersion.WithResource("configmaps")
	}
}

func newSource(k reloader.SourceKind) readable {
	if k == reloader.Secret {
		return new(corev1.Secret)
	}
	return new(corev1.ConfigMap)
}
