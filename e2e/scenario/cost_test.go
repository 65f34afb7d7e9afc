package scenario

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
)

// requireEvents waits until every workload has its Reloaded event.
func requireEvents(t *testing.T, namespace string, count int) {
	t.Helper()
	require.Eventually(t, func() bool {
		events, err := shared.Client().CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=Reloaded"})
		require.NoError(t, err)
		return len(events.Items) == count
	}, soon, often)
}

func TestAChangeCostsOneGetAndOnePatchPerWorkload(t *testing.T) {
	const sources, each = 10, 3
	r := given(t, nil)
	start := quietMark(t)
	ns := newNamespace(t, "cost")
	kinds := []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet}
	var apps []fixture.App
	for i := range sources {
		name := fmt.Sprintf("source-%d", i)
		setConfigMap(t, ns, name, "1")
		setSecret(t, ns, name, "1")
		for j := range each {
			app := fixture.App{Kind: kinds[j], Namespace: ns, Name: fmt.Sprintf("app-%d-%d", i, j), Annotations: auto()}
			if i%2 == 0 {
				app.ConfigMaps = []string{name}
			} else {
				app.Secrets = []string{name}
			}
			create(t, app)
			apps = append(apps, app)
		}
	}
	requireRequests(t, r, start, map[string]int{"get configmaps": sources / 2, "get secrets": sources / 2}, "each source is read once")
	mark := quietMark(t)

	for i := range sources {
		name := fmt.Sprintf("source-%d", i)
		if i%2 == 0 {
			setConfigMap(t, ns, name, "2")
		} else {
			setSecret(t, ns, name, "2")
		}
	}

	requireEvents(t, ns, len(apps))
	for _, app := range apps {
		assert.Equal(t, int64(2), read(t, app.Workload()).Meta.Generation, "%s has one rollout", app.Workload())
	}
	quietMark(t)
	asked := withoutCheckpoint(t, requests(t, r.EngineUser(), mark))
	assert.Equal(t, map[string]int{
		"get configmaps":     sources / 2,
		"get secrets":        sources / 2,
		"patch deployments":  sources,
		"patch statefulsets": sources,
		"patch daemonsets":   sources,
		"create events":      sources * each,
	}, tally(asked), "no list, and nothing beside")
	once := map[string]int{}
	for _, e := range asked {
		if e.Verb != "create" {
			once[e.RequestURI]++
		}
		assert.Less(t, e.Code, 300, "%s %s", e.Verb, e.RequestURI)
	}
	for uri, count := range once {
		assert.Equal(t, 1, count, uri)
	}
}

func TestManyChangesOfOneWorkloadCostOnePatch(t *testing.T) {
	r := given(t, nil)
	start := quietMark(t)
	ns := newNamespace(t, "coalesced")
	app := newApp(t, ns)
	app.Annotations[keys().CoalesceWindow] = unhurried
	create(t, app)
	requireRequests(t, r, start, sourcesRead(), "its sources are read once")
	mark := quietMark(t)

	setConfigMap(t, ns, app.Name, "2")
	setSecret(t, ns, app.Name, "2")

	requireEvents(t, ns, 1)
	quietMark(t)
	assert.Equal(t, map[string]int{"get configmaps": 1, "get secrets": 1, "patch deployments": 1, "create events": 1},
		tally(withoutCheckpoint(t, requests(t, r.EngineUser(), mark))))
	assert.Equal(t, int64(2), read(t, app.Workload()).Meta.Generation)
}

func TestAnAdmittedWorkloadIsNeverRead(t *testing.T) {
	r := given(t, nil)
	ns := newNamespace(t, "admitted")
	tests := map[string]struct {
		body        string
		subresource []string
		wantGets    int
	}{
		"the template changes":           {body: `{"spec":{"template":{"metadata":{"annotations":{"edited":"yes"}}}}}`},
		"an annotation changes":          {body: `{"metadata":{"annotations":{"note":"new"}}}`},
		"a label changes":                {body: `{"metadata":{"labels":{"note":"new"}}}`},
		"the status changes":             {body: `{"status":{"observedGeneration":1}}`, subresource: []string{"status"}},
		"a scale makes the record stale": {body: `{"spec":{"replicas":2}}`, subresource: []string{"scale"}, wantGets: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			mark := quietMark(t)
			app := newApp(t, ns)
			create(t, app)
			want := sourcesRead()
			requireRequests(t, r, mark, want, "its sources are read once")
			patch(t, app.Workload(), types.MergePatchType, tc.body, tc.subresource...)
			if tc.wantGets > 0 {
				want["get deployments"] = tc.wantGets
			}
			requireRequests(t, r, mark, want, "and never again")
		})
	}
}

func TestWhatNobodyReferencesCostsNothing(t *testing.T) {
	const updates = 1000
	r := given(t, nil)
	start := quietMark(t)
	ns := newNamespace(t, "unreferenced")
	app := newApp(t, ns)
	create(t, app)
	requireRequests(t, r, start, sourcesRead(), "its sources are read once")
	setSecret(t, ns, "nobody", "0")
	mark := quietMark(t)

	for i := range updates {
		setSecret(t, ns, "nobody", fmt.Sprint(i+1))
	}
	// One watch brings both, in order: when the app is reloaded, the engine has
	// seen all of the others.
	requireReload(t, app.Workload(), reloader.Secret, app.Name, func() { setSecret(t, ns, app.Name, "2") })

	requireEvents(t, ns, 1)
	quietMark(t)
	assert.Equal(t, map[string]int{"get secrets": 1, "patch deployments": 1, "create events": 1},
		tally(withoutCheckpoint(t, requests(t, r.EngineUser(), mark))), "all for the app")
	assert.Empty(t, requestsFor(requests(t, r.EngineUser(), mark), "nobody"))
}

// sourcesRead are the requests for the sources of one newApp.
func sourcesRead() map[string]int { return map[string]int{"get configmaps": 1, "get secrets": 1} }

// requireRequests waits until the engine has made these requests since the mark,
// and holds that it makes no others when it has nothing left to do. On a busy
// machine it may be quiet before it has begun.
func requireRequests(t *testing.T, r *install.Release, since cluster.AuditMark, want map[string]int, what string) {
	t.Helper()
	asked := func() map[string]int {
		return tally(slices.DeleteFunc(requests(t, r.EngineUser(), since), isOfCheckpoint))
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.Equal(c, want, asked()) }, soon, often, what)
	quietMark(t)
	require.Equal(t, want, asked(), what)
}

// withoutCheckpoint leaves out the writes of the checkpoint, which come in
// batches: no more of them than the parts that it has, twice.
func withoutCheckpoint(t *testing.T, events []cluster.AuditEvent) []cluster.AuditEvent {
	t.Helper()
	others := slices.DeleteFunc(slices.Clone(events), isOfCheckpoint)
	assert.LessOrEqual(t, len(events)-len(others), 2*checkpoint.Shards, "writes of the checkpoint")
	return others
}

func isOfCheckpoint(e cluster.AuditEvent) bool {
	return e.Verb == "update" && strings.Contains(e.Name, "-checkpoint-")
}

func requestsFor(events []cluster.AuditEvent, name string) []cluster.AuditEvent {
	var found []cluster.AuditEvent
	for _, e := range events {
		if e.Name == name {
			found = append(found, e)
		}
	}
	return found
}
