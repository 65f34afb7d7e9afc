package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
)

// A Job is replaced in steps, each of which can be the last of a process:
//
//  1. The new Job is created in a dry run: whoever refuses it has refused it
//     before anything has happened.
//  2. A carrier is created, which holds the new Job. From here on, the change is
//     in the cluster and not due to the Job any more.
//  3. The carrier announces that the old Job ends.
//  4. The old Job is deleted, if it is still what was read. It is there until
//     its pods have ended, however long they take: those of the two never run
//     side by side.
//  5. The carrier announces that it is gone.
//  6. When the controller of Jobs has forgotten it, the new Job is created.
//  7. The carrier is deleted.
//
// The first two are in this file, the others in exchange.go. The feed of carriers
// brings them to their queue, also those that another engine has left behind.

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
	collected, err := e.ownerGoes(ctx, m.Workload(), metav1.GetControllerOf(m.Meta))
	if err != nil {
		return effect{}, err
	}
	if collected {
		return effect{why: "its owner is being deleted"}, nil
	}
	carrier, err := kind.NewCarrier(e.carriers.key, m, c.Sources(), replacement, kind.Held)
	if errors.Is(err, kind.ErrTooLarge) {
		return effect{}, stalledError{err}
	}
	if err != nil {
		return effect{}, err
	}
	if err := e.try(ctx, replacement); err != nil {
		return effect{}, err
	}
	if _, err := e.saveCarrier(ctx, carrier); err != nil {
		return effect{}, err
	}
	return effect{why: "its replacement is on the way"}, nil
}

// try makes sure that the API server would take the replacement.
func (e *Engine) try(ctx context.Context, replacement *batchv1.Job) error {
	err := e.client.tryJob(ctx, replacement)
	if apierrors.IsAlreadyExists(err) || freedByTheOldOne(err) {
		// Both come after everybody else has had a say: what is in the way is the
		// old Job.
		return nil
	}
	return err
}

// overQuota is the API server's message about a Job that a quota of Jobs has no
// room for; see checkRequest in k8s.io/apiserver/pkg/admission/plugin/resourcequota.
var overQuota = regexp.MustCompile(`exceeded quota: [^ ,]+, requested: count/jobs\.batch=1, used: count/jobs\.batch=([^ ,]+), limited: count/jobs\.batch=([^ ,]+)$`) //nolint:gochecknoglobals // a constant

// freedByTheOldOne reports whether a quota has no room for a Job beside the one
// whose place it takes, but has in its place.
func freedByTheOldOne(err error) bool {
	if !apierrors.IsForbidden(err) || denied(err) {
		return false
	}
	found := overQuota.FindStringSubmatch(err.Error())
	if found == nil {
		return false
	}
	used, err1 := resource.ParseQuantity(found[1])
	limit, err2 := resource.ParseQuantity(found[2])
	return err1 == nil && err2 == nil && used.Cmp(limit) <= 0
}

// errCarrierGone is that somebody else has deleted a carrier.
var errCarrierGone = errors.New("its carrier was deleted by somebody else")

// saveCarrier creates a carrier, has its exchange begin, and returns it as it is. One
// that is there was left behind by an attempt that did not get far: the new Job
// starts with the newest content, whichever carrier it is from.
func (e *Engine) saveCarrier(ctx context.Context, c kind.Carrier) (kind.Carrier, error) {
	object, err := c.Object(e.carriers.key)
	if err != nil {
		return c, err
	}
	key := carrierKey(c)
	created, err := e.client.createCarrier(ctx, object)
	switch {
	case apierrors.IsAlreadyExists(err):
		there, err := e.client.carrier(ctx, key)
		if apierrors.IsNotFound(err) {
			return c, fmt.Errorf("replace %s: %w", c.Workload(), errCarrierGone)
		}
		if err != nil {
			return c, err
		}
		opened, err := kind.OpenCarrier(e.carriers.key, there)
		if err != nil {
			return c, stalledError{fmt.Errorf("replace %s: %s is in the way, delete it: %w", c.Workload(), key, err)}
		}
		c = opened
	case apierrors.IsRequestEntityTooLargeError(err):
		return c, stalledError{fmt.Errorf("replace %s: %w: %w", c.Workload(), kind.ErrTooLarge, err)}
	case err != nil:
		return c, fmt.Errorf("replace %s: %w", c.Workload(), err)
	default:
		c = c.Created(created.UID)
	}
	// Its event may have brought it to the queue before: what is known of it then
	// is newer.
	e.carriers.begin(c)
	e.queues.carriers.Add(key)
	return c, nil
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

// ownerGoes reports whether an owner of w is being deleted, or is gone: w is not to
// be started once more then. Owners of kinds that are not known here cannot be
// asked; the new Job is collected with them.
func (e *Engine) ownerGoes(ctx context.Context, w reloader.Workload, owner *metav1.OwnerReference) (bool, error) {
	if owner == nil {
		return false, nil
	}
	group, _, _ := strings.Cut(owner.APIVersion, "/")
	k, ok := e.known.ByGroupKind(group, owner.Kind)
	if !ok {
		return false, nil
	}
	meta, err := e.client.metadataOfOne(ctx, k.Resource, w.Namespace, owner.Name)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("look for the owner of %s: %w", w, err)
	}
	return meta.UID != owner.UID || meta.DeletionTimestamp != nil, nil
}
