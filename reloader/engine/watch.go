package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/report"
)

// feed stands where a reflector has its store: it hands on what the watch
// brings and keeps nothing of it, so that no second copy of the cluster is in
// memory. The handlers do no I/O.
type feed struct {
	resource schema.GroupVersionResource
	// seen is called for what is there; since is when it was written or, if it
	// was listed, the earliest that it may have been since the last event; the
	// zero moment is before we looked.
	seen func(meta *metav1.PartialObjectMetadata, how arrival, since moment)
	// deleted is called for what is gone.
	deleted func(meta *metav1.PartialObjectMetadata)
	// listed is called after seen was called for everything there is.
	listed func(items []any)

	synced   chan struct{}
	syncOnce sync.Once
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
	f.syncOnce.Do(func() { close(f.synced) })
	return nil
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
		meta.ManagedFields = pauseOwners(meta.ManagedFields)
		meta.Labels = nil
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

// run watches until ctx is done.
func (f *feed) run(ctx context.Context, client metadata.Interface, logger klog.Logger) {
	resource := client.Resource(f.resource)
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return reached(ctx, logger, func() (runtime.Object, error) { return resource.List(ctx, options) })
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return reached(ctx, logger, func() (watch.Interface, error) { return resource.Watch(ctx, options) })
		},
	}, client)
	r := cache.NewReflectorWithOptions(lw, &metav1.PartialObjectMetadata{}, f, cache.ReflectorOptions{
		Logger:          &logger,
		Name:            "engine",
		TypeDescription: f.resource.Resource,
	})
	r.RunWithContext(ctx)
}

// reached repeats a request for as long as nobody listens. A reflector would do
// so, too, but without a word, and deaf to ctx for up to half a minute.
func reached[T any](ctx context.Context, logger klog.Logger, request func() (T, error)) (T, error) {
	const firstWait, lastWait = 500 * time.Millisecond, 15 * time.Second
	for delay := firstWait; ; delay = min(2*delay, lastWait) {
		answer, err := request()
		if !utilnet.IsConnectionRefused(err) {
			return answer, err
		}
		logger.Info("cannot reach the API server, trying again", "reason", err.Error())
		timer := time.NewTimer(wait.Jitter(delay, 0.5))
		select {
		case <-ctx.Done():
			timer.Stop()
			return answer, ctx.Err()
		case <-timer.C:
		}
	}
}

// sourceFeed hands the events of a kind of source to the engine.
func (e *Engine) sourceFeed(of reloader.SourceKind) *feed {
	named := func(meta *metav1.PartialObjectMetadata) reloader.Source {
		return reloader.Source{Kind: of, Namespace: meta.Namespace, Name: meta.Name}
	}
	return &feed{
		resource: sourceResource(of),
		synced:   make(chan struct{}),
		seen: func(meta *metav1.PartialObjectMetadata, how arrival, _ moment) {
			if how == listed {
				e.sourceSeen(of, meta, how)
				return
			}
			e.arrivals.take(named(meta), eventOf(how), func() bool { return e.sourceSeen(of, meta, how) })
		},
		deleted: func(meta *metav1.PartialObjectMetadata) {
			s := named(meta)
			e.arrivals.take(s, report.EventDelete, func() bool { return e.sourceDeleted(s, versionOf(meta.ResourceVersion)) })
		},
		listed: func(items []any) {
			present := make(map[reloader.Source]struct{})
			for _, item := range items {
				if s := named(item.(*metav1.PartialObjectMetadata)); e.index.Depended(s) {
					present[s] = struct{}{}
				}
			}
			for _, s := range e.ledger.known(of) {
				if _, ok := present[s]; !ok {
					e.sourceDeleted(s, someVersion)
				}
			}
		},
	}
}

// workloadFeed hands the events of a kind of workload to the engine.
func (e *Engine) workloadFeed(k kind.Kind) *feed {
	named := func(meta *metav1.PartialObjectMetadata) reloader.Workload {
		return reloader.Workload{Kind: k.Name, Namespace: meta.Namespace, Name: meta.Name}
	}
	return &feed{
		resource: k.Resource,
		synced:   make(chan struct{}),
		seen: func(meta *metav1.PartialObjectMetadata, _ arrival, since moment) {
			w := named(meta)
			if e.carries(w, meta) {
				return
			}
			e.lenderSeen(w, meta, since)
			e.intake.observe(w, meta, since)
			e.pauseSeen(w, meta)
			rounds, reload, by := e.rivals.seen(w, meta)
			if rounds > 0 {
				e.intake.takenBack(w, meta.Generation)
			}
			if rounds > 0 && rounds%rivalRounds == 0 {
				e.limits.open(w)
				e.reporter.TakenBack(reload, by)
				e.log.Info("reloads are taken back; holding back", "workload", w.String(), "by", by)
			}
		},
		deleted: func(meta *metav1.PartialObjectMetadata) {
			e.intake.deleted(named(meta))
			e.rivals.gone(named(meta))
			e.attempts.over(named(meta))
			e.lenderGone(named(meta), meta)
			e.pauseGone(named(meta))
		},
		listed: func(items []any) {
			present := make(map[reloader.Workload]struct{}, len(items))
			for _, item := range items {
				present[named(item.(*metav1.PartialObjectMetadata))] = struct{}{}
			}
			e.intake.deletedExcept(k.Name, present)
			e.pauseGoneExcept(k.Name, present)
		},
	}
}
