package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
	"k8s-reloader/reloader/report"
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
	// annotations are the keys of those that the handlers read, each with the
	// bytes of its value that stay of a list; an event has others, too.
	annotations map[string]int
	// kind of the workloads that the feed hands on; empty if it is none of
	// workloads.
	kind reloader.WorkloadKind
	// flag has to be given for this to be watched; empty if none has.
	flag string
	// outlasting is true if what was handed on is still so when its API is not
	// served any more.
	outlasting bool
	// vet is called for what a list brings, before its managed fields are dropped;
	// nil is nothing to do.
	vet func(meta *metav1.PartialObjectMetadata)
	// mu is held while something is handed on.
	mu sync.Mutex
	// seen is called for what is there; since is when it was written or, if it
	// was listed, the earliest that it may have been since the last event; the
	// zero moment is before we looked.
	seen func(meta *metav1.PartialObjectMetadata, how arrival, since moment)
	// deleted is called for what is gone.
	deleted func(meta *metav1.PartialObjectMetadata)
	// listed is called after seen was called for everything there is. What is
	// not among the items has gone since newest.
	listed func(items []any)
	// broke is called after a panic of one of these, with the object whose event
	// it was, nil if it was listed: the event is lost, and broke puts the key
	// where it is read again. While a list is handed on, mu is held.
	broke func(meta *metav1.PartialObjectMetadata, err error)

	// settled is closed when the first list is handed on, or as soon as it is
	// known that it does not come for now.
	settled    chan struct{}
	settleOnce sync.Once
	// complete is true while the feed has handed on everything there is.
	complete atomic.Bool
	// listedAt is the version of the last list.
	listedAt atomic.Uint64
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
	if f.labels != "" && how == created && writtenSince(meta) {
		// It was there, and now has the labels.
		how = updated
	}
	f.guard(meta, func() { f.locked(func() { f.seen(meta, how, written) }) })
	return nil
}

// locked hands something on.
func (f *feed) locked(handle func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	handle()
}

// guard has a handler's panic concern nobody but the object whose event it was; nil
// is none of them. It reports whether there was none.
func (f *feed) guard(meta *metav1.PartialObjectMetadata, handle func()) bool {
	err := guarded(func() error { handle(); return nil })
	if err != nil && f.broke != nil {
		// What cleans up after it may find the same hole.
		_ = guarded(func() error { f.broke(meta, err); return nil })
	}
	return err == nil
}

// writtenSince reports whether somebody has written to an object since it was
// created, as far as its metadata tell.
func writtenSince(meta *metav1.PartialObjectMetadata) bool {
	return slices.ContainsFunc(meta.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Time != nil && f.Time.After(meta.CreationTimestamp.Time)
	})
}

// Delete implements cache.ReflectorStore.
func (f *feed) Delete(obj any) error {
	meta, err := metadataOf(obj)
	if err != nil {
		return err
	}
	f.newest = max(f.newest, versionOf(meta.ResourceVersion))
	f.guard(meta, func() { f.locked(func() { f.deleted(meta) }) })
	return nil
}

// Replace implements cache.ReflectorStore: the first list, or the one after
// events were missed.
func (f *feed) Replace(items []any, resourceVersion string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// What happened since the last event may have happened right after it.
	since := moment{version: f.newest}
	for _, item := range items {
		meta, err := metadataOf(item)
		if err != nil {
			return err
		}
		f.guard(meta, func() { f.seen(meta, listed, since) })
	}
	whole := f.guard(nil, func() { f.listed(items) })
	f.newest = max(f.newest, versionOf(resourceVersion))
	f.listedAt.Store(versionOf(resourceVersion))
	f.complete.Store(whole)
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
	if f.newest > 0 && !f.outlasting {
		f.guard(nil, func() { f.locked(func() { f.listed(nil) }) })
	}
	f.newest = 0
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
		f.slim(meta)
		return meta, nil
	}
}

// slim drops of an object in a list what the handlers do not read, most of all
// what is not ours.
func (f *feed) slim(meta *metav1.PartialObjectMetadata) {
	owners := meta.ManagedFields
	f.guard(meta, func() {
		if f.vet != nil {
			f.vet(meta)
		}
		meta.ManagedFields = nil
		meta.ManagedFields = pauseOwners(owners)
	})
	if !f.labelled {
		meta.Labels = nil
	}
	meta.OwnerReferences, meta.Finalizers = nil, nil
	meta.Annotations = f.ours(meta.Annotations)
}

