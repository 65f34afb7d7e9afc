package engine

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/report"
)

// How long a carrier waits.
const (
	// firstEndPoll is the time between the deletion of a Job and the first look
	// whether it is gone: its pods may take hours to end.
	firstEndPoll = time.Second
	// forgetting is how long the controller of Jobs gets to see that the old Job
	// is gone. It knows Jobs by their names. If it met the new one instead, it
	// could wait for a pod of the old one to show up, for five minutes (see
	// ExpectationsTimeout in k8s.io/kubernetes/pkg/controller): a pod that it
	// created when the Job was being deleted already, and that the garbage
	// collector did not wait for.
	forgetting = 2 * time.Second
	// freeing is how long the controller of quotas gets to see it, too, before a
	// quota without room is reported.
	freeing = 30 * time.Second
)

// exchange is that of an old Job for the new one in a carrier.
type exchange struct {
	key     reloader.Workload
	carrier kind.Carrier
	// lost is true if somebody else has deleted the carrier, or is doing so. What
	// is known of it is in memory then.
	lost bool
}

// carry handles one key of the queue of carriers: it takes the steps that are
// left.
func (e *Engine) carry(ctx context.Context, key reloader.Workload) error {
	ctx, cancel, err := e.whileLeading(ctx, key)
	if err != nil {
		return err
	}
	defer cancel()
	if key.Kind == kind.Jobs().Name {
		return e.adopt(ctx, key)
	}
	x, err := e.underWay(ctx, key)
	if err != nil || x == nil {
		return err
	}
	wait, err := e.exchange(ctx, x)
	switch {
	case wait > 0:
		e.queues.carriers.AddAfter(key, wait)
		return nil
	case errors.Is(err, errCarrierGone), apierrors.IsConflict(err) && !denied(err):
		// The old Job, or the carrier, has changed meanwhile and is read again.
		return err
	case namespaceGoes(err):
		e.leftAlone(x.carrier.Workload(), "its namespace is being deleted")
		e.carriers.drop(key)
		return nil
	case err != nil && stopped(ctx):
		return err
	case err != nil:
		return e.notExchanged(x.carrier, err)
	}
	e.carriers.drop(key)
	if x.lost {
		return nil
	}
	return e.client.deleteCarrier(ctx, key, x.carrier.UID())
}

// underWay returns the exchange of a carrier; nil if there is none.
func (e *Engine) underWay(ctx context.Context, key reloader.Workload) (*exchange, error) {
	o, err := e.client.carrier(ctx, key)
	if apierrors.IsNotFound(err) {
		known, ok := e.carriers.of(key)
		if !ok {
			return nil, nil
		}
		c, err := known.Unpacked()
		return &exchange{key, c, true}, err
	}
	if err != nil {
		return nil, err
	}
	c, err := kind.OpenCarrier(e.carriers.key, o)
	if err != nil {
		e.refuse(key, o.UID, err, "delete it; should it hold a Job that is missed, that is in .data.job")
		return nil, nil
	}
	lost := o.DeletionTimestamp != nil
	if known, ok := e.carriers.of(key); lost && ok && known.UID() == c.UID() {
		// Nothing is written on one that is going: what is in memory is newer.
		if c, err = known.Unpacked(); err != nil {
			return nil, err
		}
	}
	e.carriers.hold(c)
	return &exchange{key, c, lost}, nil
}

