package scenario

import (
	"encoding/json"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader"
)

// exported is a workload as admission has left it at its creation, and its manifest
// as people keep it: without what the API server has set, and edited to reference
// another ConfigMap.
type exported struct {
	stored   *appsv1.Deployment
	manifest *appsv1.Deployment
	// source is the ConfigMap that the manifest references.
	source string
}

func export(t *testing.T, namespace string) exported {
	t.Helper()
	app := newApp(t, namespace)
	create(t, app)
	stored, err := shared.Client().AppsV1().Deployments(namespace).Get(t.Context(), app.Name, metav1.GetOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, stored.Annotations[keys().Index])
	require.Empty(t, recordOf(t, read(t, app.Workload())).UID)
	source := unique()
	setConfigMap(t, namespace, source, "1")
	manifest := stored.DeepCopy()
	manifest.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
	manifest.ObjectMeta = metav1.ObjectMeta{Namespace: namespace, Name: app.Name, Labels: stored.Labels, Annotations: stored.Annotations}
	manifest.Status = appsv1.DeploymentStatus{}
	manifest.Spec.Template.Spec.Containers[0].EnvFrom[0].ConfigMapRef.Name = source
	return exported{stored, manifest, source}
}

// text is the manifest as a file has it.
func (x exported) text(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(x.manifest)
	require.NoError(t, err)
	return string(text)
}

// remove deletes the workload that the manifest is of.
func (x exported) remove(t *testing.T) {
	t.Helper()
	require.NoError(t, shared.Client().AppsV1().Deployments(x.stored.Namespace).Delete(t.Context(), x.stored.Name, metav1.DeleteOptions{}))
}

// create creates what the manifest describes.
func (x exported) create(t *testing.T, manager string) *appsv1.Deployment {
	t.Helper()
	o, err := shared.Client().AppsV1().Deployments(x.manifest.Namespace).Create(t.Context(), x.manifest, metav1.CreateOptions{FieldManager: manager})
	require.NoError(t, err)
	return o
}

func (x exported) kubectl(t *testing.T, args ...string) *appsv1.Deployment {
	t.Helper()
	out, err := shared.KubectlInput(t.Context(), x.text(t), append(args, "-n", x.manifest.Namespace, "-f", "-")...)
	require.NoError(t, err, out)
	return x.manifest
}

// restartEngine kills the engine's process, and returns when the next one works.
func restartEngine(t *testing.T, r *install.Release) {
	t.Helper()
	state := func() (name string, restarts int32, ready bool) {
		pods, err := r.Pods(t.Context(), r.Engine)
		require.NoError(t, err)
		require.Len(t, pods, 1)
		require.Len(t, pods[0].Status.ContainerStatuses, 1)
		container := pods[0].Status.ContainerStatuses[0]
		return pods[0].Name, container.RestartCount, container.Ready
	}
	name, before, _ := state()
	require.NoError(t, shared.Pods().Kill(r.Namespace, name, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		_, restarts, ready := state()
		return restarts > before && ready
	}, soon, often, "the engine works again")
}

// TestAnExportedRecordMisleadsNobody brings manifests with the record of something
// else into a cluster in which no webhook answers: they are reloaded for what they
// reference now, whether the engine hears of them by a watch or finds them at its
// start.
func TestAnExportedRecordMisleadsNobody(t *testing.T) {
	ways := map[string]func(t *testing.T, x exported) *appsv1.Deployment{
		"created again": func(t *testing.T, x exported) *appsv1.Deployment {
			x.remove(t)
			return x.create(t, "kubectl-create")
		},
		"applied": func(t *testing.T, x exported) *appsv1.Deployment {
			x.remove(t)
			return x.kubectl(t, "apply")
		},
		"applied over the original": func(t *testing.T, x exported) *appsv1.Deployment {
			return x.kubectl(t, "apply")
		},
		"applied server-side": func(t *testing.T, x exported) *appsv1.Deployment {
			x.remove(t)
			return x.kubectl(t, "apply", "--server-side")
		},
		"replaced by force": func(t *testing.T, x exported) *appsv1.Deployment {
			return x.kubectl(t, "replace", "--force")
		},
		"under another name": func(t *testing.T, x exported) *appsv1.Deployment {
			x.manifest.Name += "-copy"
			return x.create(t, "kubectl-create")
		},
		"under a generated name": func(t *testing.T, x exported) *appsv1.Deployment {
			x.manifest.GenerateName, x.manifest.Name = x.manifest.Name+"-", ""
			return x.create(t, "kubectl-create")
		},
		"in another namespace": func(t *testing.T, x exported) *appsv1.Deployment {
			x.manifest.Namespace = newNamespace(t, "exported")
			setConfigMap(t, x.manifest.Namespace, x.source, "1")
			return x.create(t, "kubectl-create")
		},
		// As Velero does, which also restores managedFields.
		"restored from a backup": func(t *testing.T, x exported) *appsv1.Deployment {
			x.remove(t)
			o := x.create(t, "velero-server")
			body, err := json.Marshal(map[string]any{"metadata": map[string]any{"managedFields": x.stored.ManagedFields}})
			require.NoError(t, err)
			patch(t, reloader.Workload{Kind: reloader.Deployment, Namespace: o.Namespace, Name: o.Name}, types.MergePatchType, string(body))
			return o
		},
	}
	r := given(t, nil)
	ns := newNamespace(t, "exported")
	rounds := []string{"by a watch", "at a start"}
	manifests := map[string]map[string]exported{}
	for _, round := range rounds {
		manifests[round] = map[string]exported{}
		for name := range ways {
			manifests[round][name] = export(t, ns)
		}
	}
	defer killWebhook(t, r)()
	for _, round := range rounds {
		t.Run(round, func(t *testing.T) {
			brought := map[string]reloader.Workload{}
			for name, bring := range ways {
				x := manifests[round][name]
				o := bring(t, x)
				brought[name] = reloader.Workload{Kind: reloader.Deployment, Namespace: o.Namespace, Name: o.Name}
			}
			if round == "at a start" {
				restartEngine(t, r)
			}
			for name, w := range brought {
				source := manifests[round][name].source
				t.Log(name, w)
				requireReload(t, w, reloader.ConfigMap, source, func() { setConfigMap(t, w.Namespace, source, "2") })
			}
		})
	}
}
