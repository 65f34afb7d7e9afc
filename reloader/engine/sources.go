package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
)

// manyUnread is how many unread sources of a namespace make it cheaper to list
// them all, in pages, than to read them one by one.
const manyUnread = 32

// sourceSeen handles the event that a source is there. It reports whether the
// source has been queued, to be read; an engine that stands by queues none.
func (e *Engine) sourceSeen(of reloader.SourceKind, meta metav1.Object, how arrival) (queued bool) {
	s := reloader.Source{Kind: of, Namespace: meta.GetNamespace(), Name: meta.GetName()}
	version := versionOf(meta.GetResourceVersion())
	if how == created {
		e.recent.created(s, version)
	}
	if !e.index.Depended(s) {
		e.disown(s)
		return false
	}
	if how == created {
		e.ledger.created(s)
	}
	news := e.ledger.news
	if how == listed {
		news = e.ledger.relisted
	}
	if !news(s, version) {
		return false
	}
	e.queues.sources.Add(s)
	return !e.standsBy()
}

// sourceDeleted handles the event that a source is gone since that version. It
// reports whether the source has been queued.
func (e *Engine) sourceDeleted(s reloader.Source, version uint64) (queued bool) {
	if !e.index.Depended(s) {
		// Whose pattern had brought it in may be gone before it.
		e.ledger.abandon(s, e.index.Depended)
		return false
	}
	if !e.ledger.deleted(s, version) {
		return false
	}
	// It may be long until a worker comes to it.
	e.ledger.bury(s, e.index.Named)
	e.queues.sources.Add(s)
	return !e.standsBy()
}

// readSource handles one key of the source queue.
func (e *Engine) readSource(ctx context.Context, s reloader.Source) error {
	err := guarded(func() error { return e.readDue(ctx, s) })
	if panicked(err) {
		e.sourceBroke(s)
	}
	return err
}

// readDue reads a source if there is a reason to.
func (e *Engine) readDue(ctx context.Context, s reloader.Source) error {
	on := shelfOf(s)
	if e.waitsForBacklog(s) {
		return nil
	}
	if s.Name == "" {
		return e.searchShelf(ctx, on)
	}
	if _, known := e.matches(s); !known {
		return nil
	}
	if !e.index.Depended(s) {
		e.ledger.abandon(s, e.index.Depended)
		return nil
	}
	if e.unseen(on) {
		// Once it is allowed, its feed tells of it.
		e.ledger.setAside(s)
		return nil
	}
	if s.Kind == reloader.SecretProviderClass {
		return e.readClass(ctx, s)
	}
	due, first := e.ledger.take(s)
	if !due {
		return nil
	}
	if first && e.ledger.unreadOn(on) >= manyUnread {
		e.ledger.putBack(s)
		e.queues.sources.Add(reloader.Source{Kind: on.kind, Namespace: on.namespace})
		return nil
	}
	var read digest
	err := e.client.source(ctx, s, func(object readable) { read = e.digest(object) })
	switch {
	case apierrors.IsNotFound(err):
		e.lookAtNothing(s)
		return nil
	case apierrors.IsForbidden(err):
		return e.unreadable(sourceResource(s.Kind).GroupResource(), err, s)
	case err == nil:
		e.readable(sourceResource(s.Kind).GroupResource(), s.Namespace)
		if wait := e.tooEarly(s, read); wait > 0 {
			e.ledger.putBack(s)
			e.queues.sources.AddAfter(s, wait)
			return nil
		}
		err = e.lookAt(ctx, s, read)
	}
	if err != nil {
		e.ledger.putBack(s)
	}
	return err
}

// tooEarly returns how long to wait for the event of what has been read of s; 0
// is not at all. Only that event tells whether it was the creation, which is no
// change for a workload that was there before. Of what is not selected there
// are no events.
func (e *Engine) tooEarly(s reloader.Source, read digest) time.Duration {
	if !read.selected || e.recent.untouched(s, read.content.version) {
		return 0
	}
	return e.ledger.early(s, read.content.version)
}

// searchShelf reads all sources of a kind in a namespace and looks at those
// that matter: the ones that wait for a first look, and the ones that match
// somebody's new patterns.
func (e *Engine) searchShelf(ctx context.Context, on shelf) error {
	if on.kind == reloader.SecretProviderClass {
		e.searchClasses(on)
		return nil
	}
	searchers := e.ledger.searchersOn(on)
	waiting := e.ledger.takeUnread(on)
	if len(searchers) == 0 && len(waiting) == 0 {
		return nil
	}
	if e.unseen(on) {
		e.ledger.setAside(waiting...)
		e.ledger.searched(on, searchers)
		return nil
	}
	var outdated error
	later := make(map[reloader.Source]struct{})
	var page []digest
	read := func(object readable) {
		s := reloader.Source{Kind: on.kind, Namespace: on.namespace, Name: object.GetName()}
		if _, known := e.matches(s); known && !e.index.Depended(s) {
			return
		}
		err := guarded(func() error { page = append(page, e.digest(object)); return nil })
		if err != nil {
			e.broken(s, err)
		}
	}
	err := e.client.sources(ctx, on.kind, on.namespace, read, func() {
		for _, found := range page {
			s := reloader.Source{Kind: on.kind, Namespace: on.namespace, Name: found.name}
			known, err := e.found(ctx, s, found, searchers)
			if !known {
				later[s] = struct{}{}
			}
			outdated = errors.Join(outdated, err)
		}
		page = page[:0]
	})
	if apierrors.IsForbidden(err) {
		e.ledger.searched(on, searchers)
		return e.unreadable(sourceResource(on.kind).GroupResource(), err, waiting...)
	}
	if err := errors.Join(err, outdated); err != nil {
		e.ledger.putBack(waiting...)
		return err
	}
	e.ledger.searched(on, searchers)
	waiting = slices.DeleteFunc(waiting, func(s reloader.Source) bool { _, ok := later[s]; return ok })
	for _, s := range e.ledger.notFound(waiting) {
		e.lookAtNothing(s)
	}
	return nil
}

