package kind

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
)

// deploymentConfigName is the annotation by which a pod names its
// DeploymentConfig.
const deploymentConfigName = "openshift.io/deployment-config.name"

// OwnerOf returns the workload that a pod belongs to, and a name of the template
// that the pod was made from. Both are empty for pods of other kinds.
func OwnerOf(pod *metav1.PartialObjectMetadata) (w reloader.Workload, template string) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return reloader.Workload{}, ""
	}
	w = reloader.Workload{Namespace: pod.Namespace, Name: owner.Name}
	switch owner.Kind {
	case "ReplicaSet":
		w.Kind, template = reloader.Deployment, pod.Labels["pod-template-hash"]
		if hash, ok := pod.Labels["rollouts-pod-template-hash"]; ok {
			w.Kind, template = reloader.Rollout, hash
		}
		name, made := strings.CutSuffix(owner.Name, "-"+template)
		if !made || template == "" {
			return reloader.Workload{}, ""
		}
		w.Name = name
		return w, template
	case "StatefulSet":
		w.Kind = reloader.StatefulSet
	case "DaemonSet":
		w.Kind = reloader.DaemonSet
	case "ReplicationController":
		w.Kind, w.Name = reloader.DeploymentConfig, pod.Annotations[deploymentConfigName]
		return w, owner.Name
	default:
		return reloader.Workload{}, ""
	}
	return w, pod.Labels["controller-revision-hash"]
}
