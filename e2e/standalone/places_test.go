package standalone

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
)

// env returns the variables of a container: those of the user in their order, and
// ours.
func env(template corev1.PodTemplateSpec, container string) (users, marks []corev1.EnvVar) {
	for _, c := range template.Spec.Containers {
		for _, v := range c.Env {
			switch {
			case c.Name != container:
			case v.ValueFrom == nil && strings.HasPrefix(v.Name, "STAKATER_"):
				marks = append(marks, v)
			default:
				users = append(users, v)
			}
		}
	}
	return users, marks
}

// A name may stand twice in a list of variables, and others refer to the one
// before them. Nothing of that moves, and no patch is refused.
func TestVariablesOfTheUserStayInTheirPlaces(t *testing.T) {
	everyKind(t)
	field := &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}
	lists := map[string][]corev1.EnvVar{
		"override": {
			{Name: "HOST", Value: "default"}, {Name: "URL", Value: "http://$(HOST)/"},
			{Name: "HOST", Value: "override"}, {Name: "OTHER", Value: "http://$(HOST)/"},
		},
		"from-field": {{Name: "A", Value: "1"}, {Name: "STAKATER_SETTINGS_CONFIGMAP", ValueFrom: field}, {Name: "B", Value: "$(A)"}},
		"ordinary":   {{Name: "B", Value: "1"}, {Name: "A", Value: "$(B)"}},
	}
	kinds := []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet, reloader.DeploymentConfig, reloader.Rollout}
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "places-"+name)
			edit(t, ns, "settings", "0")
			pod := using("settings")
			pod.Containers[0].Env = list
			pod.Containers = append([]corev1.Container{{Name: "first", Image: "registry.example/app:1"}}, pod.Containers[0],
				corev1.Container{Name: "last", Image: "registry.example/app:1"})
			var all []workload
			for _, k := range kinds {
				if k == reloader.Rollout && name == "override" {
					continue // its CRD allows no name twice
				}
				w := workload{kind: k, ns: ns, name: "app", annotations: auto(), pod: pod, spec: map[string]any{}}
				if k == reloader.StatefulSet {
					w.spec["serviceName"] = "none"
				}
				w.create(t)
				all = append(all, w)
			}
			_, r := startEngine(t, within(ns), func(o *engine.Options) { o.Strategy = kind.EnvVars })
			last := map[reloader.WorkloadKind][]corev1.EnvVar{}
			for n := range 2 {
				edit(t, ns, "settings", fmt.Sprint(n+1))
				for _, w := range all {
					require.Eventually(t, func() bool { return r.count(w.key()) == n+1 }, soon, often, w.key())
					template := templateOf(t, w.read(t))
					users, marks := env(template, "app")
					assert.Equal(t, list, users, w.key())
					assert.Len(t, marks, 1, w.key())
					assert.NotEqual(t, last[w.kind], marks)
					last[w.kind] = marks
					assert.Equal(t, []string{"first", "app", "last"}, []string{
						template.Spec.Containers[0].Name, template.Spec.Containers[1].Name, template.Spec.Containers[2].Name,
					})
				}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.Zero(t, r.failed, "nothing was refused")
			assert.Empty(t, r.takenBack)
		})
	}
}
