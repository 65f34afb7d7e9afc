package kind

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
)

// rolloutSpec is what matters of an Argo Rollout's spec.
type rolloutSpec struct {
	Template    corev1.PodTemplateSpec `json:"template"`
	WorkloadRef *workloadRef           `json:"workloadRef"`
	Paused      bool                   `json:"paused"`
	RestartAt   *metav1.Time           `json:"restartAt"`
}

// workloadRef names the workload whose template a Rollout uses.
type workloadRef struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
}

// rolloutStatus is what matters of its status.
type rolloutStatus struct {
	ObservedGeneration string       `json:"observedGeneration"`
	Phase              string       `json:"phase"`
	RestartedAt        *metav1.Time `json:"restartedAt"`
}

func rollout() Kind {
	resource := schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts"}
	k := customKind(reloader.Rollout, resource, func(m *Manifest, spec *rolloutSpec, status *rolloutStatus) {
		m.Template = &spec.Template
		if spec.WorkloadRef != nil {
			m.Template = new(corev1.PodTemplateSpec)
			m.Borrows = true
			m.Lender = spec.WorkloadRef.lender(m.Meta.Namespace)
		}
		m.Rolling = rolloutRolls(m.Meta.Generation, spec, status)
	})
	k.restarts = restartsRollout
	return k
}

// lender returns the workload that the reference names, if it is a Deployment:
// what a ReplicaSet or a PodTemplate names is nobody's to roll.
func (r *workloadRef) lender(namespace string) reloader.Workload {
	gv, err := schema.ParseGroupVersion(r.APIVersion)
	if err != nil || gv.Group != "apps" || r.Kind != string(reloader.Deployment) {
		return reloader.Workload{}
	}
	return reloader.Workload{Kind: reloader.Deployment, Namespace: namespace, Name: r.Name}
}

// restartsRollout reports whether a Rollout asks for its pods to be restarted,
// in place of a new template.
func restartsRollout(m *Manifest, k policy.Keys) bool {
	return m.Meta.Annotations[k.RolloutStrategy] == "restart"
}

// Restarts reports whether a reload of m leaves the pod template as it is.
func (k Kind) Restarts(m *Manifest, keys policy.Keys) bool {
	return k.restarts != nil && k.restarts(m, keys)
}

// A canary that is paused makes no progress until somebody promotes it.
func rolloutRolls(generation int64, spec *rolloutSpec, status *rolloutStatus) bool {
	switch {
	case spec.Paused:
		return false
	case spec.RestartAt != nil && (status.RestartedAt == nil || status.RestartedAt.Before(spec.RestartAt)):
		return true
	}
	return status.ObservedGeneration != strconv.FormatInt(generation, 10) || status.Phase == "Progressing"
}
