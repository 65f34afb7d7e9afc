package guarantee

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/guarantee/fault"
	"k8s-reloader/e2e/guarantee/history"
)

// isPatch reports whether the request is a reload.
func isPatch(r fault.Request) bool {
	return r.Verb == "patch" && r.Namespace != "" && r.Name != "" && r.Resource == "deployments"
}

// isCheckpoint reports whether the request writes a shard of the checkpoint.
func isCheckpoint(r fault.Request) bool {
	return (r.Verb == "update" || r.Verb == "patch") && r.Resource == "configmaps" && strings.HasPrefix(r.Name, checkpoint+"-")
}

// step is a step of a fan-out: a moment of the nth request of a sort.
type step struct {
	of     func(fault.Request) bool
	nth    int
	moment fault.Moment
}

// ambush calls strike once, at the step, and cuts the request there: a client
// that is dead sends no more, and hears no more. From then on all pass.
func (s step) ambush(strike func()) func(fault.Request, fault.Moment) bool {
	var count, struck atomic.Int64
	return func(r fault.Request, m fault.Moment) bool {
		if m != s.moment || !s.of(r) || count.Add(1) != int64(s.nth) {
			return true
		}
		if struck.Add(1) == 1 {
			strike()
		}
		return false
	}
}

// fanOut makes Deployments that share a ConfigMap.
func (w *world) fanOut(count int) []fixture.App {
	w.t.Helper()
	// The ReplicaSets are not what this is about, and would be most of the work.
	require.NoError(w.t, shared.Signal(cluster.ControllerManager, syscall.SIGSTOP))
	w.t.Cleanup(func() { assert.NoError(w.t, shared.Signal(cluster.ControllerManager, syscall.SIGCONT)) })
	w.set("settings", "0")
	var apps []fixture.App
	for i := range count {
		apps = append(apps, w.app(fmt.Sprintf("app-%03d", i), "settings"))
	}
	w.create(apps...)
	return apps
}

// TestKilledRightAfterTheFirstStart: an engine that says that it is ready has
// promised something, also when nothing was kept before.
func TestKilledRightAfterTheFirstStart(t *testing.T) {
	w := newWorld(t, "first-start")
	apps := w.fanOut(20)
	e := w.engine("a", unlimited()...)
	e.up()
	since := w.now()
	e.lieInWait(step{isPatch, 10, fault.Done}.ambush(e.kill))
	w.set("settings", "1")
	e.requireEnd(128+int(syscall.SIGKILL), time.Minute)
	e.lieInWait(nil)
	e.up()
	w.awaitReloaded(len(apps), since)
	w.quiet(2 * time.Second)
	w.requireReloads(1, since, workloadsOf(apps)...)
	e.terminate()
}

func TestKilledAtEveryStepOfAFanOut(t *testing.T) {
	w := newWorld(t, "kill")
	apps := w.fanOut(w.killWorkloads)
	e := w.engine("a", unlimited()...)
	e.up()
	w.awaitCheckpoint()
	first := w.now()
	steps := map[string]func() step{
		"before the first patch":                    func() step { return step{isPatch, 1, fault.Arrived} },
		"before the first patch is answered":        func() step { return step{isPatch, 1, fault.Done} },
		"in the middle, before a patch":             func() step { return step{isPatch, 2 + w.random.IntN(w.killWorkloads-2), fault.Arrived} },
		"in the middle, before a patch is answered": func() step { return step{isPatch, 2 + w.random.IntN(w.killWorkloads-2), fault.Done} },
		"before the last patch is answered":         func() step { return step{isPatch, w.killWorkloads, fault.Done} },
		"before the checkpoint is written":          func() step { return step{isCheckpoint, 1, fault.Arrived} },
		"while the checkpoint is written":           func() step { return step{isCheckpoint, 1, fault.Done} },
	}
	names := slices.Sorted(maps.Keys(steps))
	took := map[string]time.Duration{}
	for round := range w.killRounds {
		began := time.Now()
		name := names[(round+w.random.IntN(2))%len(names)]
		since := w.now()
		e.lieInWait(steps[name]().ambush(e.kill))
		w.set("settings", fmt.Sprint(round+1))
		select {
		case <-e.current().Done():
		case <-time.After(time.Minute):
			require.Failf(t, "the engine never came to the step", "round %d, %s; %d workloads were reloaded", round, name, w.reloaded(since))
		}
		e.lieInWait(nil)
		reloaded := w.reloaded(since)
		if w.random.IntN(4) == 0 {
			name += ", and again at the start"
			e.start()
			w.wait(w.upTo(600 * time.Millisecond))
			e.kill()
		}
		e.up()
		w.awaitReloaded(w.killWorkloads, since)
		w.quiet(150 * time.Millisecond)
		w.requireReloads(1, since, workloadsOf(apps)...)
		took[name] += time.Since(began)
		t.Logf("round %3d: killed %s (%d of %d reloaded), right after %s", round, name, reloaded, w.killWorkloads, time.Since(began).Round(time.Millisecond))
	}
	w.quiet(2 * time.Second)
	w.requireReloads(w.killRounds, first, workloadsOf(apps)...)
	w.history.Look(func(s *history.Story) { require.NoError(t, s.SameMarks()) })
	w.requireRight(time.Minute)
}
