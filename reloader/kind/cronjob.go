package kind

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
)

func cronJob() Kind {
	return Kind{
		Name:      reloader.CronJob,
		Resource:  batchv1.SchemeGroupVersion.WithResource("cronjobs"),
		Way:       ByRun,
		newObject: func() runtime.Object { return new(batchv1.CronJob) },
		manifest: func(object runtime.Object) *Manifest {
			o := object.(*batchv1.CronJob)
			return &Manifest{
				Kind:         reloader.CronJob,
				Meta:         &o.ObjectMeta,
				Template:     &o.Spec.JobTemplate.Spec.Template,
				TemplatePath: "spec.jobTemplate.spec.template",
				Progress:     Idle,
				object:       o,
			}
		},
	}
}

// Run is what a change of a CronJob's sources starts.
type Run struct {
	// Job to create; nil if there is nothing to start: the CronJob is suspended
	// or being deleted, or its metadata tell that it has been started.
	Job *batchv1.Job
	// Concurrency says what becomes of Jobs that are still running.
	Concurrency batchv1.ConcurrencyPolicy
	// Since is when one of them was due, by the CronJob's status, which tells
	// only of those that its schedule has started; zero if it tells of none.
	Since time.Time
}

// RunOf returns the run that the change asks of the CronJob m. The same change
// of the same CronJob gives a Job of the same name, so that starting it twice
// is starting it once.
func RunOf(m *Manifest, c Change) (Run, error) {
	o, ok := m.object.(*batchv1.CronJob)
	if !ok {
		return Run{}, fmt.Errorf("run a %s: only a CronJob can be", m.Kind)
	}
	run := Run{Concurrency: o.Spec.ConcurrencyPolicy}
	if len(o.Status.Active) > 0 && o.Status.LastScheduleTime != nil {
		run.Since = o.Status.LastScheduleTime.Time
	}
	_, done, err := c.remember(o.Annotations[c.Keys.LastReloadedFrom])
	if err != nil || done || ptr.Deref(o.Spec.Suspend, false) || o.DeletionTimestamp != nil {
		return run, err
	}
	template := o.Spec.JobTemplate.DeepCopy()
	run.Job = &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: string(reloader.Job)},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   o.Namespace,
			Name:        jobName(o.Name, c.digest(string(o.UID)), &template.Spec),
			Labels:      template.Labels,
			Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: batchv1.SchemeGroupVersion.String(),
				Kind:       string(reloader.CronJob),
				Name:       o.Name,
				UID:        o.UID,
				Controller: new(true),
				// Without blockOwnerDeletion: to set it needs a right on the
				// owner's finalizers where the API server enforces that.
			}},
		},
		Spec: template.Spec,
	}
	if run.Job.Annotations == nil {
		run.Job.Annotations = make(map[string]string, 1)
	}
	run.Job.Annotations["cronjob.kubernetes.io/instantiate"] = "manual"
	return run, c.markTemplate(&run.Job.Spec.Template)
}

// digest tells the change of one object from other changes of it, returns to
// older content included. Like the marks that it is made from, it tells nothing
// of the content.
func (c Change) digest(uid string) string {
	hash := sha256.New()
	fmt.Fprintln(hash, uid)
	for _, m := range c.sorted() {
		fmt.Fprintln(hash, m.Source, m.Value, m.Written.UTC().Format(time.RFC3339))
	}
	return "v2-" + hex.EncodeToString(hash.Sum(nil)[:5])
}

// RunsFor returns the UID of the CronJob that the Job m was started by or for;
// empty if that is none, or the Job has ended or is being deleted.
func RunsFor(m *Manifest) string {
	o, ok := m.object.(*batchv1.Job)
	if !ok || finished(o) || o.DeletionTimestamp != nil {
		return ""
	}
	owner := metav1.GetControllerOf(o)
	if owner == nil || owner.Kind != string(reloader.CronJob) {
		return ""
	}
	return string(owner.UID)
}
