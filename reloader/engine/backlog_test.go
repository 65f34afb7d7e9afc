package engine

import (
	"fmt"
	"net/http"
	"path"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
)

// Workloads that cannot be reloaded, and sources that change: so much is due, and
// no more, until some of it is paid. Nothing is lost, and a start does not wait.
func TestWhatIsDueInANamespaceIsBounded(t *testing.T) {
	const workloads, sources, most = 20, 30, 100
	version := 5
	server := play(t, func(r request) (int, http.Header, any) {
		o := configMapObject(path.Base(r.path), strconv.Itoa(version), strconv.Itoa(version))
		o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
		return http.StatusOK, nil, &o
	})
	e := newTestEngine(t, server.config, new(told))
	c := clocktesting.NewFakeClock(time.Now())
	e.backlog = newBacklog(c, most, e.ledger.debtsIn)
	for i := range workloads {
		w := reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: fmt.Sprint("w-", i)}
		e.intake.observe(w, newApp(w).with(func(a *app) {
			a.annotations, a.configMaps = map[string]string{keys.ConfigMapNamed: "app-.*"}, nil
		}).recorded(t).meta(), moment{})
	}
	drain(e.queues.sources)
	for on := range e.ledger.searchers {
		e.ledger.searched(on, e.ledger.searchersOn(on))
	}
	name := func(i int) reloader.Source { return configMap(fmt.Sprint("app-", i)) }
	readAll := func() {
		for i := range sources {
			require.NoError(t, e.readSource(t.Context(), name(i)))
		}
	}
	for i := range sources {
		e.ledger.news(name(i), uint64(version))
	}
	readAll()
	require.Zero(t, e.ledger.debtsIn("shop"), "that is where it begins")

	version = 6
	for i := range sources {
		e.ledger.news(name(i), uint64(version))
	}
	asked := len(server.requests)
	readAll()
	debts := e.ledger.debtsIn("shop")
	assert.Greater(t, debts, most)
	assert.LessOrEqual(t, debts, most+workloads, "one look more than there is room for")
	assert.Equal(t, debts/workloads, len(server.requests)-asked, "what waits is not read")
	assert.True(t, e.late("shop"))
	assert.False(t, e.late("bank"))

	rounds := 0
	reloaded := map[reloader.Workload]map[reloader.Source]struct{}{}
	for ; e.ledger.debtsIn("shop") > 0; rounds++ {
		require.Less(t, rounds, sources, "it comes to an end")
		for i := range workloads {
			w := reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: fmt.Sprint("w-", i)}
			for _, d := range e.ledger.due(w) {
				of := reloaded[w]
				put(&of, d.source, struct{}{})
				reloaded[w] = of
			}
			e.ledger.paid(w, e.ledger.due(w))
		}
		c.Step(backlogLook)
		readAll()
	}
	assert.Greater(t, rounds, 3)
	require.Len(t, reloaded, workloads)
	for w, of := range reloaded {
		assert.Len(t, of, sources, "%s has got all changes", w)
	}
	e.backlog.sweep()
	assert.Empty(t, e.backlog.due)
}

func TestABacklogWithoutBound(t *testing.T) {
	b := newBacklog(clocktesting.NewFakePassiveClock(time.Now()), 0, func(string) int { return 1 << 30 })
	b.add("shop", 1<<30)
	assert.False(t, b.full("shop"))
}
