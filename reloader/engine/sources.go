package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
)

// manyUnread is how many unread sources of a namespace make it cheaper to list
// them all, in chunks, than to read them one by one.
const manyUnread = 32

// sourceSeen handles the event that a source is there. It reports whether the
// source has to be read.
func (e *Engine) sourceSeen(of reloader.SourceKind, meta metav1.Object, how arrival) (queued bool) {
	s := reloader.Source{Kind: of, Namespace: meta.GetNamespace(), Name: meta.GetName()}
	version := versionOf(meta.GetResourceVersion())
	if how == created {
		e.recent.created(s, version)
	}
	if !e.index.Depended(s) {
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
	return true
}

// sourceDeleted handles the event that a source is gone since that version. It
// reports whether the source has to be read.
func (e *Engine) sourceDeleted(s reloader.Source, version uint64) (queued bool) {
	if !e.index.Depended(s) || !e.ledger.deleted(s, version) {
		return false
	}
	e.queues.sources.Add(s)
	return true
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
	object, err := e.client.source(ctx, s)
	switch {
	case apierrors.IsNotFound(err):
		e.lookAtNothing(s)
		return nil
	case apierrors.IsForbidden(err):
		e.unreadable(sourceResource(s.Kind).GroupResource(), err, s)
		return nil
	case err == nil:
		e.readable(sourceResource(s.Kind).GroupResource(), s.Namespace)
		if wait := e.tooEarly(s, object); wait > 0 {
			e.ledger.putBack(s)
			e.queues.sources.AddAfter(s, wait)
			return nil
		}
		err = e.lookAt(ctx, s, object)
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
func (e *Engine) tooEarly(s reloader.Source, object readable) time.Duration {
	version := versionOf(object.GetResourceVersion())
	if !e.scope.SelectsSource(s.Kind, object.GetLabels()) || e.recent.untouched(s, version) {
		return 0
	}
	return e.ledger.early(s, version)
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
	err := e.client.sources(ctx, on.kind, on.namespace, func(object readable) {
		s := reloader.Source{Kind: on.kind, Namespace: on.namespace, Name: object.GetName()}
		m, known := e.matches(s)
		if known && !e.index.Depended(s) {
			return
		}
		for w, since := range searchers {
			// As long as it is not known, it counts as a match: the look at s
			// asks for those that do depend on it.
			if !known || e.index.Matched(w, s.Kind, m) {
				e.ledger.join(w, since, s)
			}
		}
		if !known {
			e.ledger.putBack(s)
			later[s] = struct{}{}
			return
		}
		err := guarded(func() error { return e.lookAt(ctx, s, object) })
		if panicked(err) {
			// A matter of that source, which is read alone from here on.
			e.survived(s.String(), err)
			e.sourceBroke(s)
			e.queues.sources.AddRateLimited(s)
			return
		}
		outdated = errors.Join(outdated, err)
		if due, _ := e.ledger.take(s); due {
			// Its event is newer than this list, perhaps.
			e.ledger.putBack(s)
			e.queues.sources.Add(s)
		}
	})
	if apierrors.IsForbidden(err) {
		e.unreadable(sourceResource(on.kind).GroupResource(), err, waiting...)
		e.ledger.searched(on, searchers)
		return nil
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

// errOutdated is a reading that another one has overtaken.
var errOutdated = errors.New("another reading is newer")

// lookAt takes the fingerprint of a source that has been read and has those
// reloaded whom its content has not reached. Nothing of the content outlives
// the call.
func (e *Engine) lookAt(ctx context.Context, s reloader.Source, object readable) error {
	if !e.scope.SelectsSource(s.Kind, object.GetLabels()) {
		e.ledger.unselected(s)
		return nil
	}
	m, known := e.matches(s)
	if !known {
		return nil
	}
	c := content{
		version: versionOf(object.GetResourceVersion()),
		written: dataWritten(object),
		times:   dataTimesOf(object),
		wishes:  wishesOf(object.GetAnnotations(), e.settings.Keys),
	}
	c.untouched = e.recent.untouched(s, c.version)
	switch o := object.(type) {
	case *corev1.ConfigMap:
		c.fingerprint = e.key.ConfigMap(o.Data, o.BinaryData)
	case *corev1.Secret:
		c.fingerprint = e.key.Secret(o.Data)
	}
	overdue, outdated := e.ledger.look(s, c, func() []reloader.Workload {
		return e.affected(s, m, object.GetAnnotations())
	})
	if outdated {
		return fmt.Errorf("look at %s: %w", s, errOutdated)
	}
	switch e.ledger.pastOf(s) {
	case archived:
		overdue = e.whoLacks(ctx, s, c, overdue)
	case unknown:
		overdue = append(overdue, e.whoMissed(ctx, s, c, e.index.Dependents(s, m, object.GetAnnotations()))...)
		overdue = append(overdue, e.whoWasThere(s, m, object)...)
	case none, lookingBack:
	}
	overdue = e.moved(s, c, object, overdue)
	e.ledger.lookedBack(s)
	for _, w := range overdue {
		e.intake.reload(w)
	}
	e.log.V(1).Info("looked at a source", "source", s.String(), "overdue", len(overdue))
	return nil
}
