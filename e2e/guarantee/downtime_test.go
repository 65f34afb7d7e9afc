//go:build guarantee

package guarantee

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
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
		"the app is new, the source changes":                  {true, func(p place) { p.holds("A"); p.holds("B"); p.appears() }, func(p place) { p.holds("C") }, 1, ""},
		"the source changes, a StatefulSet is rolled out":     {false, func(p place) { p.holds("B") }, func(p place) { p.patch(newImage) }, 0, reloader.StatefulSet},
		"a StatefulSet is rolled out, and the source changes": {false, func(p place) { p.patch(newImage) }, func(p place) { p.holds("B") }, 1, reloader.StatefulSet},
		"the source changes, a DaemonSet is rolled out":       {false, func(p place) { p.holds("B") }, func(p place) { p.patch(newImage) }, 0, reloader.DaemonSet},
		"a DaemonSet is rolled out, and the source changes":   {false, func(p place) { p.patch(newImage) }, func(p place) { p.holds("B") }, 1, reloader.DaemonSet},
		// Pods that the bad one has not replaced still have what was there before.
		"the source changes, a bad rollout and back": {false, func(p place) { p.holds("B") }, func(p place) {
			p.patch(newImage)
			p.quiet(500 * time.Millisecond)
			p.patch(oldImage)
		}, 1, ""},
		"both are new and rolled out, the source changes": {true, func(p place) { p.holds("A"); p.appears(); p.patch(newImage) }, func(p place) { p.holds("B") }, 1, ""},
		"both are new, the source changes, rolled out":    {true, func(p place) { p.holds("A"); p.appears() }, func(p place) { p.holds("B"); p.wait(apart); p.patch(newImage) }, 0, ""},
	}
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
	e.up()
	w.quiet(3 * time.Second)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			places[name].requireReloadsIn(t, tc.want, since, places[name].workload())
		})
	}
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

// memory is what an installation keeps in the cluster.
type memory struct {
	key    map[string][]byte
	shards []*corev1.ConfigMap
}

func (w *world) memory() memory {
	w.t.Helper()
	core := w.client.CoreV1()
	secret, err := core.Secrets(w.own).Get(w.t.Context(), keySecret, metav1.GetOptions{})
	require.NoError(w.t, err)
	m := memory{key: secret.Data}
	for _, name := range shardNames() {
		shard, err := core.ConfigMaps(w.own).Get(w.t.Context(), name, metav1.GetOptions{})
		require.NoError(w.t, err)
		m.shards = append(m.shards, shard)
	}
	return m
}

func (w *world) setKey(data map[string][]byte) {
	w.t.Helper()
	_, err := w.client.CoreV1().Secrets(w.own).Update(w.t.Context(),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: keySecret}, Data: data}, metav1.UpdateOptions{})
	require.NoError(w.t, err)
}

// setShards writes every shard anew, as edit leaves a copy of the given one.
func (w *world) setShards(m memory, edit func(shard *corev1.ConfigMap)) {
	w.t.Helper()
	for _, shard := range m.shards {
		written := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: shard.Name, Annotations: shard.Annotations, Labels: shard.Labels},
			Data:       maps.Clone(shard.Data),
			BinaryData: maps.Clone(shard.BinaryData),
		}
		edit(written)
		_, err := w.client.CoreV1().ConfigMaps(w.own).Update(w.t.Context(), written, metav1.UpdateOptions{})
		require.NoError(w.t, err)
	}
}

func empty(shard *corev1.ConfigMap) { shard.Data, shard.BinaryData = nil, nil }

func garbage(shard *corev1.ConfigMap) {
	for name := range shard.Data {
		shard.Data[name] = "garbage"
	}
	for name := range shard.BinaryData {
		shard.BinaryData[name] = []byte{0xff, 0x00, 0x12}
	}
}

func truncated(shard *corev1.ConfigMap) {
	for name, data := range shard.Data {
		shard.Data[name] = data[:len(data)/2]
	}
	for name, data := range shard.BinaryData {
		shard.BinaryData[name] = data[:len(data)/2]
	}
}

func same(*corev1.ConfigMap) {}

func TestWhatIsKeptGoesWrong(t *testing.T) {
	tests := map[string]struct {
		// damage happens while no engine runs. Yesterday all sources had other
		// content, and it was rolled out since.
		damage func(w *world, yesterday, today memory)
		// wantChanged is what a source that changes in the same time makes: -1 is
		// either, because nobody can know.
		wantChanged int
	}{
		"nothing at all":                {func(*world, memory, memory) {}, 1},
		"the key is emptied":            {func(w *world, _, _ memory) { w.setKey(nil) }, 0},
		"the key is another":            {func(w *world, _, m memory) { w.setKey(otherKey(m.key)) }, 0},
		"the checkpoint is emptied":     {func(w *world, _, m memory) { w.setShards(m, empty) }, 0},
		"the checkpoint is garbage":     {func(w *world, _, m memory) { w.setShards(m, garbage) }, 0},
		"the checkpoint is cut off":     {func(w *world, _, m memory) { w.setShards(m, truncated) }, 0},
		"the checkpoint is yesterday's": {func(w *world, yesterday, _ memory) { w.setShards(yesterday, same) }, -1},
		"both are emptied": {func(w *world, _, m memory) {
			w.setKey(nil)
			w.setShards(m, empty)
		}, 0},
	}
	const count = 20
	for i, name := range slices.Sorted(maps.Keys(tests)) {
		tc := tests[name]
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fmt.Sprintf("kept-%d", i))
			var apps []fixture.App
			for i := range count {
				app := w.app(fmt.Sprintf("app-%02d", i), fmt.Sprintf("source-%02d", i))
				apps = append(apps, app)
				w.set(app.ConfigMaps[0], "yesterday")
			}
			w.create(apps...)
			e := w.engine("a", unlimited()...)
			e.up()
			w.quiet(2 * time.Second)
			yesterday := w.memory()
			since := w.now()
			w.each(count, func(ctx context.Context, i int) error {
				return fixture.SetConfigMap(ctx, w.client, w.apps, apps[i].ConfigMaps[0], map[string]string{"value": "today"})
			})
			w.awaitReloaded(count, since)
			w.quiet(2 * time.Second)
			w.requireReloads(1, since, workloadsOf(apps)...)
			e.terminate()

			since = w.now()
			tc.damage(w, yesterday, w.memory())
			w.set(apps[0].ConfigMaps[0], "changed meanwhile")
			e.up()
			w.quiet(3 * time.Second)
			w.requireReloads(0, since, workloadsOf(apps[1:])...)
			if tc.wantChanged >= 0 {
				w.requireReloads(tc.wantChanged, since, apps[0].Workload())
			}

			since = w.now()
			w.each(count, func(ctx context.Context, i int) error {
				return fixture.SetConfigMap(ctx, w.client, w.apps, apps[i].ConfigMaps[0], map[string]string{"value": "tomorrow"})
			})
			w.awaitReloaded(count, since)
			w.quiet(time.Second)
			w.requireReloads(1, since, workloadsOf(apps)...)
			e.terminate()
			e.up()
			w.quiet(2 * time.Second)
			w.requireReloads(1, since, workloadsOf(apps)...)
			e.terminate()
		})
	}
}

// otherKey is one of the same form.
func otherKey(key map[string][]byte) map[string][]byte {
	other := map[string][]byte{}
	for name, value := range key {
		other[name] = slices.Clone(value)
		for i := range value {
			other[name][i] ^= 0x55
		}
	}
	return other
}
