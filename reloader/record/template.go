package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"k8s-reloader/reloader/policy"
)

// TemplateHash returns a digest of a pod template that is the same before and
// after a reload: the environment variables and the annotation that reloads
// write are left out, and everything else counts. It does not change template.
//
// It is comparable between processes of the same build only: a later one may
// know more fields of a template.
func TemplateHash(template *corev1.PodTemplateSpec, k policy.Keys) string {
	unmarked := *template
	unmarked.Annotations = withoutKey(template.Annotations, k.LastReloadedFrom)
	unmarked.Spec.Containers = containersWithoutMarks(template.Spec.Containers)
	unmarked.Spec.InitContainers = containersWithoutMarks(template.Spec.InitContainers)

	hash := sha256.New()
	// The types of a pod template always have a JSON form, and a hash takes
	// any write.
	_ = json.NewEncoder(hash).Encode(&unmarked)
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// withoutKey returns m without key: m itself if it does not have it, else a
// copy.
func withoutKey(m map[string]string, key string) map[string]string {
	if _, ok := m[key]; !ok {
		return m
	}
	m = maps.Clone(m)
	delete(m, key)
	return m
}

// containersWithoutMarks returns containers without the variables that are
// ours: containers itself if there are none, else a copy.
func containersWithoutMarks(containers []corev1.Container) []corev1.Container {
	if !slices.ContainsFunc(containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, isMark)
	}) {
		return containers
	}
	containers = slices.Clone(containers)
	for i := range containers {
		// The clone is shallow: DeleteFunc on a clone of Env leaves the
		// caller's variables alone.
		containers[i].Env = slices.DeleteFunc(slices.Clone(containers[i].Env), isMark)
	}
	return containers
}

// isMark reports whether e is a variable that a reload wrote: by its name, and
// because its value stands in the template.
func isMark(e corev1.EnvVar) bool {
	name, ok := strings.CutPrefix(e.Name, "STAKATER_")
	if !ok || e.ValueFrom != nil {
		return false
	}
	return strings.HasSuffix(name, "_CONFIGMAP") ||
		strings.HasSuffix(name, "_SECRET") ||
		strings.HasSuffix(name, "_SECRETPROVIDERCLASS")
}
