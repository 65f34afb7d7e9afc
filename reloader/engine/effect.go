package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
)

// effect is what carrying out a change has come to.
type effect struct {
	// done is true if pods start anew. If it is false, why says so.
	done bool
	why  string
	// wait is how long to wait before the change can be carried out; 0 is that
	// nothing is left to do.
	wait time.Duration
	// written are the workload's metadata after our write; nil if there was
	// none.
	written *metav1.PartialObjectMetadata
	// marks are what was written, in the words of managedFields, as far as the
	// API server keeps account of it.
	marks []string
}

// errAnother means that the workload is not the one that the change is meant
// for.
var errAnother = errors.New("another one has taken its name")

// writeAttempts is how often a workload that is read before it is written is
// read: its controller writes to it, too, and that is no failure.
const writeAttempts = 3

// carryOut makes the change, in the way that is right for the kind.
func (e *Engine) carryOut(ctx context.Context, k kind.Kind, w reloader.Workload, c kind.Change) (came effect, err error) {
	for range writeAttempts {
		came, err = e.attempt(ctx, k, w, c)
		if tooLarge(err) && !c.Compact {
			// Others have filled it: the reload is what matters.
			c.Compact = true
			came, err = e.attempt(ctx, k, w, c)
		}
		if !k.Reads(c) || !apierrors.IsConflict(err) || denied(err) {
			break
		}
	}
	return came, err
}

// attempt makes the change once.
func (e *Engine) attempt(ctx context.Context, k kind.Kind, w reloader.Workload, c kind.Change) (effect, error) {
	var m *kind.Manifest
	if k.Way != kind.ByPatch || k.Reads(c) {
		var err error
		if m, err = e.client.workload(ctx, k, w); err != nil {
			return effect{}, err
		}
		if m.Meta.UID != c.UID {
			return effect{}, fmt.Errorf("reload %s: %w", w, errAnother)
		}
		c = fitted(c, m)
	}
	switch k.Way {
	case kind.ByRun:
		return e.run(ctx, k, m, c)
	case kind.ByReplacement:
		return e.replace(ctx, m, c)
	case kind.ByPatch:
	}
	if m != nil && m.Borrows && !k.Restarts(m, c.Keys) {
		return e.patchLender(ctx, m, c)
	}
	return e.patch(ctx, k, w, c, m)
}

// fitted returns the change as it fits a workload that has been read.
func fitted(c kind.Change, m *kind.Manifest) kind.Change {
	c.ByPlace = record.ByPlace(&m.Template.Spec)
	return c.Within(m.Template)
}

// patch changes the workload itself.
func (e *Engine) patch(ctx context.Context, k kind.Kind, w reloader.Workload, c kind.Change, m *kind.Manifest) (effect, error) {
	patch, err := k.Patch(c, m)
	if err != nil {
		return effect{}, fmt.Errorf("reload %s: %w", w, err)
	}
	if len(patch.Body) == 0 {
		return effect{why: "it has this content already"}, nil
	}
	written, err := e.client.patch(ctx, k, w, patch.Type, patch.Body)
	if err != nil {
		return effect{}, err
	}
	written, repeated := e.correct(ctx, k, w, c, written)
	if repeated {
		return effect{why: "it has this content already", written: written}, nil
	}
	came := effect{done: true, written: written}
	// Variables that are not merged have no owners of their own, and
	// spec.restartAt is over once it has been seen.
	if !patch.Restarts && patch.Type != types.JSONPatchType && (k.Merges() || c.Place() == kind.Annotations) {
		came.marks = marked(c)
	}
	return came, nil
}

// patchLender changes the template that m borrows, where it is.
func (e *Engine) patchLender(ctx context.Context, m *kind.Manifest, c kind.Change) (effect, error) {
	k, ok := e.known.ByName(m.Lender.Kind)
	if !ok {
		return effect{why: "its workloadRef names no Deployment"}, nil
	}
	lender, err := e.client.workload(ctx, k, m.Lender)
	switch {
	case apierrors.IsNotFound(err):
		return effect{why: "the Deployment that its workloadRef names is not there"}, nil
	case err != nil:
		return effect{}, err
	}
	c = fitted(c, lender)
	c.UID, c.Record = lender.Meta.UID, ""
	came, err := e.patch(ctx, k, m.Lender, c, lender)
	came.written, came.marks = nil, nil
	return came, err
}

// firstRunPoll is the time between the first two looks whether a CronJob's Job
// has ended.
const firstRunPoll = 3 * time.Second