// readOfWorkloads are the annotations that the handlers of workloads read. Those
// that users write stay whole: the API server bounds them, and a workload that is
// read has to have the same.
func readOfWorkloads(k annotation.Keys) map[string]int {
	// One byte more, so that a record that is too long still is.
	read := map[string]int{k.Index: record.MaxSize + 1, k.PausedAt: maxTimestamp, kind.JobCarrierKey: 0}
	for _, key := range k.On(annotation.Workload) {
		read[key] = math.MaxInt
	}
	return read
}

// maxTimestamp is more than any time takes in an annotation.
const maxTimestamp = 100

// ours returns those of the annotations that the handlers read.
func (f *feed) ours(annotations map[string]string) (ours map[string]string) {
	for key, value := range annotations {
		if most, ok := f.annotations[key]; ok {
			if len(value) > most {
				value = strings.Clone(value[:most])
			}
			put(&ours, key, value)
		}
	}
	return ours
}

func metadataOf(obj any) (*metav1.PartialObjectMetadata, error) {
	meta, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil, fmt.Errorf("watch brought a %T instead of metadata", obj)
	}
	return meta, nil
}

// sourceFeed hands the events of a kind of source to the engine.
func (e *Engine) sourceFeed(of reloader.SourceKind, in area) *feed {
	named := func(meta *metav1.PartialObjectMetadata) reloader.Source {
		return reloader.Source{Kind: of, Namespace: meta.Namespace, Name: meta.Name}
	}
	return e.newFeed(&feed{
		resource: sourceResource(of),
		area:     in,
		labels:   e.sourceLabels(of),
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
				if _, ok := present[s]; !ok && (in.namespace == "" || s.Namespace == in.namespace) {
					e.sourceDeleted(s, someVersion)
				}
			}
		},
		broke: func(meta *metav1.PartialObjectMetadata, err error) {
			if meta == nil {
				// What is gone is found by the next look at it.
				e.survived(string(of)+"s", err)
				return
			}
			e.survived(named(meta).String(), err)
			e.sourceBroke(named(meta))
			e.queues.sources.AddRateLimited(named(meta))
		},
	})
}

// workloadFeed hands the events of a kind of workload to the engine.
func (e *Engine) workloadFeed(k kind.Kind, in area) *feed {
	named := func(meta *metav1.PartialObjectMetadata) reloader.Workload {
		return reloader.Workload{Kind: k.Name, Namespace: meta.Namespace, Name: meta.Name}
	}
	f := e.newFeed(&feed{
		resource:    k.Resource,
		area:        in,
		kind:        k.Name,
		annotations: readOfWorkloads(e.settings.Keys),
		vet:         func(meta *metav1.PartialObjectMetadata) { bindRecord(meta, e.settings.Keys.Index) },
		seen: func(meta *metav1.PartialObjectMetadata, _ arrival, since moment) {
			if !e.intake.selects(meta.Namespace) {
				return
			}
			w := named(meta)
			if e.carries(w, meta) {
				return
			}
			e.lenderSeen(w, meta, since)
			if e.intake.observe(w, meta, since) {
				e.tellOtherKeys(w)
			}
			e.tellCrowded()
			e.pauseSeen(w, meta)
			e.rivalSeen(w, meta)
		},
		deleted: func(meta *metav1.PartialObjectMetadata) {
			e.forget(named(meta), moment{version: versionOf(meta.ResourceVersion)})
		},
		broke: func(meta *metav1.PartialObjectMetadata, err error) {
			if meta == nil {
				// What is gone is not found when it is next read.
				e.survived(string(k.Name)+"s", err)
				return
			}
			e.survived(named(meta).String(), err)
			e.workloadBroke(named(meta), meta)
		},
	})
	f.listed = func(items []any) {
		present := make(map[reloader.Workload]struct{}, len(items))
		for _, item := range items {
			present[named(item.(*metav1.PartialObjectMetadata))] = struct{}{}
		}
		for _, w := range e.intake.allExcept(k.Name, in.namespace, present) {
			e.forget(w, moment{version: f.newest})
		}
		e.carriers.retain(k.Name, in.namespace, present)
	}
	return f
}

// forget drops what is known of w, which is gone since that moment, or whose
// namespace is not watched any more. How often it was reloaded stays: a Job goes
// with each reload.
func (e *Engine) forget(w reloader.Workload, since moment) {
	e.intake.deleted(w)
	e.rivals.gone(w)
	e.attempts.over(w)
	e.lenderGone(w, since)
	e.pauseGone(w)
	e.carriers.gone(w)
}
