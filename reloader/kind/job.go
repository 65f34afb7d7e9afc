package kind

import (
	"fmt"
	"maps"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
)

func job() Kind {
	return Kind{
		Name:       reloader.Job,
		Resource:   batchv1.SchemeGroupVersion.WithResource("jobs"),
		Way:        ByReplacement,
		StartsPods: true,
		newObject:  func() runtime.Object { return new(batchv1.Job) },
		manifest: func(object runtime.Object) *Manifest {
			o := object.(*batchv1.Job)
			return &Manifest{
				Kind:         reloader.Job,
				Meta:         &o.ObjectMeta,
				Template:     ownTemplate(o),
				TemplatePath: templatePath,
				Progress:     Idle,
				object:       o,
			}
		},
	}
}

// ownTemplate returns the pod template without the labels that the API server
// adds after admission: with them, no Job would have the template that it was
// made from.
func ownTemplate(o *batchv1.Job) *corev1.PodTemplateSpec {
	if ptr.Deref(o.Spec.ManualSelector, false) || !hasGeneratedLabels(o.Spec.Template.Labels) {
		return &o.Spec.Template
	}
	template := o.Spec.Template
	template.Labels = maps.Clone(template.Labels)
	for _, label := range generatedLabels() {
		delete(template.Labels, label)
	}
	if len(template.Labels) == 0 {
		template.Labels = nil
	}
	return &template
}

func hasGeneratedLabels(labels map[string]string) bool {
	for _, label := range generatedLabels() {
		if _, ok := labels[label]; ok {
			return true
		}
	}
	return false
}

// generatedLabels are those that tie pods to one Job; see generateSelector in
// k8s.io/kubernetes/pkg/registry/batch/job.
func generatedLabels() []string {
	const legacyJobName, legacyControllerUID = "job-name", "controller-uid"
	return []string{legacyJobName, legacyControllerUID, batchv1.JobNameLabel, batchv1.ControllerUidLabel}
}

func finished(o *batchv1.Job) bool {
	for _, c := range o.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// Finished reports whether the Job m has ended, with success or without.
func Finished(m *Manifest) bool {
	o, ok := m.object.(*batchv1.Job)
	return ok && finished(o)
}

// Replacement returns the Job that takes the place of the Job m: of the same
// name and spec, with the marks; nil if m has them, is being deleted, or is
// suspended, so that its pods have yet to start.
func Replacement(m *Manifest, c Change) (*batchv1.Job, error) {
	o, ok := m.object.(*batchv1.Job)
	if !ok {
		return nil, fmt.Errorf("replace a %s: only a Job can be", m.Kind)
	}
	if c.MarkedIn(m.Template) || o.DeletionTimestamp != nil || ptr.Deref(o.Spec.Suspend, false) {
		return nil, nil
	}
	replacement := anew(o, o.Name)
	for i := range replacement.OwnerReferences {
		// To set it needs a right on the owner's finalizers where the API
		// server enforces that.
		replacement.OwnerReferences[i].BlockOwnerDeletion = nil
	}
	delete(replacement.Annotations, c.Keys.Index)
	if c.Record != "" {
		replacement.Annotations[c.Keys.Index] = c.Record
	}
	return replacement, c.markTemplate(&replacement.Spec.Template)
}

// anew returns a copy of a Job, under a name, without what the API server and
// controllers have set.
func anew(o *batchv1.Job, name string) *batchv1.Job {
	o = o.DeepCopy()
	spec := o.Spec
	spec.Template = *ownTemplate(o)
	if !ptr.Deref(spec.ManualSelector, false) {
		spec.Selector = nil
	}
	if o.Annotations == nil {
		o.Annotations = make(map[string]string, 1)
	}
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: string(reloader.Job)},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       o.Namespace,
			Name:            name,
			Labels:          o.Labels,
			Annotations:     o.Annotations,
			OwnerReferences: o.OwnerReferences,
		},
		Spec: spec,
	}
}
