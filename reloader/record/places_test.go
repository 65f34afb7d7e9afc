package record_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/record"
)

func TestByPlace(t *testing.T) {
	from := &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}
	tests := map[string]struct {
		containers [][]corev1.EnvVar
		init       []corev1.EnvVar
		want       bool
	}{
		"no variables":      {containers: [][]corev1.EnvVar{nil}},
		"different names":   {containers: [][]corev1.EnvVar{{{Name: "A"}, {Name: "B", ValueFrom: from}}}},
		"a name twice":      {containers: [][]corev1.EnvVar{{{Name: "A"}, {Name: "B"}, {Name: "A"}}}, want: true},
		"side by side":      {containers: [][]corev1.EnvVar{{{Name: "A"}, {Name: "A"}}}, want: true},
		"in another one":    {containers: [][]corev1.EnvVar{{{Name: "B"}}, {{Name: "A"}, {Name: "A"}}}, want: true},
		"one in each":       {containers: [][]corev1.EnvVar{{{Name: "A"}}, {{Name: "A"}}}},
		"in an init one":    {containers: [][]corev1.EnvVar{nil}, init: []corev1.EnvVar{{Name: "A"}, {Name: "A"}}},
		"a mark":            {containers: [][]corev1.EnvVar{{{Name: "STAKATER_CFG_CONFIGMAP", Value: "v2-0"}}}},
		"a mark twice":      {containers: [][]corev1.EnvVar{{{Name: "STAKATER_CFG_CONFIGMAP"}, {Name: "B"}, {Name: "STAKATER_CFG_CONFIGMAP"}}}, want: true},
		"its name, a field": {containers: [][]corev1.EnvVar{{{Name: "STAKATER_CFG_CONFIGMAP", ValueFrom: from}}}, want: true},
		"of a Secret":       {containers: [][]corev1.EnvVar{{{Name: "STAKATER_CFG_SECRET", ValueFrom: from}}}, want: true},
		"of a class":        {containers: [][]corev1.EnvVar{{{Name: "STAKATER_CFG_SECRETPROVIDERCLASS", ValueFrom: from}}}, want: true},
		"a name like it":    {containers: [][]corev1.EnvVar{{{Name: "STAKATER_CFG", ValueFrom: from}}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			template := new(corev1.PodTemplateSpec)
			for _, env := range tc.containers {
				template.Spec.Containers = append(template.Spec.Containers, corev1.Container{Env: env})
			}
			template.Spec.InitContainers = []corev1.Container{{Env: tc.init}}
			assert.Equal(t, tc.want, record.ByPlace(&template.Spec))

			// The record carries it, and takes no room where there is nothing to say.
			text, err := record.New(record.Identity{Name: "web", Namespace: "shop"}, template, "00ff", annotation.DefaultKeys()).Encode()
			require.NoError(t, err)
			got, err := record.Decode(text)
			require.NoError(t, err)
			assert.Equal(t, tc.want, got.ByPlace)
			if !tc.want {
				assert.NotContains(t, text, `"p":`)
			}
		})
	}
}
