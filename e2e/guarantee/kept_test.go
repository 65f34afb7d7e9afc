package guarantee

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/guarantee/fault"
	product "k8s-reloader/reloader/engine"
)

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
	for i, name := range some(random(t), efforts().keptCases, slices.Sorted(maps.Keys(tests))) {
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

// TestManyFillTheKeyAtOnce: engines that start at the same time agree.
func TestManyFillTheKeyAtOnce(t *testing.T) {
	const engines = 8
	w := newWorld(t, "key")
	for round := range w.keyRounds {
		w.setKey(nil)
		ids := make([]string, engines)
		w.each(engines, func(ctx context.Context, i int) error {
			key, err := product.ClusterKey(ctx, shared.RESTConfig(), w.own, keySecret, logr.Discard())
			ids[i] = key.ID()
			return err
		})
		require.Len(t, slices.Compact(slices.Clone(ids)), 1, "round %d: %v", round, ids)
	}
}

// TestABurstMakesAHandfulOfCheckpointWrites: they are batches, a second apart.
func TestABurstMakesAHandfulOfCheckpointWrites(t *testing.T) {
	w := newWorld(t, "burst")
	var apps []fixture.App
	for i := range w.burstChanges {
		name := fmt.Sprintf("app-%04d", i)
		apps = append(apps, w.app(name, name))
	}
	write := func(value string) {
		w.each(w.burstChanges, func(ctx context.Context, i int) error {
			return fixture.SetConfigMap(ctx, w.client, w.apps, apps[i].Name, map[string]string{"value": value})
		})
	}
	write("0")
	w.create(apps...)
	e := w.engine("a", unlimited()...)
	e.up()
	w.awaitCheckpoint()
	since, before, began := w.now(), e.proxy.Counts(), time.Now()
	write("1")
	w.awaitReloaded(w.burstChanges, since)
	w.quiet(2 * time.Second)
	took := time.Since(began)
	of := fault.What{Verb: "update", Resource: "configmaps"}
	writes := e.proxy.Counts().Total[of] - before.Total[of]
	t.Logf("%d changes in %s: %d writes of the checkpoint", w.burstChanges, took.Round(time.Second), writes)
	assert.Positive(t, writes)
	assert.LessOrEqual(t, writes, shards*(1+int(took/time.Second)))
	w.requireReloads(1, since, workloadsOf(apps)...)
	e.terminate()
}
