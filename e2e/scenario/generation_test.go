package scenario

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
)

// TestRecordsAreMadeForTheGenerationThatTheObjectGets holds the webhook's
// prediction, and the engine's, against the API server.
func TestRecordsAreMadeForTheGenerationThatTheObjectGets(t *testing.T) {
	given(t, nil)
	ns := newNamespace(t, "generation")
	setConfigMap(t, ns, "settings", "1")
	merge := func(body string, subresource ...string) func(*testing.T, fixture.App) {
		return func(t *testing.T, app fixture.App) {
			t.Helper()
			patch(t, app.Workload(), types.MergePatchType, body, subresource...)
		}
	}
	tests := map[string]struct {
		does func(t *testing.T, app fixture.App)
		// raises is by how much the generation grows; wantRecord is by how much
		// the generation grows that the record was made for.
		raises, wantRecord map[reloader.WorkloadKind]int64
		on                 []reloader.WorkloadKind
	}{
		"creation": {
			does: func(*testing.T, fixture.App) {},
		},
		"a change of the template": {
			does:   merge(`{"spec":{"template":{"metadata":{"annotations":{"edited":"yes"}}}}}`),
			raises: every(1), wantRecord: every(1),
		},
		"a reference that is added": {
			does: func(t *testing.T, app fixture.App) {
				t.Helper()
				patch(t, app.Workload(), types.StrategicMergePatchType,
					`{"spec":{"template":{"spec":{"containers":[{"name":"app","envFrom":[{"secretRef":{"name":"more"}}]}]}}}}`)
				require.Len(t, recordOf(t, read(t, app.Workload())).References, 1)
			},
			raises: every(1), wantRecord: every(1),
		},
		"a change of the spec beside the template": {
			does:   merge(`{"spec":{"minReadySeconds":1}}`),
			raises: every(1), wantRecord: every(1),
		},
		"replicas in the spec": {
			does:   merge(`{"spec":{"replicas":2}}`),
			raises: every(1), wantRecord: every(1),
			on: []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet},
		},
		"a spec that is written as it was": {
			does: merge(`{"spec":{"revisionHistoryLimit":10}}`),
		},
		"an annotation": {
			does:       merge(`{"metadata":{"annotations":{"note":"new"}}}`),
			raises:     only(reloader.Deployment, 1),
			wantRecord: only(reloader.Deployment, 1),
		},
		"an annotation and the template": {
			does:   merge(`{"metadata":{"annotations":{"note":"new"}},"spec":{"template":{"metadata":{"annotations":{"edited":"yes"}}}}}`),
			raises: every(1), wantRecord: every(1),
		},
		"a label": {
			does: merge(`{"metadata":{"labels":{"note":"new"}}}`),
		},
		"somebody's removal of the record": {
			does: merge(`{"metadata":{"annotations":{"` + keys().Index + `":null}}}`),
		},
		"kubectl rollout restart": {
			does: func(t *testing.T, app fixture.App) {
				t.Helper()
				_, err := shared.Kubectl(t.Context(), "rollout", "restart", string(app.Workload().Kind)+"/"+app.Name, "-n", app.Namespace)
				require.NoError(t, err)
			},
			raises: every(1), wantRecord: every(1),
		},
		"our own reload": {
			does: func(t *testing.T, app fixture.App) {
				t.Helper()
				requireReload(t, app.Workload(), reloader.ConfigMap, app.ConfigMaps[0], func() {
					setConfigMap(t, app.Namespace, app.ConfigMaps[0], "2")
				})
			},
			raises: every(1), wantRecord: every(1),
		},
		// Admission is not asked about subresources: the record stays, and the
		// engine works the references out itself where the generation has moved.
		"the scale subresource": {
			does:   merge(`{"spec":{"replicas":3}}`, "scale"),
			raises: every(1), wantRecord: every(0),
			on: []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet},
		},
		"a status": {
			does: merge(`{"status":{"observedGeneration":1}}`, "status"),
		},
		"a status with an annotation": {
			does: merge(`{"metadata":{"annotations":{"note":"new"}},"status":{"observedGeneration":1}}`, "status"),
		},
	}
	for name, tc := range tests {
		for i, k := range []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet} {
			if tc.on != nil && i >= len(tc.on) {
				continue
			}
			t.Run(name+" of a "+string(k), func(t *testing.T) {
				app := fixture.App{
					Kind: k, Namespace: ns, Name: unique(),
					Annotations: auto(), ConfigMaps: []string{unique()},
				}
				setConfigMap(t, ns, app.ConfigMaps[0], "1")
				create(t, app)
				created := read(t, app.Workload())
				require.Equal(t, int64(1), created.Meta.Generation)
				require.Equal(t, int64(1), recordOf(t, created).Generation)

				tc.does(t, app)

				after := read(t, app.Workload())
				assert.Equal(t, 1+tc.raises[k], after.Meta.Generation, "metadata.generation")
				assert.Equal(t, 1+tc.wantRecord[k], recordOf(t, after).Generation, "the record's")
				assert.Equal(t, tc.raises[k] == tc.wantRecord[k], fits(t, after))
			})
		}
	}
}

func every(n int64) map[reloader.WorkloadKind]int64 {
	return map[reloader.WorkloadKind]int64{reloader.Deployment: n, reloader.StatefulSet: n, reloader.DaemonSet: n}
}

func only(k reloader.WorkloadKind, n int64) map[reloader.WorkloadKind]int64 {
	return map[reloader.WorkloadKind]int64{k: n}
}