// run starts a Job of the CronJob m.
func (e *Engine) run(ctx context.Context, k kind.Kind, m *kind.Manifest, c kind.Change) (effect, error) {
	run, err := kind.RunOf(m, c)
	if err != nil {
		return effect{}, fmt.Errorf("reload %s: %w", m.Workload(), err)
	}
	if run.Job == nil {
		return effect{why: "nothing to start: it has been, or is suspended, or is being deleted"}, nil
	}
	if before, err := e.startedInVersion1(ctx, m, c); err != nil || before {
		if err != nil {
			return effect{}, err
		}
		return e.remember(ctx, k, m, c)
	}
	wait, err := e.makeWay(ctx, m, run)
	if err != nil || wait > 0 {
		return effect{wait: wait}, err
	}
	_, err = e.client.createJob(ctx, run.Job)
	if apierrors.IsAlreadyExists(err) {
		err = e.startedBefore(ctx, run.Job)
	}
	if err != nil {
		return effect{}, err
	}
	return e.remember(ctx, k, m, c)
}

// remember tells on the CronJob m what has been started, so that it is not once
// more when the Job is long gone.
func (e *Engine) remember(ctx context.Context, k kind.Kind, m *kind.Manifest, c kind.Change) (effect, error) {
	patch, err := c.Remembers(m)
	if err != nil {
		return effect{}, fmt.Errorf("reload %s: %w", m.Workload(), err)
	}
	written, err := e.client.patch(ctx, k, m.Workload(), patch.Type, patch.Body)
	if tooLarge(err) && !c.Compact {
		c.Compact = true
		return e.remember(ctx, k, m, c)
	}
	if denied(err) || apierrors.IsForbidden(err) || tooLarge(err) {
		// The Job runs all the same. To come back would be to start another
		// one as soon as this one has been cleaned up.
		e.log.Error(err, "cannot tell on the CronJob what has been started; a restart of the engine may start it again")
		return effect{done: true}, nil
	}
	if err != nil {
		return effect{}, err
	}
	written, _ = e.correct(ctx, k, m.Workload(), c, written)
	return effect{done: true, written: written}, nil
}

// makeWay makes way for a run as the CronJob's concurrency policy wants it. If
// the run has to wait, it returns for how long.
func (e *Engine) makeWay(ctx context.Context, m *kind.Manifest, run kind.Run) (wait time.Duration, err error) {
	switch {
	case run.Concurrency != batchv1.ForbidConcurrent && run.Concurrency != batchv1.ReplaceConcurrent:
		return 0, nil
	case run.Concurrency == batchv1.ForbidConcurrent && !run.Since.IsZero():
		return e.nextLook(run.Since, firstRunPoll), nil
	}
	most := mostEnds
	if run.Concurrency == batchv1.ForbidConcurrent {
		most = 1
	}
	running, err := e.running(ctx, m, run, most)
	if err != nil {
		return 0, err
	}
	for _, job := range running {
		if run.Concurrency == batchv1.ForbidConcurrent {
			return e.nextLook(job.created, firstRunPoll), nil
		}
		err = e.client.deleteJob(ctx, job.workload, metav1.DeletePropagationBackground, metav1.Preconditions{UID: &job.uid})
		if err != nil && (denied(err) || !apierrors.IsNotFound(err) && !apierrors.IsConflict(err)) {
			return 0, err
		}
	}
	if len(running) == most {
		return nextEnds, nil
	}
	return 0, nil
}

// nextLook returns the time until the next look at something that goes on since
// then: the longer it has, the longer, up to lastPoll.
func (e *Engine) nextLook(since time.Time, first time.Duration) time.Duration {
	return min(max(e.clock.Since(since)/4, first), lastPoll)
}

// lastPoll bounds the time between two looks at something that may take hours.
const lastPoll = 30 * time.Second

// startedBefore makes sure that the Job of that name is the one that the same
// change has started.
func (e *Engine) startedBefore(ctx context.Context, wanted *batchv1.Job) error {
	jobs := kind.Jobs()
	w := reloader.Workload{Kind: jobs.Name, Namespace: wanted.Namespace, Name: wanted.Name}
	m, err := e.client.workload(ctx, jobs, w)
	if err != nil {
		return err
	}
	if owner := metav1.GetControllerOf(m.Meta); owner == nil || owner.UID != wanted.OwnerReferences[0].UID {
		return fmt.Errorf("start %s: %w", w, errAnother)
	}
	return nil
}

// writtenAt returns when the present content of s came to be, as far as its
// metadata tell; zero if they do not.
func (l *ledger) writtenAt(s reloader.Source) moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil {
		return a.written
	}
	return moment{}
}
