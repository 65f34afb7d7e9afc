package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader"
)

// deploymentConfigSpec is what matters of a DeploymentConfig's spec.
type deploymentConfigSpec struct {
	Template corev1.PodTemplateSpec `json:"template"`
	Replicas int32                  `json:"replicas"`
	Paused   bool                   `json:"paused"`
}

// deploymentConfigStatus is what matters of its status.
type deploymentConfigStatus struct {
	ObservedGeneration int64 `json:"observedGeneration"`
	Replicas           int32 `json:"replicas"`
	UpdatedReplicas    int32 `json:"updatedReplicas"`
	AvailableReplicas  int32 `json:"availableReplicas"`
}

func deploymentConfig() Kind {
	resource := schema.GroupVersionResource{Group: "apps.openshift.io", Version: "v1", Resource: "deploymentconfigs"}
	return customKind(reloader.DeploymentConfig, resource, func(m *Manifest, spec *deploymentConfigSpec, status *deploymentConfigStatus) {
		m.Template = &spec.Template
		m.Rolling = !spec.Paused && (status.ObservedGeneration < m.Meta.Generation ||
			status.UpdatedReplicas < spec.Replicas ||
			status.Replicas > status.UpdatedReplicas ||
			status.AvailableReplicas < status.UpdatedReplicas)
	})
}
