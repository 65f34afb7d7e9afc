package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// feed stands where a reflector has its store: it hands on what the watch
// brings and keeps nothing of it, so that no second copy of the cluster is in
// memory. The handlers do no I/O.
type feed struct {
	resource schema.GroupVersionResource
	// area and labels, a label selector, are what is watched of the resource.
	area   area
	labels string
	// labelled is true if the handlers read labels.
	labelled bool
	// seen is called for what is there; since is when it was written or, if it
	// was listed, the earliest that it may have been since the last event; the
	// zero moment is before we looked.
	seen func(meta *metav1.PartialObjectMetadata, how arrival, since moment)
	// deleted is called for what is gone.
	deleted func(meta *metav1.PartialObjectMetadata)
	// listed is called after seen was called for everything there is.
	listed func(items []any)

	// settled is closed when the first list is handed on, or as soon as it is
	// known that it does not come for now.
	settled    chan struct{}
	settleOnce sync.Once
	// complete is true while the feed has handed on everything there is.
	complete atomic.Bool
	// newest is the version up to which no event was missed. Only the
	// reflector's goroutine uses it.
	newest uint64
}

var (
	_ cache.TransformingStore      = (*feed)(nil)
	_ cache.ReflectorBookmarkStore = (*feed)(nil)
)

// arrival is how something came to be seen.
type arrival int

const (
	// listed: it was there at the start, or after events were missed.
	listed arrival = iota
	// created: it has just come into being.
	created
	// updated: it was there, and has been written.
	updated
)

// Add implements cache.ReflectorStore.
func (f *feed) Add(obj any) error { return f.event(obj, created) }

// Update implements cache.ReflectorStore.
func (f *feed) Update(obj any) error { return f.event(obj, updated) }

func (f *feed) event(obj any, how arrival) error {
	meta, err := metadataOf(obj)
	if err != nil {
		return err
	}
	written := moment{version: versionOf(meta.ResourceVersion)}
	f.newest = max(f.newest, written.version)
	f.seen(meta, how, written)
	return nil
}

// Delete implements cache.ReflectorStore.
func (f *feed) Delete(obj any) error {
	meta, err := metadataOf(obj)
	if err != nil {
		return err
	}
	f.newest = max(f.newest, versionOf(meta.ResourceVersion))
	f.deleted(meta)
	return nil
}

// Replace implements cache.ReflectorStore: the first list, or the one after
// events were missed.
func (f *feed) Replace(items []any, resourceVersion string) error {
	// What happened since the last event may have happened right after it.
	since := moment{version: f.newest}
	for _, item := range items {
		meta, err := metadataOf(item)
		if err != nil {
			return err
		}
		f.seen(meta, listed, since)
	}
	f.listed(items)
	f.newest = max(f.newest, versionOf(resourceVersion))
	f.complete.Store(true)
	f.settle()
	return nil
}

// settle lets those go on who wait for the first list.
func (f *feed) settle() { f.settleOnce.Do(func() { close(f.settled) }) }

// absent notes that the API is not served, so that there is nothing to hand on.
func (f *feed) absent() {
	f.complete.Store(true)
	f.settle()
}

// gone notes that the API, which was served, is so no more. What is there when
// it comes back is seen for the first time.
func (f *feed) gone() {
	if f.newest > 0 {
		f.listed(nil)
		f.newest = 0
	}
	f.absent()
}

// Resync implements cache.ReflectorStore; nothing is kept that could be
// handed out again.
func (f *feed) Resync() error { return nil }

// Bookmark implements cache.ReflectorBookmarkStore.
func (f *feed) Bookmark(resourceVersion string) error {
	f.newest = max(f.newest, versionOf(resourceVersion))
	return nil
}

// Transformer implements cache.TransformingStore: of the first list nothing
// stays in memory that the handlers do not read.
func (f *feed) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		meta, err := metadataOf(obj)
		if err != nil {
			return nil, err
		}
		meta.ManagedFields = nil
		if !f.labelled {
			meta.Labels = nil
		}
		meta.OwnerReferences = nil
		return meta, nil
	}
}

