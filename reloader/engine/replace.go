package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
	"k8s-reloader/reloader/report"
)

// A Job is replaced in steps, each of which can be the last of a process:
//
//  1. A carrier is created, which holds the new Job. If that is refused,
//     nothing has happened. From here on, the change is in the cluster and
//     not due to the Job any more.
//  2. The carrier announces that the old Job ends.
//  3. The old Job is deleted, if it is still what was read. It is there until
//     its pods have ended, however long they take: those of the two never run
//     side by side.
//  4. The carrier announces that it is gone.
//  5. When the controller of Jobs has forgotten it, the new Job is created.
//  6. The carrier is deleted.
//
// The feed of Jobs brings carriers to their queue, also those that another
// engine has left behind.

// replace begins to replace the Job m.
func (e *Engine) replace(ctx context.Context, m *kind.Manifest, c kind.Change) (effect, error) {
	c.Record = recordOfNew(c.Record)
	replacement, err := kind.Replacement(m, c)
	switch {
	case err != nil:
		return effect{}, fmt.Errorf("reload %s: %w", m.Workload(), err)
	case replacement == nil:
		return effect{why: "it has this content, or its pods have yet to start, or it is being deleted"}, nil
	case kind.Finished(m) && !e.rerunFinished:
		return effect{why: "it has ended"}, nil
	}
	collected, err := e.ownerGoes(ctx, m)
	if err != nil {
		return effect{}, err
	}
	if collected {
		return effect{why: "its owner is being deleted"}, nil
	}
	carrier, err := kind.NewCarrier(m, c, replacement)
	if err != nil {
		return effect{}, fmt.Errorf("reload %s: %w", m.Workload(), err)
	}
	// One that is there was left behind by an attempt that did not get far:
	// the new Job starts with the newest content, whichever carrier it is from.
	if _, err := e.client.createJob(ctx, carrier); err != nil && !apierrors.IsAlreadyExists(err) {
		return effect{}, err
	}
	e.queues.carriers.Add(reloader.Workload{Kind: reloader.Job, Namespace: carrier.Namespace, Name: carrier.Name})
	return effect{why: "its replacement is on the way"}, nil
}

// recordOfNew returns the record of an object that is about to be created, made
// from that of the one whose place it takes.
func recordOfNew(text string) string {
	if text == "" {
		return ""
	}
	rec, err := record.Decode(text)
	if err != nil {
		return ""
	}
	rec.UID, rec.Generation = "", 1
	// What could be decoded can be encoded.
	text, _ = rec.Encode()
	return text
}

// ownerGoes reports whether the workload that controls m is being deleted, or
// is gone: m is not to be started once more then. Owners of kinds that are not
// known here cannot be asked; the new Job is collected with them.
func (e *Engine) ownerGoes(ctx context.Context, m *kind.Manifest) (bool, error) {
	owner := metav1.GetControllerOf(m.Meta)
	if owner == nil {
		return false, nil
	}
	group, _, _ := strings.Cut(owner.APIVersion, "/")
	k, ok := kind.ByGroupKind(group, owner.Kind)
	if !ok {
		return false, nil
	}
	meta, err := e.client.metadataOfOne(ctx, k.Resource, m.Meta.Namespace, owner.Name)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("look for the owner of %s: %w", m.Workload(), err)
	}
	return meta.UID != owner.UID || meta.DeletionTimestamp != nil, nil
}

// carries reports whether what an event tells of is a carrier, which is no
// workload.
func (e *Engine) carries(w reloader.Workload, meta metav1.Object) bool {
	if w.Kind != reloader.Job || !kind.IsCarrier(meta) {
		return false
	}
	e.queues.carriers.Add(w)
	return true
}

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
)

// carry handles one key of the queue of carriers: it takes the steps that are
// left.
func (e *Engine) carry(ctx context.Context, key reloader.Workload) error {
	ctx, cancel, err := e.whileLeading(ctx, key)
	if err != nil {
		return err
	}
	defer cancel()
	jobs, _ := kind.ByName(reloader.Job)
	m, err := e.client.workload(ctx, jobs, key)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	}
	carrier, ok := kind.CarrierOf(m)
	if !ok || m.Meta.DeletionTimestamp != nil {
		// Who made it something else, or wants it gone, takes care of it.
		return nil
	}
	wait, err := e.exchange(ctx, jobs, key, carrier)
	switch {
	case wait > 0:
		e.queues.carriers.AddAfter(key, wait)
		return nil
	case apierrors.IsConflict(err):
		// The old Job has gone on meanwhile, and is looked at again.
		e.queues.carriers.AddAfter(key, firstEndPoll)
		return nil
	case err != nil && stopped(ctx):
		return err
	case err != nil:
		return e.notExchanged(carrier, err)
	}
	err = e.client.deleteJob(ctx, key, metav1.DeletePropagationBackground, metav1.Preconditions{UID: &m.Meta.UID})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// notExchanged tells of a step that has failed, and sorts it.
