package standalone

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
)

// A reload that is more than annotations may hold happens all the same.
func TestManySourcesAreOneReload(t *testing.T) {
	const sources, writers = 2100, 8
	ns := namespace(t, "many-sources")
	holds := func(value string) {
		var writing sync.WaitGroup
		for n := range writers {
			writing.Go(func() {
				for i := n; i < sources; i += writers {
					name := fmt.Sprintf("settings-of-tenant-%04d", i)
					assert.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), ns, name, map[string]string{"a": value}))
				}
			})
		}
		writing.Wait()
	}
	holds("a")
	keys := annotation.DefaultKeys()
	app := fixture.App{Namespace: ns, Name: "gateway", Annotations: map[string]string{keys.ConfigMapNamed: "settings-of-tenant-.*"}}
	_, err := app.Create(t.Context(), shared.Client())
	require.NoError(t, err)
	startEngine(t, within(ns), func(o *engine.Options) { o.CoalesceWindow = 30 * time.Second })
	holds("b")
	requireRollouts(t, map[reloader.Workload]int{app.Workload(): 1})
	o, err := shared.Client().AppsV1().Deployments(ns).Get(t.Context(), app.Name, metav1.GetOptions{})
	require.NoError(t, err)
	text := o.Spec.Template.Annotations[keys.LastReloadedFrom]
	assert.Contains(t, text, `"digest":"v2-`)
	assert.Less(t, len(text), 32<<10)
}

// A template whose annotations have no room is reloaded all the same.
func TestAFullTemplateIsReloaded(t *testing.T) {
	ns := namespace(t, "full-template")
	s := stage{t, ns, "app"}
	s.holds("a")
	app := s.app()
	app.TemplateAnnotations = map[string]string{"note": strings.Repeat("a", 256<<10-len("note")-150)}
	_, err := app.Create(t.Context(), shared.Client())
	require.NoError(t, err)
	startEngine(t, within(ns), func(o *engine.Options) { o.Strategy = kind.Annotations })
	s.holds("b")
	requireRollouts(t, map[reloader.Workload]int{app.Workload(): 1})
	o, err := shared.Client().AppsV1().Deployments(ns).Get(t.Context(), app.Name, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Regexp(t, `^\{"digest":"v2-[0-9a-f]{32}"\}$`, o.Spec.Template.Annotations[annotation.DefaultKeys().LastReloadedFrom])
}

// etcd takes a workload of 1.4 MiB, and in JSON it is six times as long. It is read
// and reloaded like any other, and beside it so many that all are listed.
func TestAWorkloadThatIsLongInJSONIsReloaded(t *testing.T) {
	const others = 70
	ns := namespace(t, "long-in-json")
	s := stage{t, ns, "app"}
	s.holds("a")
	wanted := map[reloader.Workload]int{}
	for i := range others {
		app := s.app()
		app.Name = fmt.Sprintf("app-%02d", i)
		_, err := app.Create(t.Context(), shared.Client())
		require.NoError(t, err)
		wanted[app.Workload()] = 1
	}
	app := s.app()
	app.Name = "zz-last"
	o := app.Object().(*appsv1.Deployment)
	container := &o.Spec.Template.Spec.Containers[0]
	container.Env = append(container.Env, corev1.EnvVar{Name: "MARKUP", Value: strings.Repeat("<", 1_420_000)})
	_, err := shared.Client().AppsV1().Deployments(ns).Create(t.Context(), o, metav1.CreateOptions{})
	require.NoError(t, err)
	wanted[app.Workload()] = 1

	startEngine(t, within(ns))
	s.holds("b")
	requireRollouts(t, wanted)
}
