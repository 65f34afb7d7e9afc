package engine

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine/internal/answer"
	"k8s-reloader/reloader/kind"
)

// manyUnresolved is how many workloads in the queue make it cheaper to list
// all of a kind, in pages, than to read them one by one.
const manyUnresolved = 64

// resolve handles one key of the resolve queue: it reads a workload whose
// references cannot be known from its metadata.
func (e *Engine) resolve(ctx context.Context, w reloader.Workload) error {
	err := guarded(func() error { return e.resolveOpen(ctx, w) })
	if panicked(err) {
		e.intake.broke(w, nil)
	}
	return err
}

// resolveOpen reads a workload if its references are not known.
func (e *Engine) resolveOpen(ctx context.Context, w reloader.Workload) error {
	k, ok := e.known.ByName(w.Kind)
	if !ok || !e.intake.open(w) {
		return nil
	}
	// A list does not bring the templates that others lend.
	if in, many := e.crowd(w); many && !e.lenders.serve(w) {
		// If the list has somebody in it whom we cannot handle, the others are
		// read alone.
		err := guarded(func() error { return e.resolveAll(ctx, k, w, in) })
		switch {
		case panicked(err):
			e.survived(string(k.Name)+"s", err)
		case errors.Is(err, answer.ErrTooLong):
			e.log.Error(err, "cannot list; reading one by one", "kind", k.Name, "namespace", in.namespace)
		case err != nil:
			return err
		}
	}
	if !e.intake.open(w) {
		return nil
	}
	m, err := e.client.workload(ctx, k, w)
	switch {
	case apierrors.IsNotFound(err):
		// The event of its deletion comes.
		return nil
	case apierrors.IsForbidden(err):
		return e.unresolvable(k, w, err)
	case err != nil:
		return err
	}
	e.readable(k.Resource.GroupResource(), w.Namespace)
	read, err := e.complete(ctx, m)
	if err != nil {
		return err
	}
	e.supplied(w, m)
	if at, changed := e.lenders.newer(w, read); changed {
		e.intake.again(w, at)
	}
	if e.intake.open(w) {
		// It is written to faster than it can be read.
		e.queues.resolve.backoff.undecided(w)
	}
	return nil
}

// crowd returns what has to be listed if so many workloads wait for being read that
// this is cheaper than reading them one by one. A namespace of which many wait has
// its own list, so that however many there are, and however large, those of others
// do not wait for them.
func (e *Engine) crowd(w reloader.Workload) (in area, many bool) {
	if e.queues.resolve.waiting() < manyUnresolved {
		return area{}, false
	}
	own, elsewhere := e.queues.resolve.order.Crowd(w.Namespace, manyUnresolved)
	if own >= manyUnresolved {
		return area{namespace: w.Namespace}, true
	}
	if in = around(e.scope, w.Namespace); in.namespace != "" {
		return area{}, false
	}
	return in, elsewhere >= manyUnresolved
}

// resolveAll reads all workloads of a kind in an area. Workers that come meanwhile
// wait for it, and find their own done, or else read it alone.
func (e *Engine) resolveAll(ctx context.Context, k kind.Kind, w reloader.Workload, in area) (err error) {
	first, leave := e.listings.enter(listOf{k.Name, in})
	made := false
	defer func() { leave(made) }()
	if !first || !e.intake.open(w) {
		return nil
	}
	err = e.client.workloads(ctx, k, in, func(m *kind.Manifest) {
		switch w := m.Workload(); {
		case !e.intake.open(w):
		case m.Lender != (reloader.Workload{}):
			e.lenders.borrow(w, m.Lender)
		default:
			if err := guarded(func() error { e.supplied(w, m); return nil }); err != nil {
				e.survived(w.String(), err)
				e.workloadBroke(w, nil)
			}
		}
	})
	made = err == nil || errors.Is(err, answer.ErrTooLong)
	return err
}

// supplied takes in what has been read.
func (e *Engine) supplied(w reloader.Workload, m *kind.Manifest) {
	if m.Unreadable != nil {
		e.log.Error(m.Unreadable, "cannot read the pod template: only what the annotations name is followed", "workload", w.String())
	}
	supplied := e.intake.supply(m)
	e.tellCrowded()
	if supplied {
		e.lookForMarks(w)
		e.judgeRival(w)
		e.log.V(1).Info("worked out references without a record", "workload", w.String())
	}
}

// tellOtherKeys says, once, that the webhook writes records of no use here. They
// are worked out without, as if there was no webhook.
func (e *Engine) tellOtherKeys(w reloader.Workload) {
	e.toldOtherKeys.Do(func() {
		e.log.Error(nil, "the webhook makes index records with other annotation keys; start it with the same annotation flags as the engine: until then it judges annotations that do not count, and every workload is read when it changes",
			"workload", w.String())
	})
}
