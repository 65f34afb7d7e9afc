package scope

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/labels"

	"k8s-reloader/reloader"
)

func selector(t *testing.T, text string) labels.Selector {
	t.Helper()
	s, err := ParseSelector(text)
	require.NoError(t, err)
	return s
}

func TestWhatAScopeSelects(t *testing.T) {
	on := map[string]string{"reloader": "on"}
	tests := map[string]struct {
		scope Scope
		// want are the namespaces among shop, which has the label, and bank,
		// which has none.
		want []string
	}{
		"everything":                      {want: []string{"shop", "bank"}},
		"what is listed":                  {scope: Scope{Namespaces: []string{"bank"}}, want: []string{"bank"}},
		"what is not ignored":             {scope: Scope{IgnoredNamespaces: []string{"bank"}}, want: []string{"shop"}},
		"what has the label":              {scope: Scope{NamespaceSelector: selector(t, "reloader=on")}, want: []string{"shop"}},
		"what has the label, not ignored": {scope: Scope{NamespaceSelector: selector(t, "reloader=on"), IgnoredNamespaces: []string{"shop"}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, tc.scope.Validate())
			var got []string
			if tc.scope.SelectsNamespace("shop", on) {
				got = append(got, "shop")
			}
			if tc.scope.SelectsNamespace("bank", nil) {
				got = append(got, "bank")
			}
			assert.Equal(t, tc.want, got)
		})
	}
	t.Run("sources, but for those that the driver reports", func(t *testing.T) {
		s := Scope{SourceSelector: selector(t, "reloader")}
		for _, k := range reloader.SourceKinds() {
			assert.True(t, s.SelectsSource(k, on), k)
			assert.True(t, Scope{}.SelectsSource(k, nil), k)
			assert.Equal(t, k == reloader.SecretProviderClass, s.SelectsSource(k, nil), k)
			assert.Equal(t, k == reloader.SecretProviderClass, s.SourceSelectorOf(k) == nil, k)
		}
	})
	t.Run("workloads, but for some kinds", func(t *testing.T) {
		s := Scope{IgnoredWorkloads: []reloader.WorkloadKind{reloader.DaemonSet}}
		assert.False(t, s.Workloads(reloader.DaemonSet))
		assert.True(t, s.Workloads(reloader.Deployment))
	})
}

func TestAScopeThatMakesNoSense(t *testing.T) {
	s := Scope{
		Namespaces: []string{"a", "b"}, IgnoredNamespaces: []string{"b", "c"},
		NamespaceSelector: selector(t, "reloader=on"),
	}
	err := s.Validate()
	require.ErrorContains(t, err, "namespace b is both listed and ignored")
	require.ErrorContains(t, err, "both listed and selected by their labels")
	assert.NotContains(t, err.Error(), "namespace a")
}
