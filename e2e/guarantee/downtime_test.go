package guarantee

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
)

// apart is how long two writes lie apart whose order is to be known by time.
const apart = 7 * time.Second

// place is what one case of a down time has: a ConfigMap and a workload of the
// same name, if they exist.
type place struct {
	*world
	name string
	kind reloader.WorkloadKind
}

func (p place) holds(value string) { p.set(p.name, value) }

func (p place) theApp() fixture.App {
	app := p.app(p.name, p.name)
	app.Kind = p.kind
	return app
}

func (p place) appears() { p.create(p.theApp()) }

func (p place) deleteSource() {
	require.NoError(p.t, p.client.CoreV1().ConfigMaps(p.apps).Delete(p.t.Context(), p.name, metav1.DeleteOptions{}))
}

func (p place) deleteApp() {
	require.NoError(p.t, p.client.AppsV1().Deployments(p.apps).Delete(p.t.Context(), p.name, metav1.DeleteOptions{}))
}

func (p place) patchSource(patch string) {
	_, err := p.client.CoreV1().ConfigMaps(p.apps).Patch(p.t.Context(), p.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(p.t, err)
}

func (p place) patch(patch string) { p.patchApp(p.theApp(), patch) }

const (
	relabel  = `{"metadata":{"labels":{"edited":"yes"}}}`
	scale    = `{"spec":{"replicas":1}}`
	newImage = `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"registry.example/app:2"}]}}}}`
	oldImage = `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"registry.example/app:1"}]}}}}`
)

func (p place) workload() reloader.Workload { return p.theApp().Workload() }

func (p place) nothing() {}

// controllersHaveSeen returns when every pod template has its record.
func (w *world) controllersHaveSeen() {
	w.t.Helper()
	w.eventually("have controllers see every workload", func(ctx context.Context) error {
		apps, all := w.client.AppsV1(), metav1.ListOptions{}
		deployments, err := apps.Deployments(w.apps).List(ctx, all)
		if err != nil {
			return err
		}
		statefulSets, err := apps.StatefulSets(w.apps).List(ctx, all)
		if err != nil {
			return err
		}
		daemonSets, err := apps.DaemonSets(w.apps).List(ctx, all)
		if err != nil {
			return err
		}
		var behind []string
		for _, o := range deployments.Items {
			if o.Status.ObservedGeneration < o.Generation {
				behind = append(behind, o.Name)
			}
		}
		for _, o := range statefulSets.Items {
			if o.Status.ObservedGeneration < o.Generation {
				behind = append(behind, o.Name)
			}
		}
		for _, o := range daemonSets.Items {
			if o.Status.ObservedGeneration < o.Generation {
				behind = append(behind, o.Name)
			}
		}
		if len(behind) > 0 {
			return fmt.Errorf("not seen yet: %v", behind)
		}
		return nil
	})
}

func TestDownTime(t *testing.T) {
	// What happens before the engine goes down is source and app, both of them
	// seen by it, unless isNew. Then come first, and a good while later second.
	tests := map[string]struct {
		isNew         bool
		first, second func(p place)
		want          int
		kind          reloader.WorkloadKind // default Deployment
	}{
		"nothing":                                             {false, place.nothing, place.nothing, 0, ""},
		"the source changes":                                  {false, func(p place) { p.holds("B") }, place.nothing, 1, ""},
		"the source changes twice":                            {false, func(p place) { p.holds("B") }, func(p place) { p.holds("C") }, 1, ""},
		"the source changes and back":                         {false, func(p place) { p.holds("B") }, func(p place) { p.holds("A") }, 0, ""},
		"the source is relabelled":                            {false, func(p place) { p.patchSource(relabel) }, place.nothing, 0, ""},
		"the source is deleted":                               {false, place.deleteSource, place.nothing, 0, ""},
		"it comes back with other data":                       {false, place.deleteSource, func(p place) { p.holds("B") }, 1, ""},
		"it comes back with the same data":                    {false, place.deleteSource, func(p place) { p.holds("A") }, 0, ""},
		"it comes back and changes":                           {false, place.deleteSource, func(p place) { p.holds("A"); p.holds("B") }, 1, ""},
		"the app is relabelled":                               {false, func(p place) { p.patch(relabel) }, place.nothing, 0, ""},
		"the app is scaled":                                   {false, func(p place) { p.patch(scale) }, place.nothing, 0, ""},
		"scaled, and the source changes":                      {false, func(p place) { p.patch(scale) }, func(p place) { p.holds("B") }, 1, ""},
		"the source changes, scaled":                          {false, func(p place) { p.holds("B") }, func(p place) { p.patch(scale) }, 1, ""},
		"the app is rolled out":                               {false, func(p place) { p.patch(newImage) }, place.nothing, 0, ""},
		"rolled out, and the source changes":                  {false, func(p place) { p.patch(newImage) }, func(p place) { p.holds("B") }, 1, ""},
		"the source changes, rolled out":                      {false, func(p place) { p.holds("B") }, func(p place) { p.patch(newImage) }, 0, ""},
		"the app is new after the change":                     {false, func(p place) { p.holds("B"); p.deleteApp() }, place.appears, 0, ""},
		"both are new":                                        {true, func(p place) { p.holds("A"); p.appears() }, place.nothing, 0, ""},
		"both are new, the app first":                         {true, place.appears, func(p place) { p.holds("A") }, 0, ""},
		"both are new, the source changes":                    {true, func(p place) { p.holds("A"); p.appears() }, func(p place) { p.holds("B") }, 1, ""},
		"both are new, the source relabelled":                 {true, func(p place) { p.holds("A"); p.appears() }, func(p place) { p.patchSource(relabel) }, 0, ""},
		"both are new, the source changes soon":               {true, func(p place) { p.holds("A"); p.appears(); p.wait(3 * time.Second); p.holds("B") }, place.nothing, 0, ""},
		"the app is new, the source changes":                  {true, func(p place) { p.holds("A"); p.holds("B"); p.appears() }, func(p place) { p.holds("C") }, 1, ""},
		"the source changes, a StatefulSet is rolled out":     {false, func(p place) { p.holds("B") }, func(p place) { p.patch(newImage) }, 0, reloader.StatefulSet},
		"a StatefulSet is rolled out, and the source changes": {false, func(p place) { p.patch(newImage) }, func(p place) { p.holds("B") }, 1, reloader.StatefulSet},
		"the source changes, a DaemonSet is rolled out":       {false, func(p place) { p.holds("B") }, func(p place) { p.patch(newImage) }, 0, reloader.DaemonSet},
		"a DaemonSet is rolled out, and the source changes":   {false, func(p place) { p.patch(newImage) }, func(p place) { p.holds("B") }, 1, reloader.DaemonSet},
		// Pods that the bad one has not replaced still have what was there before.
		"the source changes, a bad rollout and back": {false, func(p place) { p.holds("B") }, func(p place) {
			p.patch(newImage)
			p.controllersHaveSeen()
			p.patch(oldImage)
		}, 1, ""},
		"both are new and rolled out, the source changes": {true, func(p place) { p.holds("A"); p.appears(); p.patch(newImage) }, func(p place) { p.holds("B") }, 1, ""},
		"both are new, the source changes, rolled out":    {true, func(p place) { p.holds("A"); p.appears() }, func(p place) { p.holds("B"); p.wait(apart); p.patch(newImage) }, 0, ""},
	}
	// Of these nobody can know whether the pods have what is there.
	doubtful := []string{"both are new, the source relabelled", "both are new, the source changes soon"}
	w := newWorld(t, "down")
	places := map[string]place{}
	for i, name := range slices.Sorted(maps.Keys(tests)) {
		p := place{w, fmt.Sprintf("case-%02d", i), tests[name].kind}
		places[name] = p
		if !tests[name].isNew {
			p.holds("A")
			p.appears()
		}
	}
	e := w.engine("a", unlimited()...)
	e.up()
	w.quiet(2 * time.Second)
	e.kill()
	since := w.now()
	for name, tc := range tests {
		tc.first(places[name])
	}
	w.wait(apart)
	for name, tc := range tests {
		tc.second(places[name])
	}
	w.controllersHaveSeen()
	e.up()
	w.quiet(3 * time.Second)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			places[name].requireReloadsIn(t, tc.want, since, places[name].workload())
		})
	}
	assert.Equal(t, len(doubtful), e.counter(`reloader_doubtful_changes_total{workload_kind="Deployment"}`), "%v", doubtful)
	// From here on all is known again.
	since = w.now()
	for name := range tests {
		places[name].holds("the last")
	}
	w.awaitReloaded(len(tests), since)
	w.quiet(time.Second)
	w.requireReloads(1, since)
	e.terminate()
}
