package guarantee

import (
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/guarantee/fault"
)

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func TestEveryFifthRequestGoesWrong(t *testing.T) {
	w := newWorld(t, "faults")
	c := w.chaos(20, 40)
	e := w.engine("a", unlimited()...)
	e.up()
	c.settled()
	before := e.proxy.Counts()
	e.proxy.Inject(0.2)
	began := time.Now()
	for range w.changesAtFault {
		c.any()
		w.wait(w.upTo(100 * time.Millisecond))
	}
	w.missed()
	// What is refused several times in a row waits up to 23 s for its next list, and up
	// to minutes for its next patch, and a fifth of those is refused again.
	w.requireRight(6 * time.Minute)
	took := time.Since(began)
	counts := e.proxy.Counts()
	t.Logf("%d changes and the rest took %s\n%s", w.changesAtFault, took.Round(time.Second), counts)
	assert.Greater(t, counts.Injected(), w.changesAtFault/6)
	// A change costs a look and some patches. What goes wrong is repeated, and
	// that is all; a busy loop makes thousands in a second.
	requests := counts.All() - before.All()
	assert.Less(t, requests, 20*w.changesAtFault)
	assert.Less(t, counts.PeakOfAll, 400, "requests in a second")
	e.terminate()
}

func TestCutOffFromTheAPIServer(t *testing.T) {
	ways := map[string]struct{ cut func(*fault.Proxy) }{
		"refused": {func(p *fault.Proxy) { p.Refuse() }},
		"silent":  {func(p *fault.Proxy) { p.Silence() }},
	}
	w := newWorld(t, "cut-off")
	c := w.chaos(20, 40)
	e := w.engine("a", unlimited()...)
	e.up()
	c.settled()
	for name, way := range ways {
		c.change()
		way.cut(e.proxy)
		before := e.proxy.Counts()
		for range 30 {
			c.any()
		}
		reached := e.proxy.Counts().All()
		c.change() // which would make a request of the engine's
		w.wait(w.cutOff)
		counts := e.proxy.Counts()
		assert.Equal(t, reached, counts.All(), "%s: requests come through", name)
		tries := counts.Connections - before.Connections
		t.Logf("%s: %d tries to connect", name, tries)
		assert.Less(t, tries, 20*int(w.cutOff/time.Second), "tries to connect in %s", w.cutOff)
		e.proxy.Heal()
		w.missed()
		w.requireRight(2 * time.Minute)
	}
	e.terminate()
}

// burst makes random changes until the event is over, and some more.
func (c *chaos) burst(event func()) {
	c.t.Helper()
	over := make(chan struct{})
	for range 10 + c.random.IntN(20) {
		c.any()
	}
	go func() {
		defer close(over)
		event()
	}()
	for going := true; going; {
		select {
		case <-over:
			going = false
		default:
			c.any()
		}
	}
	for range 20 {
		c.any()
	}
}

func TestAPIServerRestarts(t *testing.T) {
	w := newWorld(t, "restarts")
	c := w.chaos(20, 40)
	e := w.engine("a", unlimited()...)
	e.up()
	c.settled()
	for range w.restarts {
		c.burst(func() { assert.NoError(t, shared.Restart(t.Context(), cluster.APIServer)) })
		w.missed()
		w.requireRight(2 * time.Minute)
	}
	e.terminate()
}

func TestEtcdStops(t *testing.T) {
	w := newWorld(t, "etcd")
	c := w.chaos(20, 40)
	e := w.engine("a", unlimited()...)
	e.up()
	c.settled()
	before := e.proxy.Counts()
	c.burst(func() {
		if err := shared.Signal(cluster.Etcd, syscall.SIGSTOP); err != nil {
			t.Error(err)
			return
		}
		timer := time.NewTimer(w.etcdPause)
		defer timer.Stop()
		<-timer.C
		assert.NoError(t, shared.Signal(cluster.Etcd, syscall.SIGCONT))
	})
	w.missed()
	w.requireRight(2 * time.Minute)
	counts := e.proxy.Counts()
	t.Logf("%s", counts)
	assert.Less(t, counts.All()-before.All(), 4000)
	e.terminate()
}

func TestWatchHistoryIsCompacted(t *testing.T) {
	w := newWorld(t, "compacted")
	c := w.chaos(20, 40)
	e := w.engine("a", unlimited()...)
	e.up()
	c.settled()
	for i := range w.restarts {
		c.change()
		e.proxy.Refuse()
		for range 30 {
			c.any()
		}
		// The API server keeps events of its own, as long as it runs.
		w.quiet(200 * time.Millisecond)
		require.NoError(t, etcd.Compact(t.Context(), w.now()))
		require.NoError(t, shared.Restart(t.Context(), cluster.APIServer))
		before := e.proxy.Counts()
		e.proxy.Heal()
		w.missed()
		w.requireRight(2 * time.Minute)
		lists := e.proxy.Counts().Total[fault.What{Verb: "list", Resource: "configmaps"}] - before.Total[fault.What{Verb: "list", Resource: "configmaps"}]
		assert.Positive(t, lists, "round %d: the engine did not list again, so its watch went on", i)
	}
	e.terminate()
}
