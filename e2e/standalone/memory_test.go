package standalone

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/engine"
)

// remembers gives the engines of a test, one after the other, the same key and
// checkpoint.
func remembers(t *testing.T, ns string) func(*engine.Options) {
	t.Helper()
	const name = "checkpoint"
	for shard := range checkpoint.Shards {
		require.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), ns, fmt.Sprintf("%s-%d", name, shard), nil))
	}
	key, err := engine.RandomKey()
	require.NoError(t, err)
	return func(o *engine.Options) {
		o.Key = key
		o.Checkpoint, err = checkpoint.New(shared.Client().CoreV1().ConfigMaps(ns), checkpoint.Options{
			Namespace: ns, Name: name, KeyID: key.ID(), Log: o.Log,
		})
		require.NoError(t, err)
	}
}

// requireRollouts fails unless the Deployment controller has rolled each of the
// Deployments out that often since its creation, and then no more.
func requireRollouts(t *testing.T, want map[reloader.Workload]int) {
	t.Helper()
	got := func() map[reloader.Workload]int {
		counts := map[reloader.Workload]int{}
		for w := range want {
			counts[w] = -1 // the controller has yet to look
			d, err := deployments(w.Namespace).Get(t.Context(), w.Name, metav1.GetOptions{})
			if err != nil || d.Status.ObservedGeneration != d.Generation {
				continue
			}
			if revision, err := strconv.Atoi(d.Annotations["deployment.kubernetes.io/revision"]); err == nil {
				counts[w] = revision - 1
			}
		}
		return counts
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) { assert.Equal(t, want, got()) }, 2*soon, often)
	require.Never(t, func() bool {
		for w, n := range got() {
			if n > want[w] {
				return true
			}
		}
		return false
	}, quiet, often)
}
