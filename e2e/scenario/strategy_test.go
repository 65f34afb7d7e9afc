package scenario

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
)

func TestStrategies(t *testing.T) {
	tests := map[string]struct {
		namespace string
		check     func(t *testing.T, app fixture.App, s fixture.State)
	}{
		"env-vars": {
			namespace: "strategy-env-vars",
			check: func(t *testing.T, app fixture.App, s fixture.State) {
				t.Helper()
				assert.NotContains(t, s.Template.Annotations, keys().LastReloadedFrom)
				var names []string
				for _, v := range s.Template.Spec.Containers[0].Env {
					names = append(names, v.Name)
					assert.NotEmpty(t, v.Value)
				}
				assert.ElementsMatch(t, []string{
					reloader.EnvName(reloader.ConfigMap, app.Name),
					reloader.EnvName(reloader.Secret, app.Name),
				}, names)
			},
		},
		"annotations": {
			namespace: "strategy-annotations",
			check: func(t *testing.T, app fixture.App, s fixture.State) {
				t.Helper()
				assert.Empty(t, s.Template.Spec.Containers[0].Env)
				type from struct {
					Type, Name, Namespace, Hash string
					ContainerRefs               []string
					Also                        []from
				}
				var got from
				require.NoError(t, json.Unmarshal([]byte(s.Template.Annotations[keys().LastReloadedFrom]), &got))
				require.Len(t, got.Also, 1)
				assert.NotEmpty(t, got.Hash)
				assert.NotEmpty(t, got.Also[0].Hash)
				got.Hash, got.Also[0].Hash = "", ""
				want := from{Type: "CONFIGMAP", Name: app.Name, Namespace: app.Namespace, ContainerRefs: []string{"app"}}
				also := want
				also.Type = "SECRET"
				want.Also = []from{also}
				assert.Equal(t, want, got)
			},
		},
	}
	for strategy, tc := range tests {
		t.Run(strategy, func(t *testing.T) {
			given(t, values{"reloader.reloadStrategy": strategy})
			ns := newNamespace(t, tc.namespace)
			for _, k := range []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet} {
				app := newApp(t, ns)
				app.Kind = k
				app.Annotations[keys().CoalesceWindow] = unhurried
				create(t, app)
				setConfigMap(t, ns, app.Name, "2")
				setSecret(t, ns, app.Name, "2")

				require.Eventually(t, func() bool { return read(t, app.Workload()).Meta.Generation > 1 }, soon, often)
				s := read(t, app.Workload())
				tc.check(t, app, s)
				assert.Equal(t, int64(2), s.Meta.Generation, "both changes make one rollout")
				assert.True(t, fits(t, s))
			}
		})
	}
}
