package kind

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
)

func deployment() Kind {
	return Kind{
		Name:             reloader.Deployment,
		Resource:         appsv1.SchemeGroupVersion.WithResource("deployments"),
		annotationsCount: true,
		Pausable:         true,
		StartsPods:       true,
		Records:          appsv1.SchemeGroupVersion.WithResource("replicasets"),
		newObject:        func() runtime.Object { return new(appsv1.Deployment) },
		manifest: func(object runtime.Object) *Manifest {
			o := object.(*appsv1.Deployment)
			return &Manifest{
				Kind:         reloader.Deployment,
				Meta:         &o.ObjectMeta,
				Template:     &o.Spec.Template,
				TemplatePath: templatePath,
				Progress:     deploymentProgress(o),
				object:       o,
			}
		},
	}
}

func deploymentProgress(o *appsv1.Deployment) Progress {
	s, wanted := o.Status, ptr.Deref(o.Spec.Replicas, 1)
	switch {
	case o.DeletionTimestamp != nil, o.Spec.Paused, wanted == 0:
		return Idle
	case s.ObservedGeneration < o.Generation:
		// The conditions are those of an older generation.
		return Rolling
	}
	for _, c := range s.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse {
			return Stalled
		}
	}
	return replicas{
		wanted: wanted, updated: s.UpdatedReplicas,
		all: s.UpdatedReplicas, available: s.AvailableReplicas,
		surplus: s.Replicas > s.UpdatedReplicas,
	}.progress()
}
