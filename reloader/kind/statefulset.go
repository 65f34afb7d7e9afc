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
		newObject:        func() runtime.Object { return new(appsv1.StatefulSet) },
		newList:          func() runtime.Object { return new(appsv1.StatefulSetList) },
		items: func(list runtime.Object, visit func(runtime.Object)) {
			items := list.(*appsv1.StatefulSetList).Items
			for i := range items {
				visit(&items[i])
			}
		},
		manifest: func(object runtime.Object) *Manifest {
			o := object.(*appsv1.StatefulSet)
			return &Manifest{
				Kind:         reloader.StatefulSet,
				Meta:         &o.ObjectMeta,
				Template:     &o.Spec.Template,
				TemplatePath: templatePath,
				OnDelete:     o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType,
				Rolling:      statefulSetRolls(o),
				spec:         &o.Spec,
				object:       o,
			}
		},
	}
}

func statefulSetRolls(o *appsv1.StatefulSet) bool {
	s := o.Status
	return o.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType && (s.ObservedGeneration < o.Generation ||
		s.UpdateRevision != s.CurrentRevision ||
		s.AvailableReplicas < ptr.Deref(o.Spec.Replicas, 1))
}
