package engine

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/fingerprint"
)

// podStatusFeed hands to the engine what pods report of SecretProviderClasses.
func (e *Engine) podStatusFeed(in area) *feed {
	return e.newFeed(&feed{
		annotations: map[string]int{mountedClass: math.MaxInt, mountedContent: math.MaxInt, mountedPod: math.MaxInt, mountedAt: math.MaxInt},
		resource:    podStatusResource(),
		area:        in,
		flag:        "--enable-csi-integration",
		// Pods keep what they have mounted, with the driver or without.
		outlasting: true,
		seen: func(meta *metav1.PartialObjectMetadata, how arrival, _ moment) {
			// Reports that were listed are taken in together.
			if m := reportOf(meta); how != listed && e.rotations.reported(m) {
				e.classTurned(m.class, how)
			}
		},
		deleted: func(meta *metav1.PartialObjectMetadata) {
			if m := reportOf(meta); e.rotations.gone(m.class, m.name) {
				e.classTurned(m.class, updated)
			}
		},
		// The report is lost until the pod's next, or the next list; the class is
		// looked at with those of other pods.
		broke: func(meta *metav1.PartialObjectMetadata, err error) {
			if meta == nil {
				e.survived(string(reloader.SecretProviderClass)+"es", err)
				return
			}
			class := reportOf(meta).class
			e.survived(class.String(), err)
			e.sourceBroke(class)
			e.queues.sources.AddRateLimited(class)
		},
		listed: func(items []any) {
			reports := make([]mountReport, len(items))
			for i, item := range items {
				reports[i] = reportOf(item.(*metav1.PartialObjectMetadata))
			}
			turned := e.rotations.listed(in.namespace, reports)
			// Some have had to wait until they could be seen, and of some it is
			// known only now that no pod reports them.
			for _, class := range append(turned, e.ledger.known(reloader.SecretProviderClass)...) {
				if in.namespace == "" || class.Namespace == in.namespace {
					e.classTurned(class, listed)
				}
			}
		},
	})
}

func reportOf(meta *metav1.PartialObjectMetadata) mountReport {
	return mountReport{
		class: reloader.Source{
			Kind: reloader.SecretProviderClass, Namespace: meta.Namespace, Name: meta.Annotations[mountedClass],
		},
		name: meta.Name,
		mount: mount{
			content: fingerprint.Fingerprint(meta.Annotations[mountedContent]),
			version: versionOf(meta.ResourceVersion),
			// The driver writes a report when it mounts, and again when it rotates.
			came:   meta.Generation == 1,
			pod:    meta.Annotations[mountedPod],
			holder: holderOf(meta),
		},
	}
}

// holderOf tells the pod of a report from others of its name: the target path has
// the pod's UID.
func holderOf(meta *metav1.PartialObjectMetadata) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, string(meta.UID)+meta.Annotations[mountedAt]) // never fails
	return h.Sum64()
}

// classTurned handles the event that a class has other content, or none.
func (e *Engine) classTurned(class reloader.Source, how arrival) {
	c := e.rotations.content(class)
	news := e.ledger.news
	if how == listed && !c.absent {
		news = e.ledger.relisted
	}
	gone := c.absent && c.vacant
	if !e.index.Depended(class) {
		if gone {
			e.ledger.abandon(class, e.index.Depended)
		}
		e.disown(class)
		return
	}
	if !news(class, c.version) {
		return
	}
	if gone {
		e.ledger.bury(class, e.index.Named)
	}
	e.queues.sources.Add(class)
}

// readClass is readSource for a SecretProviderClass. Its content is in memory;
// what is read, and only when that has changed, is who may be reloaded for it.
func (e *Engine) readClass(ctx context.Context, class reloader.Source) error {
	m, known := e.matches(class)
	if !known {
		return nil
	}
	if due, _ := e.ledger.take(class); !due {
		return nil
	}
	e.rotations.recall(class, e.ledger.kept(class))
	c := e.rotations.content(class)
	left := e.rotations.returned(class)
	c.wishes = e.ledger.wishes(class)
	var annotations map[string]string
	var started map[reloader.Workload]bool
	if e.ledger.differs(class, c) || left != "" {
		var err error
		if started, err = e.startedWith(ctx, class); err != nil {
			e.ledger.putBack(class)
			return err
		}
		annotations, err = e.client.classAnnotations(ctx, class)
		switch {
		case apierrors.IsForbidden(err):
			return e.unreadable(classResource().GroupResource(), err, class)
		case err != nil:
			e.ledger.putBack(class)
			return err
		}
		e.readable(classResource().GroupResource(), class.Namespace)
		c.wishes = wishesOf(annotations, e.settings.Keys)
	}
	dependents := func() []reloader.Workload { return e.index.Dependents(class, m, annotations) }
	if left != "" {
		// Those that went back had other content in between.
		passed := c
		passed.fingerprint = left
		passing, _ := e.ledger.look(class, passed, dependents)
		e.startedAlready(class, left, passing)
		e.rotations.followed(class, left)
	}
	overdue, outdated := e.ledger.look(class, c, dependents)
	if outdated {
		e.ledger.putBack(class)
		return fmt.Errorf("look at %s: %w", class, errOutdated)
	}
	// Pods report what they have, so nothing of the past is in doubt.
	e.ledger.pastOf(class)
	e.ledger.lookedBack(class)
	if c.absent {
		e.ledger.bury(class, e.index.Named)
	}
	e.startedAlready(class, c.fingerprint, slices.DeleteFunc(slices.Clone(overdue), func(w reloader.Workload) bool { return !started[w] }))
	e.backlog.add(class.Namespace, len(overdue))
	for _, w := range overdue {
		if !started[w] {
			e.intake.reload(w)
		}
	}
	e.log.V(1).Info("looked at what pods report of a class", "source", class.String(), "overdue", len(overdue))
	return nil
}

// searchClasses is searchShelf for the SecretProviderClasses of a namespace.
func (e *Engine) searchClasses(on shelf) {
	searchers := e.ledger.searchersOn(on)
	for _, class := range e.rotations.in(on.namespace) {
		m, known := e.matches(class)
		for w, since := range searchers {
			if !known || e.index.Matched(w, class, m) {
				e.ledger.join(w, since, class)
			}
		}
		e.queues.sources.Add(class)
	}
	e.ledger.searched(on, searchers)
}

// classAnnotations returns the annotations of a SecretProviderClass; none if it
// is gone, which leaves pods what they have mounted.
func (c *client) classAnnotations(ctx context.Context, class reloader.Source) (map[string]string, error) {
	meta, err := c.metadataOfOne(ctx, classResource(), class.Namespace, class.Name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", class, err)
	}
	return meta.Annotations, nil
}

// kept returns the entry of the archive that the account of s goes on from; the
// zero entry if there is none.
func (l *ledger) kept(s reloader.Source) checkpoint.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil {
		return a.saved
	}
	return checkpoint.Entry{}
}

// differs reports whether s had other content at the last look, so that this
// one is a change.
func (l *ledger) differs(s reloader.Source, c content) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[s]
	return a != nil && !c.absent && a.current != "" && a.current != c.fingerprint
}

// vacate notes that no pod has the content of s any more: nothing is due of it,
// and what comes next is the first. l.mu is held.
func (l *ledger) vacate(s reloader.Source, a *account) {
	for w := range a.waiting {
		delete(l.workloads[w].pending, s)
	}
	a.current, a.written, a.rolledOut = "", moment{}, ""
	a.applied, a.waiting = nil, nil
	if l.archive != nil {
		l.archive.Delete(s)
	}
	a.saved = checkpoint.Entry{}
}
