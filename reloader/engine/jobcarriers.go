package engine

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// Engines before this one held a new Job in a suspended one, a Job carrier, which
// everybody can make who may create Jobs. One that is found is exchanged for a
// carrier if that takes nothing from it but marks. All others are left alone, and
// logged once.

// errOldGone is why a Job carrier cannot be compared.
var errOldGone = errors.New("the Job that it names is gone, so that nothing shows what made it")

// runOrDelete is what to do with a Job carrier that is left alone.
const runOrDelete = "delete it, or set spec.suspend to false to run it"

// carries reports whether an event is one of a Job carrier, which is no workload.
func (e *Engine) carries(w reloader.Workload, meta metav1.Object) bool {
	if w.Kind != kind.Jobs().Name || !kind.IsJobCarrier(meta) {
		return false
	}
	e.carrierSeen(w.Kind, meta)
	return true
}

// adopt takes over a Job carrier.
func (e *Engine) adopt(ctx context.Context, key reloader.Workload) error {
	jobs := kind.Jobs()
	m, err := e.client.workload(ctx, jobs, key)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case m.Meta.DeletionTimestamp != nil:
		return nil
	}
	c, err := kind.JobCarrierOf(m)
	if err != nil {
		e.refuse(key, m.Meta.UID, err, runOrDelete)
		return nil
	}
	old, err := e.client.workload(ctx, jobs, c.Workload())
	if apierrors.IsNotFound(err) {
		e.refuse(key, m.Meta.UID, errOldGone, runOrDelete)
		return nil
	}
	if err != nil {
		return err
	}
	change := kind.Change{Keys: e.settings.Keys}
	if text := old.Meta.Annotations[e.settings.Keys.Index]; e.intake.trusts(text, old.Meta) {
		change.Record = recordOfNew(text)
	}
	replacement, err := c.Replacement(old, change)
	if err != nil {
		e.refuse(key, m.Meta.UID, err, runOrDelete)
		return nil
	}
	step := kind.Held
	switch deleted := old.Meta.DeletionTimestamp != nil; {
	case deleted && !c.Ending():
		e.leftAlone(c.Workload(), "somebody else is deleting it")
		return e.deleteJobCarrier(ctx, key, m)
	case deleted:
		step = kind.Taken
	case kind.Finished(old) && !e.rerunFinished:
		e.leftAlone(c.Workload(), "it has ended meanwhile")
		return e.deleteJobCarrier(ctx, key, m)
	}
	carrier, err := kind.NewCarrier(e.carriers.key, old, c.Sources(), replacement, step)
	if err != nil {
		return stalledError{err}
	}
	if carrier, err = e.saveCarrier(ctx, carrier); err != nil {
		return err
	}
	if carrier.Step() == kind.Taken {
		// Once the old Job is gone, the Job carrier proves nothing.
		x := &exchange{key: carrierKey(carrier), carrier: carrier}
		if err := e.announce(ctx, x, kind.Ending); err != nil && !errors.Is(err, errCarrierGone) {
			return err
		}
	}
	return e.deleteJobCarrier(ctx, key, m)
}

func (e *Engine) deleteJobCarrier(ctx context.Context, key reloader.Workload, m *kind.Manifest) error {
	err := e.client.deleteJob(ctx, key, metav1.DeletePropagationBackground, metav1.Preconditions{UID: &m.Meta.UID})
	if isGone(err) {
		return nil
	}
	return err
}