func metadataOf(obj any) (*metav1.PartialObjectMetadata, error) {
	meta, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil, fmt.Errorf("watch brought a %T instead of metadata", obj)
	}
	return meta, nil
}

// watcher runs feeds. It is safe for concurrent use.
type watcher struct {
	client   metadata.Interface
	apis     *apis
	refusals *refusals
	// interval is the time between two attempts at what is forbidden.
	interval time.Duration
	clock    clock.WithTicker
	log      logr.Logger
}

// run watches until ctx is done. An API that is not served is waited for.
func (w *watcher) run(ctx context.Context, f *feed) {
	if mayBeMissing(f.resource) && !w.apis.await(ctx, f.resource, false, f.absent) {
		return
	}
	resource := w.client.Resource(f.resource).Namespace(f.area.namespace)
	narrow := func(options *metav1.ListOptions) {
		options.LabelSelector, options.FieldSelector = f.labels, f.area.fields
	}
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			narrow(&options)
			return ask(ctx, w, f, "list", func() (runtime.Object, error) { return resource.List(ctx, options) })
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			narrow(&options)
			return ask(ctx, w, f, "watch", func() (watch.Interface, error) { return resource.Watch(ctx, options) })
		},
	}, w.client)
	r := cache.NewReflectorWithOptions(lw, &metav1.PartialObjectMetadata{}, f, cache.ReflectorOptions{
		Logger:          &w.log,
		Name:            "engine",
		TypeDescription: f.resource.Resource,
	})
	r.RunWithContext(ctx)
}

// ask makes a request for a feed, and makes it again for as long as nobody
// listens, it is forbidden or the API is not served. A reflector would do so,
// too, but several times a minute and with a line each time, and while nobody
// listens without a word, deaf to ctx for up to half a minute.
func ask[T any](ctx context.Context, w *watcher, f *feed, verb string, request func() (T, error)) (answer T, err error) {
	const firstWait, lastWait = 500 * time.Millisecond, 15 * time.Second
	this := refusal{verb, f.resource.GroupResource(), f.area.namespace}
	for delay := firstWait; ; delay = min(2*delay, lastWait) {
		pause := delay
		answer, err = request()
		switch {
		case err == nil:
			if w.refusals.remove(this) {
				w.log.Info("allowed now", "verb", verb, "resource", this.resource.String(), "namespace", this.namespace)
			}
			return answer, nil
		case utilnet.IsConnectionRefused(err):
			w.log.Info("cannot reach the API server, trying again", "reason", err.Error())
		case apierrors.IsForbidden(err):
			w.refused(f, this, err)
			pause = w.interval
		case apierrors.IsNotFound(err) && mayBeMissing(f.resource):
			if !w.apis.await(ctx, f.resource, true, f.gone) || !w.pause(ctx, firstWait) {
				return answer, ctx.Err()
			}
			// Whatever was there before may not be what is there now: everything
			// is listed anew.
			return answer, apierrors.NewResourceExpired(fmt.Sprintf("%s may be served again", this.resource))
		default:
			if mayBeMissing(f.resource) {
				// A broken extension holds up nobody else.
				f.settle()
			}
			return answer, err
		}
		if !w.pause(ctx, pause) {
			return answer, ctx.Err()
		}
	}
}

// pause waits for about that long, or reports false if ctx is done before.
func (w *watcher) pause(ctx context.Context, about time.Duration) bool {
	timer := w.clock.NewTimer(wait.Jitter(about, 0.5))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// refused notes that a feed is forbidden, and says so the first time.
func (w *watcher) refused(f *feed, what refusal, err error) {
	f.complete.Store(false)
	f.settle()
	if !w.refusals.add(what) {
		return
	}
	log := w.log.WithValues("resource", what.resource.String(), "in", w.interval.String())
	if what.namespace != "" {
		log = log.WithValues("namespace", what.namespace)
	}
	log.Error(err, "forbidden, so its changes go unseen; grant get, list and watch (for workloads patch, too) or switch it off by a flag; everything else goes on, and this is tried again slowly")
}
