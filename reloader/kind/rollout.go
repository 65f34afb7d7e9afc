package kind

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// rolloutSpec is what matters of an Argo Rollout's spec.
type rolloutSpec struct {
	Template    corev1.PodTemplateSpec `json:"template"`
	WorkloadRef *workloadRef           `json:"workloadRef"`
	Replicas    *int32                 `json:"replicas"`
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
	ObservedGeneration         string       `json:"observedGeneration"`
	WorkloadObservedGeneration string       `json:"workloadObservedGeneration"`
	Phase                      string       `json:"phase"`
	RestartedAt                *metav1.Time `json:"restartedAt"`
}

func rollout() Kind {
	resource := schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts"}
	k := customKind(reloader.Rollout, resource, func(m *Manifest, spec *rolloutSpec, status *rolloutStatus) {
		m.Template = &spec.Template
		if spec.WorkloadRef != nil {
			m.Template = new(corev1.PodTemplateSpec)
			m.Borrows = true
			m.Lender = spec.WorkloadRef.lender(m.Meta.Namespace)
			m.LenderObserved = status.WorkloadObservedGeneration
		}
		m.Progress = rolloutProgress(m.Meta, spec, status)
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
func restartsRollout(m *Manifest, k annotation.Keys) bool {
	return m.Meta.Annotations[k.RolloutStrategy] == "restart"
}

// Restarts reports whether a reload of m leaves the pod template as it is.
func (k Kind) Restarts(m *Manifest, keys annotation.Keys) bool {
	return k.restarts != nil && k.restarts(m, keys)
}

// Argo Rollouts' own phase says most. It is of the generation that was observed.
func rolloutProgress(meta *metav1.ObjectMeta, spec *rolloutSpec, status *rolloutStatus) Progress {
	switch {
	case meta.DeletionTimestamp != nil, spec.Paused, ptr.Deref(spec.Replicas, 1) == 0:
		return Idle
	case status.ObservedGeneration != strconv.FormatInt(meta.Generation, 10),
		spec.RestartAt != nil && (status.RestartedAt == nil || status.RestartedAt.Before(spec.RestartAt)):
		return Rolling
	}
	switch status.Phase {
	case "Healthy":
		return Healthy
	case "Paused", "Degraded":
		// A step of a canary, or the promotion of a blue-green one, waits for a
		// user or for its duration, which may be days.
		return Stalled
	}
	return Rolling
}
