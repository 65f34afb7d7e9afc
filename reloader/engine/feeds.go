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
	return slices.DeleteFunc(e.known.All(), func(k kind.Kind) bool { return !e.scope.Workloads(k.Name) })
}

// watch runs the feeds and returns when all are settled, or false when ctx is
// done.
func (e *Engine) watch(ctx context.Context, watching *sync.WaitGroup, feeds []*feed) bool {
	for _, f := range feeds {
		watching.Go(func() { e.watcher.run(ctx, f) })
	}
	for _, f := range feeds {
		if !e.awaitFirstList(ctx, f) {
			return false
		}
	}
	return true
}

// awaitFirstList waits until a feed is settled, and reports false if ctx is done
// before. An extension gets no longer than until the first word that something is
// missing: whoever serves it may take a request and never answer.
func (e *Engine) awaitFirstList(ctx context.Context, f *feed) bool {
	began, overdue := e.clock.Now(), e.clock.NewTicker(startTold)
	defer overdue.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-f.settled:
			return true
		case <-overdue.C():
			e.log.Info("the start waits for a list", "resource", f.resource.GroupResource().String(), "namespace", f.area.namespace)
			if mayBeMissing(f.resource) || e.clock.Since(began) >= startList && e.sawAny() {
				f.settle()
			}
		}
	}
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

// sawAny reports whether a list was answered at all.
func (e *Engine) sawAny() bool {
	return slices.ContainsFunc(e.feeds, func(f *feed) bool { return f.listedAt.Load() > 0 })
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
		if !e.settings.Enabled(k) {
			continue
		}
		for _, in := range areas(e.scope) {
			if k == reloader.SecretProviderClass {
				feeds = append(feeds, e.podStatusFeed(in))
			} else {
				feeds = append(feeds, e.sourceFeed(k, in))
			}
		}
	}
	return feeds
}

// sourceLabels returns the label selector of a kind of source as text; empty if
// there is none.
func (e *Engine) sourceLabels(of reloader.SourceKind) string {
	if selector := e.scope.SourceSelectorOf(of); selector != nil {
		return selector.String()
	}
	return ""
}

// tidy drops from the checkpoint what belongs to sources that are gone. It
// leaves everything where something could not be seen, and what belongs to
// namespaces that may yet be selected.
func (e *Engine) tidy(ctx context.Context) {
	if e.checkpoint == nil || !e.sawAll() {
		return
	}
	var elsewhere []reloader.Source
	if e.scope.NamespaceSelector != nil {
		// Pods' reports are kept of all namespaces.
		elsewhere = e.rotations.all()
		for _, of := range reloader.SourceKinds() {
			if !e.settings.Enabled(of) || of == reloader.SecretProviderClass {
				continue
			}
			_, err := e.client.metadataOf(ctx, sourceResource(of), everywhere(e.scope), "", func(meta *metav1.PartialObjectMetadata) {
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