// namespaceGoes reports whether nothing can be created any more because the
// namespace is being deleted, or has been.
func namespaceGoes(err error) bool {
	var status apierrors.APIStatus
	if isGone(err) && errors.As(err, &status) {
		details := status.Status().Details
		return details != nil && details.Kind == "namespaces"
	}
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// isGone reports whether the API server answered a write that the object is not
// there. An admission webhook that refuses may choose the same code.
func isGone(err error) bool { return apierrors.IsNotFound(err) && !denied(err) }

// notExchanged tells of a step that has failed, and sorts it.
func (e *Engine) notExchanged(c kind.Carrier, err error) error {
	outcome := reloader.OutcomeRetry
	if denied(err) || apierrors.IsForbidden(err) {
		outcome, err = reloader.OutcomeStalled, stalledError{err}
	}
	e.reporter.Failed(exchanged(c), outcome, err)
	return err
}

// exchanged is what is reported of an exchange.
func exchanged(c kind.Carrier) report.Reload {
	jobs := kind.Jobs()
	return report.Reload{
		Workload:   c.Workload(),
		UID:        c.Replaces(),
		APIVersion: jobs.Resource.GroupVersion().String(),
		Sources:    c.Sources(),
	}
}

// exchange takes the steps of a carrier up to the last, which is its own
// deletion. A wait means that it has to be called again.
func (e *Engine) exchange(ctx context.Context, x *exchange) (wait time.Duration, err error) {
	w := x.carrier.Workload()
	if x.lost {
		// The garbage collector may have deleted it.
		if goes, err := e.anyOwnerGoes(ctx, x); err != nil || goes {
			return 0, err
		}
	}
	jobs := kind.Jobs()
	old, err := e.client.workload(ctx, jobs, w)
	switch {
	case apierrors.IsNotFound(err):
		if !x.carrier.Ends() {
			e.leftAlone(w, "somebody else has deleted it")
			return 0, nil
		}
		return e.putInPlace(ctx, x)
	case err != nil:
		return 0, err
	case old.Meta.UID != x.carrier.Replaces():
		// Ours from before a crash, or somebody else's.
		return 0, nil
	case old.Meta.DeletionTimestamp != nil:
		return e.awaitEnd(ctx, x, old)
	case kind.Finished(old) && !e.rerunFinished:
		e.leftAlone(w, "it has ended meanwhile")
		return 0, nil
	}
	if x.lost && !x.carrier.Ends() {
		// The old Job is not deleted while the new one is in memory only.
		e.carriers.drop(x.key)
		if _, err := e.saveCarrier(ctx, x.carrier.Created("")); err != nil {
			return 0, err
		}
		return firstEndPoll, nil
	}
	if !x.carrier.Ends() {
		if err := e.announce(ctx, x, kind.Ending); err != nil {
			return 0, err
		}
	}
	// In the foreground: the Job is there until its pods have gone, and those
	// until the controller of Jobs has seen each and taken its finalizer off.
	err = e.client.deleteJob(ctx, w, metav1.DeletePropagationForeground,
		metav1.Preconditions{UID: &old.Meta.UID, ResourceVersion: &old.Meta.ResourceVersion})
	if isGone(err) {
		// If it can still be read, something else between us and it has answered.
		_, read := e.client.workload(ctx, jobs, w)
		if apierrors.IsNotFound(read) {
			e.leftAlone(w, "somebody else has deleted it")
			return 0, nil
		}
	}
	if err != nil {
		return 0, err
	}
	return firstEndPoll, nil
}

// awaitEnd waits for a Job that is being deleted.
func (e *Engine) awaitEnd(ctx context.Context, x *exchange, old *kind.Manifest) (wait time.Duration, err error) {
	if x.carrier.Step() == kind.Taken {
		if err := e.announce(ctx, x, kind.Ending); err != nil {
			return 0, err
		}
	}
	if !x.carrier.Ends() {
		e.leftAlone(x.carrier.Workload(), "somebody else is deleting it")
		return 0, nil
	}
	return e.nextLook(old.Meta.DeletionTimestamp.Time, firstEndPoll), nil
}

// anyOwnerGoes reports whether an owner of the Jobs of an exchange is going, or
// gone.
func (e *Engine) anyOwnerGoes(ctx context.Context, x *exchange) (bool, error) {
	w := x.carrier.Workload()
	owners := x.carrier.Replacement().OwnerReferences
	for i := range owners {
		if goes, err := e.ownerGoes(ctx, w, &owners[i]); err != nil || goes {
			if goes {
				e.leftAlone(w, "its owner is being deleted")
			}
			return goes, err
		}
	}
	return false, nil
}

// announce writes on the carrier how far the exchange is.
func (e *Engine) announce(ctx context.Context, x *exchange, step kind.Step) error {
	next := x.carrier.At(step, e.clock.Now())
	if !x.lost {
		p, err := next.Announce(e.carriers.key)
		if err != nil {
			return err
		}
		err = e.client.announce(ctx, x.key, p)
		if isGone(err) {
			return errCarrierGone
		}
		if err != nil {
			return err
		}
	}
	x.carrier = next
	e.carriers.hold(next)
	return nil
}

// putInPlace creates what the carrier holds, once the old Job is not only gone
// but forgotten.
func (e *Engine) putInPlace(ctx context.Context, x *exchange) (wait time.Duration, err error) {
	if x.carrier.Step() != kind.Gone {
		if err := e.announce(ctx, x, kind.Gone); err != nil {
			return 0, err
		}
		return forgetting, nil
	}
	// Every event of the carrier brings it here, so that it may be early. If it
	// is not even now by the clock of an engine before this one, that has taken
	// time.
	since := e.clock.Since(x.carrier.GoneAt())
	if since >= 0 && since < forgetting {
		return forgetting - since, nil
	}
	started := e.clock.Now()
	created, err := e.client.createJob(ctx, x.carrier.Replacement())
	switch {
	case apierrors.IsAlreadyExists(err):
		// Ours from an answer that was lost, or somebody else was faster.
		return 0, nil
	case freedByTheOldOne(err) && since.Abs() < freeing:
		return firstEndPoll, nil
	case err != nil:
		return 0, err
	}
	r := exchanged(x.carrier)
	r.UID, r.Latency = created.UID, e.clock.Since(started)
	e.limits.reloaded(r.Workload)
	e.reporter.Reloaded(r)
	e.log.Info("reloaded", "workload", r.Workload.String())
	return 0, nil
}

func (e *Engine) leftAlone(w reloader.Workload, why string) {
	e.log.V(1).Info("left alone", "workload", w.String(), "why", why)
}
