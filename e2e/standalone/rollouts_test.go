package standalone

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
)

// progressOf is what the status of a workload says, as its controller writes it.
func progressOf(t *testing.T, w workload) kind.Progress {
	t.Helper()
	k, ok := kind.BuiltIn().ByName(w.kind)
	require.True(t, ok)
	raw, err := w.read(t).MarshalJSON()
	require.NoError(t, err)
	m, err := k.Decode(raw)
	require.NoError(t, err)
	return m.Progress
}

// A StatefulSet whose controller replaces only some of its pods, or none, gives
// its place to the next one as soon as those are replaced.
func TestAPartitionHoldsNoPlace(t *testing.T) {
	tests := map[string]struct {
		kind reloader.WorkloadKind
		spec map[string]any
		// wantNew is how many pods get the new template, wantEnd how it ends.
		wantNew int
		wantEnd kind.Progress
	}{
		"partition": {reloader.StatefulSet, map[string]any{
			"updateStrategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"partition": int64(2)}},
		}, 1, kind.Healthy},
		"partition-above-all": {reloader.StatefulSet, map[string]any{
			"updateStrategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"partition": int64(3)}},
		}, 0, kind.Idle},
		"no-partition": {reloader.StatefulSet, nil, 3, kind.Healthy},
		"on-delete":    {reloader.StatefulSet, map[string]any{"updateStrategy": map[string]any{"type": "OnDelete"}}, 0, kind.Idle},
		"paused":       {reloader.Deployment, map[string]any{"paused": true}, 0, kind.Idle},
		"min-ready":    {reloader.Deployment, map[string]any{"minReadySeconds": int64(2)}, 3, kind.Healthy},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "place-"+name)
			edit(t, ns, "settings", "1")
			first := workload{kind: tc.kind, ns: ns, name: "a-first", annotations: auto(), pod: using("settings"), replicas: 3, spec: map[string]any{}}
			if tc.kind == reloader.StatefulSet {
				first.spec["serviceName"] = "none"
			}
			for field, value := range tc.spec {
				if field != "paused" {
					first.spec[field] = value
				}
			}
			first.create(t)
			require.Eventually(t, func() bool { return len(podsOf(t, first)) == 3 }, time.Minute, often)
			require.Eventually(t, func() bool { return progressOf(t, first) != kind.Rolling }, time.Minute, often)
			if tc.spec["paused"] == true {
				first.patch(t, `{"spec":{"paused":true}}`)
			}
			old := podsOf(t, first)
			second := newApp(t, ns, "second")
			_, r := startEngine(t, within(ns), func(o *engine.Options) { o.ConcurrentRollouts = 1 })

			requireReload(t, r, first.key(), func() { edit(t, ns, "settings", "2") })
			edit(t, ns, "second", "1")
			require.Eventually(t, func() bool { return r.count(second.Workload()) == 1 }, time.Minute, often, "it has its turn")
			assert.Equal(t, tc.wantEnd, progressOf(t, first))
			replaced := 0
			for uid := range podsOf(t, first) {
				if !old[uid] {
					replaced++
				}
			}
			assert.Equal(t, tc.wantNew, replaced, "not before the first one is done")
			if tc.kind == reloader.StatefulSet && tc.wantNew < 3 {
				current, _, _ := unstructured.NestedString(first.read(t).Object, "status", "currentRevision")
				update, _, _ := unstructured.NestedString(first.read(t).Object, "status", "updateRevision")
				assert.NotEqual(t, current, update, "by its revisions it rolls for ever")
			}
		})
	}
}

// Each deploy brings the whole template, as Terraform does, and so takes away what
// a reload has written. It is no revert, however often it comes.
func TestDeploysHoldNothingBack(t *testing.T) {
	ns := namespace(t, "deploys")
	edit(t, ns, "app", "0")
	app := fixture.App{Namespace: ns, Name: "app", Annotations: auto(), ConfigMaps: []string{"app"}}
	_, err := deployments(ns).Create(t.Context(), app.Deployment(), metav1.CreateOptions{FieldManager: "terraform"})
	require.NoError(t, err)
	_, r := startEngine(t, within(ns))
	for i := range 4 {
		edit(t, ns, app.Name, fmt.Sprint(i+1))
		require.Eventually(t, func() bool { return r.count(app.Workload()) == i+1 }, soon, often)
		app.Image = fmt.Sprint("registry.example/app:", i+1)
		_, err := deployments(ns).Update(t.Context(), app.Deployment(), metav1.UpdateOptions{FieldManager: "terraform"})
		require.NoError(t, err)
		heard(t, r, ns, fmt.Sprint("heard-", i))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Empty(t, r.takenBack)
}

// A Rollout that borrows its template has no new generation of its own: it has
// rolled out when its controller has acted on the Deployment's.
func TestABorrowerGivesItsPlaceBack(t *testing.T) {
	everyKind(t)
	ns := namespace(t, "place-borrower")
	edit(t, ns, "settings", "1")
	lender := workload{kind: reloader.Deployment, ns: ns, name: "lender", pod: using("settings")}
	lender.create(t)
	w := borrowing(ns, "a-first", "lender", auto())
	w.create(t)
	healthy(t, w)
	second := newApp(t, ns, "second")
	_, r := startEngine(t, within(ns), func(o *engine.Options) { o.ConcurrentRollouts = 1 })
	requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
	edit(t, ns, "second", "1")
	require.Eventually(t, func() bool { return r.count(second.Workload()) == 1 }, time.Minute, often, "it has its turn")
	assert.Equal(t, kind.Healthy, progressOf(t, w))
	observed, _, _ := unstructured.NestedString(w.read(t).Object, "status", "workloadObservedGeneration")
	assert.Equal(t, fmt.Sprint(lender.read(t).GetGeneration()), observed, "it was not let go before that")
}
