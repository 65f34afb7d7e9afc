package record

import corev1 "k8s.io/api/core/v1"

// ByPlace reports whether the variable of a mark must not be merged into a pod
// template, but has to be set by its place in the list. A strategic merge puts
// variables of the same name side by side, so that others change their values
// where they refer to them. And a name of a mark whose value comes from elsewhere
// would get a second one, which the API server refuses.
//
// Only the containers count that marks are written to.
func ByPlace(pod *corev1.PodSpec) bool {
	for i := range pod.Containers {
		env := pod.Containers[i].Env
		names := make(map[string]struct{}, len(env))
		for j := range env {
			if env[j].ValueFrom != nil && isMark(env[j].Name) {
				return true
			}
			names[env[j].Name] = struct{}{}
		}
		if len(names) < len(env) {
			return true
		}
	}
	return false
}
