package kind

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
)

func statefulSet() Kind {
	return Kind{
		Name:             reloader.StatefulSet,
		Resource:         appsv1.SchemeGroupVersion.WithResource("statefulsets"),
		annotationsCount: false,
		StartsPods:       true,
		Records:          appsv1.SchemeGroupVersion.WithResource("controllerrevisions"),
		newObject:        func() runtime.Object { return new(appsv1.StatefulSet) },
		manifest: func(object runtime.Object) *Manifest {
			o := object.(*appsv1.StatefulSet)
			return &Manifest{
				Kind:         reloader.StatefulSet,
				Meta:         &o.ObjectMeta,
				Template:     &o.Spec.Template,
				TemplatePath: templatePath,
				OnDelete:     o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType,
				Progress:     statefulSetProgress(o),
				object:       o,
			}
		},
	}
}

// The revisions in the status tell nothing here: below a partition pods keep the
// current one, which then never becomes the update revision.
func statefulSetProgress(o *appsv1.StatefulSet) Progress {
	s, all := o.Status, ptr.Deref(o.Spec.Replicas, 1)
	wanted := all
	if r := o.Spec.UpdateStrategy.RollingUpdate; r != nil {
		wanted -= ptr.Deref(r.Partition, 0)
	}
	switch {
	case o.DeletionTimestamp != nil, wanted <= 0, o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
		return Idle
	case s.ObservedGeneration < o.Generation:
		return Rolling
	}
	// Which pods are available the status does not tell. With all of them those
	// from the partition on are.
	return replicas{wanted: wanted, updated: s.UpdatedReplicas, all: all, available: s.AvailableReplicas}.progress()
}
