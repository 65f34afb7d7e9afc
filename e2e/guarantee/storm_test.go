package guarantee

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/guarantee/history"
)

// stormReloads of one workload open the breaker.
const stormReloads = 3

// TestTwoWritersFightOverASecret: one that many workloads depend on changes
// every second.
func TestTwoWritersFightOverASecret(t *testing.T) {
	w := newWorld(t, "storm")
	// The ReplicaSets are not what this is about, and would be most of the work.
	require.NoError(t, shared.Signal(cluster.ControllerManager, syscall.SIGSTOP))
	t.Cleanup(func() { assert.NoError(t, shared.Signal(cluster.ControllerManager, syscall.SIGCONT)) })
	const secret = "password"
	hold := func(value string) {
		w.eventually("write Secret "+secret, func(ctx context.Context) error {
			return fixture.SetSecret(ctx, w.client, w.apps, secret, map[string]string{"value": value})
		})
	}
	hold("0")
	var apps []fixture.App
	for i := range w.stormWorkloads {
		app := w.app(fmt.Sprintf("app-%04d", i))
		app.Secrets = []string{secret}
		apps = append(apps, app)
	}
	w.create(apps...)
	e := w.engine("a", fmt.Sprintf("--breaker-reloads=%d", stormReloads))
	e.up()
	since := w.now()

	ended, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	var answers []time.Duration
	asking.Go(func() { answers = w.ask(ended) })
	began := time.Now()
	for i := 1; time.Since(began) < w.stormFor; i++ {
		hold(fmt.Sprint(i))
		w.wait(time.Second)
	}
	held := e.proxy.Counts()
	for i := range 5 {
		hold(fmt.Sprint("and on ", i))
		w.wait(time.Second)
	}
	requests := e.proxy.Counts().All() - held.All()
	stop()
	asking.Wait()

	slices.Sort(answers)
	slowest := answers[len(answers)-1]
	t.Logf("%d workloads, %d reloads; the API server answered somebody else within %s, half the time within %s; %d requests in 5 s when all are held",
		w.stormWorkloads, w.reloads(since), slowest.Round(time.Millisecond), answers[len(answers)/2].Round(time.Millisecond), requests)
	assert.Less(t, slowest, 5*time.Second)
	assert.LessOrEqual(t, w.reloads(since), stormReloads*w.stormWorkloads)
	assert.Less(t, requests, 5*50, "requests while everybody is held back")
	assert.GreaterOrEqual(t, e.metric(`reloader_reloads_held_total{workload_kind="Deployment"}`), float64(w.stormWorkloads))

	// When the hold is over, everybody gets what is there then.
	w.requireRight(3 * time.Minute)
	assert.LessOrEqual(t, w.reloads(since), (stormReloads+1)*w.stormWorkloads)
	w.history.Look(func(s *history.Story) { require.NoError(t, s.SameMarks()) })
	e.terminate()
}

// ask asks the API server for something small again and again, and returns how
// long each answer took.
func (w *world) ask(ctx context.Context) (answers []time.Duration) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		began := time.Now()
		_, err := w.client.CoreV1().Secrets(w.own).Get(ctx, keySecret, metav1.GetOptions{})
		if ctx.Err() != nil {
			return answers
		}
		if err != nil {
			w.t.Errorf("the API server did not answer: %v", err)
			return answers
		}
		answers = append(answers, time.Since(began))
		select {
		case <-ctx.Done():
			return answers
		case <-ticker.C:
		}
	}
}

// reloads counts those of all workloads since that revision.
func (w *world) reloads(since int64) (count int) {
	w.history.Look(func(s *history.Story) {
		for workload := range s.Workloads {
			count += len(s.Reloads(workload, since))
		}
	})
	return count
}
