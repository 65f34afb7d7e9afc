package engine

import (
	"context"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// kinds returns the kinds of workload that are watched.
func (e *Engine) kinds() []kind.Kind {
	return slices.DeleteFunc(kind.All(), func(k kind.Kind) bool { return !e.scope.Workloads(k.Name) })
}

// watch runs the feeds and returns when all are settled, or false when ctx is
// done.
func (e *Engine) watch(ctx context.Context, watching *sync.WaitGroup, feeds []*feed) bool {
	for _, f := range feeds {
		watching.Go(func() { e.watcher.run(ctx, f) })
	}
	for _, f := range feeds {
		select {
		case <-ctx.Done():
			return false
		case <-f.settled:
		}
	}
	return true
}

// newFeed completes a feed and remembers it.
func (e *Engine) newFeed(f *feed) *feed {
	f.settled = make(chan struct{})
	e.feeds = append(e.feeds, f)
	return f
}

// sawAll reports whether all feeds have handed on everything there is.
func (e *Engine) sawAll() bool {
	return !slices.ContainsFunc(e.feeds, func(f *feed) bool { return !f.complete.Load() })
}

// namespaceFeeds returns the feed of namespaces, if labels select them.
func (e *Engine) namespaceFeeds() (feeds []*feed) {
	if e.scope.NamespaceSelector != nil {
		feeds = append(feeds, e.namespaceFeed())
	}
	return feeds
}

func (e *Engine) workloadFeeds() (feeds []*feed) {
	for _, k := range e.kinds() {
		for _, in := range areas(e.scope) {
			feeds = append(feeds, e.workloadFeed(k, in))
		}
	}
	return feeds
}

func (e *Engine) sourceFeeds() (feeds []*feed) {
	for _, k := range reloader.SourceKinds() {
		if !e.settings.Enabled(k) || k == reloader.SecretProviderClass {
			continue
		}
		for _, in := range areas(e.scope) {
			feeds = append(feeds, e.sourceFeed(k, in))
		}
	}
	return feeds
}

// sourceFeed hands the events of a kind of source to the engine.
func (e *Engine) sourceFeed(of reloader.SourceKind, in area) *feed {
	named := func(meta *metav1.PartialObjectMetadata) reloader.Source {
		return reloader.Source{Kind: of, Namespace: meta.Namespace, Name: meta.Name}
	}
	f := &feed{
		resource: sourceResource(of),
		area:     in,
		seen: func(meta *metav1.PartialObjectMetadata, how arrival, _ moment) {
			e.sourceSeen(of, meta, how)
		},
		deleted: func(meta *metav1.PartialObjectMetadata) { e.sourceDeleted(named(meta)) },
		listed: func(items []any) {
			present := make(map[reloader.Source]struct{})
			for _, item := range items {
				if s := named(item.(*metav1.PartialObjectMetadata)); e.index.Depended(s) {
					present[s] = struct{}{}
				}
			}
			for _, s := range e.ledger.known(of) {
				if _, ok := present[s]; !ok && (in.namespace == "" || s.Namespace == in.namespace) {
					e.sourceDeleted(s)
				}
			}
		},
	}
	if selector := e.scope.SourceSelectorOf(of); selector != nil {
		f.labels = selector.String()
		f.seen = func(meta *metav1.PartialObjectMetadata, how arrival, _ moment) {
			if how == created && writtenSince(meta) {
				// It was there, and its labels have been changed.
				how = updated
			}
			e.sourceSeen(of, meta, how)
		}
	}
	return e.newFeed(f)
}

// writtenSince reports whether somebody has written to an object since it was
// created, as far as its metadata tell.
func writtenSince(meta *metav1.PartialObjectMetadata) bool {
	return slices.ContainsFunc(meta.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Time != nil && f.Time.After(meta.CreationTimestamp.Time)
	})
}

// workloadFeed hands the events of a kind of workload to the engine.
func (e *Engine) workloadFeed(k kind.Kind, in area) *feed {
	named := func(meta *metav1.PartialObjectMetadata) reloader.Workload {
		return reloader.Workload{Kind: k.Name, Namespace: meta.Namespace, Name: meta.Name}
	}
	return e.newFeed(&feed{
		resource: k.Resource,
		area:     in,
		seen: func(meta *metav1.PartialObjectMetadata, _ arrival, since moment) {
			w := named(meta)
			e.intake.observe(w, meta, since)
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
		},
		listed: func(items []any) {
			present := make(map[reloader.Workload]struct{}, len(items))
			for _, item := range items {
				present[named(item.(*metav1.PartialObjectMetadata))] = struct{}{}
			}
			e.intake.deletedExcept(k.Name, in.namespace, present)
		},
	})
}

// collect forgets what the checkpoint knows of sources that are gone. It leaves
// everything where something could not be seen, and what belongs to namespaces
// that may yet be selected.
func (e *Engine) collect(ctx context.Context) {
	if e.checkpoint == nil || !e.sawAll() {
		return
	}
	var elsewhere []reloader.Source
	if e.scope.NamespaceSelector != nil {
		for _, of := range reloader.SourceKinds() {
			if !e.settings.Enabled(of) || of == reloader.SecretProviderClass {
				continue
			}
			err := e.client.metadataOf(ctx, sourceResource(of), everywhere(e.scope), func(meta *metav1.PartialObjectMetadata) {
				elsewhere = append(elsewhere, reloader.Source{Kind: of, Namespace: meta.Namespace, Name: meta.Name})
			})
			if err != nil {
				e.log.V(1).Info("the checkpoint keeps what may be gone until the next start", "reason", err.Error())
				return
			}
		}
	}
	e.checkpoint.Retain(func(yield func(reloader.Source) bool) {
		more := true
		for s := range e.ledger.all() {
			if more = more && yield(s); !more {
				return
			}
		}
		slices.Values(elsewhere)(yield)
	})
}
