package charts_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

// renderAs is renderList for a release of another name, in another namespace.
func renderAs(t *testing.T, release, namespace string, values ...string) []runtime.Object {
	t.Helper()
	args := templateArgs(values)
	args[1], args[4] = release, namespace
	out, problems, err := helm(t, args...)
	require.NoError(t, err, problems)
	return decode(t, out)
}

// identity tells objects of a cluster apart.
func identity(t *testing.T, obj runtime.Object) string {
	t.Helper()
	m, err := meta.Accessor(obj)
	require.NoError(t, err)
	return obj.GetObjectKind().GroupVersionKind().GroupKind().String() + " " + m.GetNamespace() + "/" + m.GetName()
}

func TestAReleaseMayHaveAnyName(t *testing.T) {
	longest := strings.Repeat("n", 53)
	tests := map[string]struct {
		release, namespace string
		values             []string
		wantName           string
	}{
		"the usual":                         {release: "demo", namespace: "system", wantName: "demo-reloader"},
		"the chart's":                       {release: "reloader", namespace: "reloader", wantName: "reloader-reloader"},
		"one with the chart's in it":        {release: "my-reloader-2", namespace: "system", wantName: "my-reloader-2-reloader"},
		"a number":                          {release: "1", namespace: "2", wantName: "1-reloader"},
		"a number, watching a namespace":    {release: "1", namespace: "2", values: []string{"reloader.watchGlobally=false"}, wantName: "1-reloader"},
		"dots":                              {release: "a.b", namespace: "system", wantName: "a.b-reloader"},
		"the longest":                       {release: longest, namespace: strings.Repeat("s", 63), wantName: longest + "-reloader"},
		"the longest, watching a namespace": {release: longest, namespace: strings.Repeat("s", 63), values: []string{"reloader.watchGlobally=false"}, wantName: longest + "-reloader"},
		"another chart's":                   {release: "demo", namespace: "system", values: []string{"nameOverride=" + strings.Repeat("x", 80)}, wantName: "demo-" + strings.Repeat("x", 58)},
		"a full one":                        {release: "demo", namespace: "system", values: []string{"fullnameOverride=other"}, wantName: "other"},
		"a full one that is too long":       {release: "demo", namespace: "system", values: []string{"fullnameOverride=" + strings.Repeat("x", 80)}, wantName: strings.Repeat("x", 63)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			seen := map[string]bool{}
			for _, obj := range renderAs(t, tc.release, tc.namespace, append(tc.values, "reloader.enableHA=true", "reloader.service.port=9090")...) {
				id := identity(t, obj)
				assert.False(t, seen[id], "%s is there twice", id)
				seen[id] = true
				m, err := meta.Accessor(obj)
				require.NoError(t, err)
				assert.Empty(t, validation.IsDNS1123Subdomain(m.GetName()), id)
				if obj.GetObjectKind().GroupVersionKind().Kind == "Service" && strings.HasSuffix(m.GetName(), "-webhook") {
					assert.Empty(t, validation.IsDNS1035Label("s"+m.GetName()[1:]), id)
				}
				for key, value := range m.GetLabels() {
					assert.Empty(t, validation.IsValidLabelValue(value), "%s, label %s", id, key)
				}
			}
			assert.True(t, seen["Deployment.apps "+tc.namespace+"/"+tc.wantName], "names: %v", seen)
		})
	}
}

// A release per team, each in its own namespace, under the same name or not.
func TestReleasesOfTwoNamespacesDoNotClash(t *testing.T) {
	tests := map[string]struct {
		first, second []string
		release       string
	}{
		"of one name":              {release: "reloader"},
		"of one full name":         {release: "reloader", first: []string{"fullnameOverride=same"}, second: []string{"fullnameOverride=same"}},
		"of names that are cut":    {release: strings.Repeat("n", 53)},
		"that watch one in common": {release: "reloader", first: []string{"reloader.namespaces={a,shared}"}, second: []string{"reloader.namespaces={b,shared}"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			seen := map[string]bool{}
			for namespace, values := range map[string][]string{"a": tc.first, "b": tc.second} {
				for _, obj := range renderAs(t, tc.release, namespace, append(values, "reloader.watchGlobally=false")...) {
					id := identity(t, obj)
					assert.False(t, seen[id], "%s is in both", id)
					seen[id] = true
				}
			}
		})
	}
}

func TestNamesOfBindingsFitTheirRoles(t *testing.T) {
	found := map[string]bool{}
	objects := renderAs(t, "reloader", "a", "reloader.watchGlobally=false", "reloader.namespaces={b}")
	for _, obj := range objects {
		found[identity(t, obj)] = true
	}
	for _, obj := range objects {
		switch o := obj.(type) {
		case *rbacv1.RoleBinding:
			assert.True(t, found["Role.rbac.authorization.k8s.io "+o.Namespace+"/"+o.RoleRef.Name], o.Name)
		case *rbacv1.ClusterRoleBinding:
			assert.True(t, found["ClusterRole.rbac.authorization.k8s.io /"+o.RoleRef.Name], o.Name)
		case *appsv1.Deployment:
			assert.True(t, found["ServiceAccount a/"+o.Spec.Template.Spec.ServiceAccountName], o.Name)
		}
	}
}
