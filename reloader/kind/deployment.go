package kind

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"k8s-reloader/reloader"
)

func deployment() Kind {
	return Kind{
		Name:             reloader.Deployment,
		Resource:         appsv1.SchemeGroupVersion.WithResource("deployments"),
		annotationsCount: true,
		newObject:        func() runtime.Object { return new(appsv1.Deployment) },
		newList:          func() runtime.Object { return new(appsv1.DeploymentList) },
		items: func(list runtime.Object, visit func(runtime.Object)) {
			items := list.(*appsv1.DeploymentList).Items
			for i := range items {
				visit(&items[i])
			}
		},
		manifest: func(object runtime.Object) *Manifest {
			o := object.(*appsv1.Deployment)
			return &Manifest{
				Kind:     reloader.Deployment,
				Meta:     &o.ObjectMeta,
				Template: &o.Spec.Template,
				spec:     &o.Spec,
			}
		},
	}
}
