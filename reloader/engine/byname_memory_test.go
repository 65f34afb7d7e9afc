package engine

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine/internal/share"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
)

// heapOf returns what is in memory of an intake, with its index and its ledger, once
// it has taken in so many workloads, and of its book.
func heapOf(t *testing.T, memory, workloads int, workload func(i int) app) (bytes, used int) {
	t.Helper()
	s := policy.Settings{Keys: keys}
	before := heapInUse()
	q := newQueues(clock.RealClock{}, nil)
	in := newIntake(s, kind.BuiltIn(), 0, index.New(s), newLedger(), q, share.New(memory))
	in.ledger.named = in.index.Named
	for i := range workloads {
		a := workload(i)
		in.observe(a.workload, a.meta(), at(uint64(i+1)))
		require.False(t, in.open(a.workload))
	}
	q.shutDown()
	in.queues = nil // what waits in queues is not kept
	bytes = int(heapInUse()) - int(before)
	used = in.shares.Used("shop")
	runtime.KeepAlive(in)
	return bytes, used
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// hungry is a workload whose lists and references are as long as they may be.
func hungry(t *testing.T, i int) app {
	t.Helper()
	a := newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: fmt.Sprint("app-", i)})
	list := func(of string) string {
		names := make([]string, 1000)
		for n := range names {
			names[n] = fmt.Sprintf("%s-%d-%d-%s", of, i, n, strings.Repeat("x", 20))
		}
		return strings.Join(names, ",")
	}
	a.annotations = map[string]string{
		keys.Auto: "true", keys.ConfigMapNamed: list("c"), keys.SecretNamed: list("s"),
		keys.ConfigMapExclude: list("e"), keys.PausePeriod: strings.Repeat("p", 10_000),
	}
	return a.recorded(t, func(r *record.Record) {
		r.References = nil
		for n := range 1_400 {
			r.References = append(r.References, reloader.Reference{
				Kind: reloader.Secret, Name: fmt.Sprint("r-", i, "-", n), How: reloader.HowEnv,
			})
		}
	})
}

// TestANamespaceTakesItsShareOfMemory: hundreds of workloads that are as large as they may be
// take the share of their namespace, and for the rest not much more than ordinary ones.
func TestANamespaceTakesItsShareOfMemory(t *testing.T) {
	const workloads, memory = 300, 8 << 20
	floor, _ := heapOf(t, share.Unlimited, workloads, func(i int) app {
		return newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: fmt.Sprint("app-", i)}).recorded(t)
	})
	one, counted := heapOf(t, share.Unlimited, 4, func(i int) app { return hungry(t, i) })
	all, used := heapOf(t, memory, workloads, func(i int) app { return hungry(t, i) })
	t.Logf("%d ordinary workloads: %d KiB; 4 hungry ones: %d KiB, counted as %d KiB; %d of them: %d KiB, of a share of %d KiB",
		workloads, floor>>10, one>>10, counted>>10, workloads, all>>10, memory>>10)
	assert.LessOrEqual(t, used, memory)
	assert.Positive(t, used, "the first ones are kept in full")
	assert.Less(t, all, memory+2*floor)
	assert.Greater(t, one/4*workloads, 50*(memory+2*floor), "without a share they would take more than fifty times that")
}

// TestWhatAWorkloadCosts: what is counted is rather too much.
func TestWhatAWorkloadCosts(t *testing.T) {
	const workloads = 30
	list := func(i, n int, text string) string {
		var names []string
		for k := range n {
			names = append(names, fmt.Sprintf(text, i, k))
		}
		return strings.Join(names, ",")
	}
	tests := map[string]func(i int, a *app){
		"ordinary": func(_ int, _ *app) {},
		"long names": func(i int, a *app) {
			a.annotations[keys.SecretNamed] = list(i, 50, "secret-%d-%d-"+strings.Repeat("x", 200))
		},
		"short names":         func(i int, a *app) { a.annotations[keys.SecretNamed] = list(i, 900, "%d-%d") },
		"excluded names":      func(i int, a *app) { a.annotations[keys.SecretExclude] = list(i, 900, "%d-%d") },
		"patterns":            func(i int, a *app) { a.annotations[keys.SecretNamed] = list(i, 90, "p%d-%d.*") },
		"references":          func(i int, a *app) { a.configMaps = strings.Split(list(i, 900, "%d-%d"), ",") },
		"entries of no use":   func(i int, a *app) { a.annotations[keys.SecretNamed] = list(i, 200, "(%d-%d") },
		"a long pause period": func(_ int, a *app) { a.annotations[keys.PausePeriod] = strings.Repeat("p", 50_000) },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			bytes, counted := heapOf(t, share.Unlimited, workloads, func(i int) app {
				a := newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: fmt.Sprint("app-", i)})
				return a.with(func(a *app) { change(i, a) }).recorded(t)
			})
			t.Logf("%d bytes, counted as %d", bytes/workloads, counted/workloads)
			assert.LessOrEqual(t, bytes, counted)
			assert.LessOrEqual(t, counted, 8*bytes, "not far too much")
		})
	}
}