func (e *Engine) notExchanged(c kind.Carrier, err error) error {
	outcome := reloader.OutcomeRetry
	if denied(err) || apierrors.IsForbidden(err) {
		outcome, err = reloader.OutcomeStalled, stalledError{err}
	}
	e.reporter.Failed(e.exchangeOf(c), outcome, err)
	return err
}

func (e *Engine) exchangeOf(c kind.Carrier) report.Reload {
	jobs, _ := kind.ByName(reloader.Job)
	return report.Reload{
		Workload:   c.Workload(),
		UID:        c.Replaces(),
		APIVersion: jobs.Resource.GroupVersion().String(),
		Sources:    c.Sources(),
	}
}

// exchange takes the steps of a carrier up to the last, which is its own
// deletion. A wait means that it has to be called again.
func (e *Engine) exchange(ctx context.Context, jobs kind.Kind, key reloader.Workload, c kind.Carrier) (wait time.Duration, err error) {
	w := c.Workload()
	old, err := e.client.workload(ctx, jobs, w)
	switch {
	case apierrors.IsNotFound(err):
		if !c.Ending() {
			e.leftAlone(w, "somebody else has deleted it")
			return 0, nil
		}
		return e.putInPlace(ctx, jobs, key, c)
	case err != nil:
		return 0, err
	case old.Meta.UID != c.Replaces():
		// Ours from before a crash, or somebody else's.
		return 0, nil
	case old.Meta.DeletionTimestamp != nil && !c.Ending():
		e.leftAlone(w, "somebody else is deleting it")
		return 0, nil
	case old.Meta.DeletionTimestamp != nil:
		return e.nextLook(old.Meta.DeletionTimestamp.Time, firstEndPoll), nil
	case kind.Finished(old) && !e.rerunFinished:
		e.leftAlone(w, "it has ended meanwhile")
		return 0, nil
	}
	if !c.Ending() {
		if err := e.announce(ctx, jobs, key, c.AnnounceEnd); err != nil {
			return 0, err
		}
	}
	// In the foreground: the Job is there until its pods have gone, and those
	// until the controller of Jobs has seen each and taken its finalizer off.
	err = e.client.deleteJob(ctx, w, metav1.DeletePropagationForeground,
		metav1.Preconditions{UID: &old.Meta.UID, ResourceVersion: &old.Meta.ResourceVersion})
	if apierrors.IsNotFound(err) {
		e.leftAlone(w, "somebody else has deleted it")
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return firstEndPoll, nil
}

// announce writes on a carrier how far it is.
func (e *Engine) announce(ctx context.Context, jobs kind.Kind, key reloader.Workload, what func() (kind.Patch, error)) error {
	p, err := what()
	if err != nil {
		return err
	}
	_, err = e.client.patch(ctx, jobs, key, p.Type, p.Body)
	return err
}

// putInPlace creates what the carrier holds, once the old Job is not only gone
// but forgotten.
func (e *Engine) putInPlace(ctx context.Context, jobs kind.Kind, key reloader.Workload, c kind.Carrier) (wait time.Duration, err error) {
	if c.Gone().IsZero() {
		seen := func() (kind.Patch, error) { return c.AnnounceGone(e.clock.Now()) }
		if err := e.announce(ctx, jobs, key, seen); err != nil {
			return 0, err
		}
		return forgetting, nil
	}
	// Every event of the carrier brings it here, so that it may be early. If it
	// is not even now by the clock of an engine before this one, that has taken
	// time.
	if since := e.clock.Since(c.Gone()); since >= 0 && since < forgetting {
		return forgetting - since, nil
	}
	return 0, e.create(ctx, c)
}

// create creates what the carrier holds.
func (e *Engine) create(ctx context.Context, c kind.Carrier) error {
	started := e.clock.Now()
	created, err := e.client.createJob(ctx, c.Replacement())
	if apierrors.IsAlreadyExists(err) {
		// Ours from an answer that was lost, or somebody else was faster.
		return nil
	}
	if err != nil {
		return err
	}
	r := e.exchangeOf(c)
	r.UID, r.Latency = created.UID, e.clock.Since(started)
	e.limits.reloaded(r.Workload)
	e.reporter.Reloaded(r)
	e.log.Info("reloaded", "workload", r.Workload.String())
	return nil
}

func (e *Engine) leftAlone(w reloader.Workload, why string) {
	e.log.V(1).Info("left alone", "workload", w.String(), "why", why)
}
