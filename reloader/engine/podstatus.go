package engine

import (
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader/engine/internal/answer"
	"k8s-reloader/reloader/fingerprint"
)

// podStatuses lists and watches what the Secrets Store CSI driver reports: one
// SecretProviderClassPodStatus per pod and class, with the objects that the pod
// has mounted. To the feed they look like metadata, whose annotations are the
// four below: of IDs and versions nothing is kept but a fingerprint.
type podStatuses struct {
	client rest.Interface
	key    fingerprint.Key
	// running are the watches that have not ended yet.
	running sync.WaitGroup
}

// The annotations that take a report's place.
const (
	mountedClass   = "class"
	mountedContent = "content"
	mountedPod     = "pod"
	mountedAt      = "at"
)

func csiGroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "secrets-store.csi.x-k8s.io", Version: "v1"}
}

func podStatusResource() schema.GroupVersionResource {
	return csiGroupVersion().WithResource("secretproviderclasspodstatuses")
}

func classResource() schema.GroupVersionResource {
	return csiGroupVersion().WithResource("secretproviderclasses")
}

// podStatus is what the engine reads of a SecretProviderClassPodStatus.
type podStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Status            struct {
		Class   string        `json:"secretProviderClassName"`
		Pod     string        `json:"podName"`
		Target  string        `json:"targetPath"`
		Mounted bool          `json:"mounted"`
		Objects []mountObject `json:"objects"`
	} `json:"status"`
}

// mountObject has the form of the API in its tags.
type mountObject struct {
	ID      string `json:"id"`
	Version string `json:"version"`
}

var _ runtime.Object = (*podStatus)(nil)

// DeepCopyObject implements runtime.Object.
func (s *podStatus) DeepCopyObject() runtime.Object {
	c := *s
	s.DeepCopyInto(&c.ObjectMeta)
	c.Status.Objects = append([]mountObject(nil), s.Status.Objects...)
	return &c
}

func newPodStatuses(config *rest.Config, key fingerprint.Key) (*podStatuses, error) {
	scheme := runtime.NewScheme()
	gv := csiGroupVersion()
	scheme.AddKnownTypeWithName(gv.WithKind("SecretProviderClassPodStatus"), new(podStatus))
	metav1.AddToGroupVersion(scheme, gv)
	config = rest.CopyConfig(config)
	config.GroupVersion = &gv
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeJSON
	config.AcceptContentTypes = runtime.ContentTypeJSON
	c, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("set up the client for %s: %w", gv, err)
	}
	return &podStatuses{client: c, key: key}, nil
}

// request starts one for reports in a namespace.
func (p *podStatuses) request(namespace string) *rest.Request {
	return p.client.Get().Namespace(namespace).Resource(podStatusResource().Resource)
}

// decoded decodes one report for visit.
func (p *podStatuses) decoded(visit func(*metav1.PartialObjectMetadata)) func(answer.Object) error {
	return func(o answer.Object) error {
		status := new(podStatus)
		if err := o.Into(status); err != nil {
			return err
		}
		visit(p.report(status))
		return nil
	}
}

// watch watches the reports in a namespace, or in all if it is empty.
func (p *podStatuses) watch(ctx context.Context, namespace string, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	events, err := p.request(namespace).VersionedParams(&options, metav1.ParameterCodec).MaxRetries(0).Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch what CSI volumes hold: %w", err)
	}
	return p.reports(events), nil
}

// reports is a watch of what the feed gets to see of another one's events. It
// ends with that one, which it stops when it is stopped itself. Its goroutine is
// one of p.running.
func (p *podStatuses) reports(events watch.Interface) watch.Interface {
	reports := make(chan watch.Event)
	w := watch.NewProxyWatcher(reports)
	p.running.Go(func() {
		defer close(reports)
		defer events.Stop()
		for {
			var event watch.Event
			open := false
			select {
			case <-w.StopChan():
			case event, open = <-events.ResultChan():
			}
			if !open {
				return
			}
			status, ok := event.Object.(*podStatus)
			switch {
			case ok && event.Type == watch.Bookmark:
				event.Object = &metav1.PartialObjectMetadata{ObjectMeta: status.ObjectMeta}
			case ok:
				event.Object = p.report(status)
			}
			select {
			case <-w.StopChan():
				return
			case reports <- event:
			}
		}
	})
	return w
}

// report is what the feed gets to see of a status. One that says nothing of
// what its pod holds has no content; nor has one that makes us panic.
func (p *podStatuses) report(s *podStatus) (report *metav1.PartialObjectMetadata) {
	if guarded(func() error { report = p.contentOf(s); return nil }) != nil {
		report = &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion,
			Annotations: map[string]string{mountedClass: s.Status.Class},
		}}
	}
	return report
}

func (p *podStatuses) contentOf(s *podStatus) *metav1.PartialObjectMetadata {
	annotations := map[string]string{mountedClass: s.Status.Class, mountedPod: s.Status.Pod, mountedAt: s.Status.Target}
	if s.Status.Mounted && len(s.Status.Objects) > 0 {
		objects := make([]fingerprint.Object, len(s.Status.Objects))
		for i, o := range s.Status.Objects {
			objects[i] = fingerprint.Object(o)
		}
		annotations[mountedContent] = string(p.key.SecretProviderClass(objects))
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace:       s.Namespace,
		Name:            s.Name,
		UID:             s.UID,
		ResourceVersion: s.ResourceVersion,
		Generation:      s.Generation,
		Annotations:     annotations,
	}}
}
