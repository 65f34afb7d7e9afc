package kind

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader"
)

// deploymentConfigSpec is what matters of a DeploymentConfig's spec.
type deploymentConfigSpec struct {
	Template corev1.PodTemplateSpec `json:"template"`
	Replicas int32                  `json:"replicas"`
	Paused   bool                   `json:"paused"`
	// Triggers say what starts a rollout; nil is a change of the template.
	Triggers []struct {
		Type string `json:"type"`
	} `json:"triggers"`
}

// rollsByItself reports whether a new template is rolled out without a user.
func (s *deploymentConfigSpec) rollsByItself() bool {
	if s.Triggers == nil {
		return true
	}
	for _, t := range s.Triggers {
		if t.Type == "ConfigChange" {
			return true
		}
	}
	return false
}

// deploymentConfigStatus is what matters of its status.
type deploymentConfigStatus struct {
	ObservedGeneration int64 `json:"observedGeneration"`
	Replicas           int32 `json:"replicas"`
	UpdatedReplicas    int32 `json:"updatedReplicas"`
	AvailableReplicas  int32 `json:"availableReplicas"`
	Conditions         []struct {
		Type   string `json:"type"`
		Status string `json:"status"`
	} `json:"conditions"`
}

func deploymentConfig() Kind {
	resource := schema.GroupVersionResource{Group: "apps.openshift.io", Version: "v1", Resource: "deploymentconfigs"}
	return customKind(reloader.DeploymentConfig, resource, func(m *Manifest, spec *deploymentConfigSpec, status *deploymentConfigStatus) {
		m.Template = &spec.Template
		m.Progress = deploymentConfigProgress(m.Meta, spec, status)
	})
}

func deploymentConfigProgress(meta *metav1.ObjectMeta, spec *deploymentConfigSpec, status *deploymentConfigStatus) Progress {
	switch {
	case meta.DeletionTimestamp != nil, spec.Paused, spec.Replicas == 0, !spec.rollsByItself():
		return Idle
	case status.ObservedGeneration < meta.Generation:
		return Rolling
	}
	for _, c := range status.Conditions {
		if c.Type == "Progressing" && c.Status == "False" {
			return Stalled
		}
	}
	return replicas{
		wanted: spec.Replicas, updated: status.UpdatedReplicas,
		all: status.UpdatedReplicas, available: status.AvailableReplicas,
		surplus: status.Replicas > status.UpdatedReplicas,
	}.progress()
}
