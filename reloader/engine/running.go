package engine

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine/internal/answer"
	"k8s-reloader/reloader/kind"
)

// The Jobs that a CronJob has started are few, since its history is limited. But
// any user who may create Jobs in its namespace can make it the owner of theirs.

const (
	// manyJobs of a CronJob make it cheaper to list all of its namespace, in pages,
	// than to read them one by one.
	manyJobs = 32
	// mostEnds is how many Jobs one attempt to make way ends; the next one does the
	// same, after nextEnds.
	mostEnds = 100
	nextEnds = time.Second
)

// runningJob is a Job that runs.
type runningJob struct {
	workload reloader.Workload
	uid      types.UID
	created  time.Time
}

// running returns Jobs that run for the CronJob m: those that its schedule has
// started, which its status lists, and all others. The Job of the run itself does not
// count. It stops reading when it has found most of them.
func (e *Engine) running(ctx context.Context, m *kind.Manifest, run kind.Run, most int) (running []runningJob, err error) {
	owned, err := e.jobsOf(ctx, m)
	if err != nil {
		return nil, err
	}
	enough := func(job *kind.Manifest) bool {
		if kind.RunsFor(job) == string(m.Meta.UID) && job.Meta.Name != run.Job.Name {
			running = append(running, runningJob{job.Workload(), job.Meta.UID, job.Meta.CreationTimestamp.Time})
		}
		return len(running) >= most
	}
	if len(owned) > manyJobs {
		err = e.client.someWorkloads(ctx, kind.Jobs(), area{namespace: m.Meta.Namespace}, enough)
		if !errors.Is(err, answer.ErrTooLong) {
			return running, err
		}
		running = nil
	}
	for _, w := range owned {
		job, err := e.client.workload(ctx, kind.Jobs(), w)
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return nil, err
		}
		if enough(job) {
			break
		}
	}
	return running, nil
}

// jobsOf returns the Jobs that the CronJob m controls and that may run, by their
// metadata.
func (e *Engine) jobsOf(ctx context.Context, m *kind.Manifest) (owned []reloader.Workload, err error) {
	jobs := kind.Jobs()
	_, err = e.client.metadataOf(ctx, jobs.Resource, area{namespace: m.Meta.Namespace}, "", func(job *metav1.PartialObjectMetadata) {
		owner := metav1.GetControllerOf(job)
		if owner != nil && owner.UID == m.Meta.UID && owner.Kind == string(m.Kind) && job.DeletionTimestamp == nil {
			owned = append(owned, reloader.Workload{Kind: jobs.Name, Namespace: job.Namespace, Name: job.Name})
		}
	})
	return owned, err
}
