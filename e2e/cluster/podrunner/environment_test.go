package podrunner

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"NAME": "web", "EMPTY": "", "NESTED": "$(NAME)"}
	tests := map[string]struct{ text, want string }{
		"a name with a value is replaced":       {"a-$(NAME)-b", "a-web-b"},
		"an empty value replaces too":           {"[$(EMPTY)]", "[]"},
		"a name without a value stays":          {"$(NOBODY)", "$(NOBODY)"},
		"a doubled dollar is one":               {"$$(NAME)", "$(NAME)"},
		"three dollars are one and a reference": {"$$$(NAME)", "$web"},
		"a value is not expanded again":         {"$(NESTED)", "$(NAME)"},
		"a lone dollar stays":                   {"1$ $x $", "1$ $x $"},
		"an open parenthesis is no reference":   {"$(NAME", "$(NAME"},
		"a reference ends at the first bracket": {"$(A$(NAME)", "$(A$(NAME)"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, expand(tc.text, values))
		})
	}
}

func FuzzExpandUndoesEscaping(f *testing.F) {
	f.Add("plain $(NAME) text")
	f.Fuzz(func(t *testing.T, text string) {
		values := map[string]string{"NAME": "value"}
		assert.Equal(t, text, expand(strings.ReplaceAll(text, "$", "$$"), values))
	})
}

func TestResource(t *testing.T) {
	c := &container{spec: &corev1.Container{Resources: corev1.ResourceRequirements{
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
	}}}
	tests := map[string]struct{ resource, divisor, want string }{
		"processors are rounded up":     {"limits.cpu", "0", "2"},
		"processors in thousandths":     {"limits.cpu", "1m", "1500"},
		"memory in bytes":               {"limits.memory", "0", "67108864"},
		"memory in mebibytes":           {"limits.memory", "1Mi", "64"},
		"a request":                     {"requests.cpu", "1m", "100"},
		"an absent request is nothing":  {"requests.memory", "0", "0"},
		"an absent limit is the node's": {"limits.ephemeral-storage", "1Ti", "100"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := c.resource(&corev1.ResourceFieldSelector{Resource: tc.resource, Divisor: resource.MustParse(tc.divisor)})
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}
