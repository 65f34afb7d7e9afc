package kind

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"k8s-reloader/reloader"
)

func daemonSet() Kind {
	return Kind{
		Name:             reloader.DaemonSet,
		Resource:         appsv1.SchemeGroupVersion.WithResource("daemonsets"),
		annotationsCount: false,
		StartsPods:       true,
		Records:          appsv1.SchemeGroupVersion.WithResource("controllerrevisions"),
		newObject:        func() runtime.Object { return new(appsv1.DaemonSet) },
		manifest: func(object runtime.Object) *Manifest {
			o := object.(*appsv1.DaemonSet)
			return &Manifest{
				Kind:         reloader.DaemonSet,
				Meta:         &o.ObjectMeta,
				Template:     &o.Spec.Template,
				TemplatePath: templatePath,
				OnDelete:     o.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType,
				Progress:     daemonSetProgress(o),
				object:       o,
			}
		},
	}
}

func daemonSetProgress(o *appsv1.DaemonSet) Progress {
	s := o.Status
	switch {
	case o.DeletionTimestamp != nil, o.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType:
		return Idle
	case s.ObservedGeneration < o.Generation:
		return Rolling
	case s.DesiredNumberScheduled == 0:
		return Idle
	}
	return replicas{
		wanted: s.DesiredNumberScheduled, updated: s.UpdatedNumberScheduled,
		all: s.DesiredNumberScheduled, available: s.NumberAvailable,
	}.progress()
}