// found looks at a source that a search has found. It reports false if it is not
// known yet who depends on it.
func (e *Engine) found(ctx context.Context, s reloader.Source, read digest, searchers map[reloader.Workload]moment) (known bool, outdated error) {
	m, known := e.matches(s)
	for w, since := range searchers {
		// As long as it is not known, it counts as a match: the look at s
		// asks for those that do depend on it.
		if !known || e.index.Matched(w, s, m) {
			e.ledger.join(w, since, s)
		}
	}
	if !known {
		e.ledger.putBack(s)
		return false, nil
	}
	if e.waitsForBacklog(s) {
		e.ledger.putBack(s)
		return false, nil
	}
	err := guarded(func() error { return e.lookAt(ctx, s, read) })
	switch {
	case panicked(err):
		e.broken(s, err)
		return true, nil
	case errors.Is(err, errLookBack):
		// It is read alone from here on: the search would not come to it again.
		e.ledger.putBack(s)
		e.tryAgain(s.String(), err, e.queues.sources.failed(s, err))
		return true, nil
	}
	if due, _ := e.ledger.take(s); due {
		// Its event is newer than this list, perhaps.
		e.ledger.putBack(s)
		e.queues.sources.Add(s)
	}
	return true, err
}

// broken has a source read alone from here on: the panic is a matter of it.
func (e *Engine) broken(s reloader.Source, err error) {
	e.survived(s.String(), err)
	e.sourceBroke(s)
	e.queues.sources.AddRateLimited(s)
}

// errOutdated is a reading that another one has overtaken.
var errOutdated = errors.New("another reading is newer")

// digest is what is kept of a source that has been read: its size does not
// depend on the source's.
type digest struct {
	name string
	// selected is false if the source's labels leave it alone.
	selected bool
	created  time.Time
	content  content
	// legacy is the content's mark of Reloader 1; empty while no workload has one.
	legacy string
}

// digest takes the fingerprint of a source, and of all else what is needed.
// Nothing of the content outlives the call.
func (e *Engine) digest(object readable) digest {
	read := digest{
		name:    strings.Clone(object.GetName()),
		created: object.GetCreationTimestamp().Time,
		content: content{
			version: versionOf(object.GetResourceVersion()),
			written: dataWritten(object),
			times:   dataTimesOf(object),
			wishes:  wishesOf(object.GetAnnotations(), e.settings.Keys),
		},
	}
	of := reloader.ConfigMap
	switch o := object.(type) {
	case *corev1.ConfigMap:
		read.content.fingerprint = e.key.ConfigMap(o.Data, o.BinaryData)
	case *corev1.Secret:
		of = reloader.Secret
		read.content.fingerprint = e.key.Secret(o.Data)
	}
	if e.intake.moving.Load() {
		read.legacy = legacyMarkOf(object)
	}
	read.selected = e.scope.SelectsSource(of, object.GetLabels())
	return read
}

// lookAt has those reloaded whom the content of a source has not reached.
func (e *Engine) lookAt(ctx context.Context, s reloader.Source, read digest) error {
	if !read.selected {
		e.ledger.unselected(s)
		return nil
	}
	m, known := e.matches(s)
	if !known {
		return nil
	}
	c := read.content
	annotations := c.wishes.annotations(e.settings.Keys)
	c.untouched = e.recent.untouched(s, c.version)
	var all decided
	overdue, outdated := e.ledger.look(s, c, func() (reloads []reloader.Workload) {
		reloads, all = e.affected(s, m, annotations)
		return reloads
	})
	e.tallyDecided(all)
	if outdated {
		return fmt.Errorf("look at %s: %w", s, errOutdated)
	}
	switch e.ledger.pastOf(s) {
	case archived:
		overdue = e.whoLacks(ctx, s, c, overdue)
	case unknown:
		missed, err := e.whoMissed(ctx, s, c, e.index.Dependents(s, m, annotations))
		if err != nil {
			e.ledger.lookBackAgain(s)
			e.reloadAll(e.moved(s, read, overdue))
			return fmt.Errorf("look at %s: %w", s, err)
		}
		overdue = slices.Concat(overdue, missed, e.whoWasThere(s, m, read))
	case none, lookingBack:
	}
	overdue = e.moved(s, read, overdue)
	e.ledger.lookedBack(s)
	e.reloadAll(overdue)
	e.log.V(1).Info("looked at a source", "source", s.String(), "overdue", len(overdue))
	return nil
}

// reloadAll has workloads of one namespace reloaded, to which one more source is
// due, when their coalescing windows end.
func (e *Engine) reloadAll(overdue []reloader.Workload) {
	if len(overdue) > 0 {
		e.backlog.add(overdue[0].Namespace, len(overdue))
	}
	for _, w := range overdue {
		e.intake.reload(w)
	}
}
