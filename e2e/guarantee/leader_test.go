package guarantee

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/guarantee/fault"
	"k8s-reloader/e2e/guarantee/history"
)

const (
	leadersNamespace = "leaders"
	leaderApps       = 60
	lease            = "stakater-reloader-lock"
	// takeOver is the lease's duration, and time for the rest on a busy machine.
	takeOver = 25 * time.Second
	// handOver is less than the lease's duration: it was given back.
	handOver = 10 * time.Second
)

// leader is the name of the engine that holds the lease; empty if none does.
func (w *world) leader() string {
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	l, err := w.client.CoordinationV1().Leases(w.own).Get(ctx, lease, metav1.GetOptions{})
	if err != nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	// Some add something of their own to the pod's name.
	name, _, _ := strings.Cut(*l.Spec.HolderIdentity, "_")
	return name
}

func TestTwoEnginesAndTheLeaderFails(t *testing.T) {
	ways := map[string]struct {
		strike func(leader *engine)
		// meanwhile happens as soon as the other one leads; nil is nothing.
		meanwhile func(leader *engine)
		// recover brings the old leader back when the other one has done its work.
		recover func(leader *engine)
		limit   time.Duration
	}{
		"killed": {
			strike:  func(leader *engine) { leader.kill() },
			recover: func(*engine) {},
			limit:   takeOver,
		},
		"terminated": {
			strike:  func(leader *engine) { leader.signal(syscall.SIGTERM) },
			recover: func(leader *engine) { leader.requireEnd(0, 20*time.Second) },
			limit:   handOver,
		},
		"paused for longer than the lease": {
			strike: func(leader *engine) { leader.signal(syscall.SIGSTOP) },
			recover: func(leader *engine) {
				leader.signal(syscall.SIGCONT)
				leader.requireEnd(1, 20*time.Second)
			},
			limit: takeOver,
		},
		"paused, and woken when the other leads": {
			strike:    func(leader *engine) { leader.signal(syscall.SIGSTOP) },
			meanwhile: func(leader *engine) { leader.signal(syscall.SIGCONT) },
			recover:   func(leader *engine) { leader.requireEnd(1, 20*time.Second) },
			limit:     takeOver,
		},
		"cut off in silence": {
			strike:  func(leader *engine) { leader.proxy.Silence() },
			recover: func(leader *engine) { leader.requireEnd(1, 20*time.Second); leader.proxy.Heal() },
			limit:   takeOver,
		},
		"cut off, healed and still running": {
			strike: func(leader *engine) { leader.proxy.Refuse() },
			recover: func(leader *engine) {
				leader.proxy.Heal()
				leader.requireEnd(1, 20*time.Second)
			},
			limit: takeOver,
		},
	}
	w := newWorld(t, leadersNamespace)
	apps := w.fanOut(leaderApps)
	args := append(unlimited(), "--enable-ha")
	engines := map[string]*engine{"a": w.engine("a", args...), "b": w.engine("b", args...)}
	for _, e := range engines {
		e.up()
	}
	w.awaitCheckpoint()
	first := w.now()
	rounds := 0
	for _, name := range some(w.random, w.leaderWays, slices.Sorted(maps.Keys(ways))) {
		way := ways[name]
		for range w.leaderRounds {
			rounds++
			require.Eventually(t, func() bool { return engines[w.leader()] != nil }, 30*time.Second, 20*time.Millisecond, "nobody leads")
			leader := engines[w.leader()]
			other := engines["a"]
			if leader == other {
				other = engines["b"]
			}
			since := w.now()
			mark, err := shared.AuditMark()
			require.NoError(t, err)
			nth, moment := 1+w.random.IntN(leaderApps), fault.Arrived
			if w.random.IntN(2) == 0 {
				moment = fault.Done
			}
			var struck time.Time
			done := make(chan struct{})
			leader.lieInWait(step{isPatch, nth, moment}.ambush(func() {
				struck = time.Now()
				way.strike(leader)
				close(done)
			}))
			w.set("settings", fmt.Sprint(rounds))
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				require.Failf(t, "the leader did not reload", "%s leads", leader.name)
			}
			leader.lieInWait(nil)
			require.Eventually(t, func() bool { return w.leader() == other.name }, way.limit, 20*time.Millisecond, "%s does not lead, the leader was %s", other.name, name)
			lead := time.Since(struck)
			if way.meanwhile != nil {
				way.meanwhile(leader)
			}
			w.awaitReloaded(leaderApps, since)
			w.quiet(300 * time.Millisecond)
			w.requireReloads(1, since, workloadsOf(apps)...)
			// What the old leader still has in mind is out of date when it wakes.
			since = w.now()
			w.set("settings", fmt.Sprint(rounds, " and on"))
			w.awaitReloaded(leaderApps, since)
			way.recover(leader)
			w.quiet(time.Second)
			w.requireReloads(1, since, workloadsOf(apps)...)
			gap := requireOneAfterTheOther(t, mark, leader.name, other.name)
			if leader.current().Ended() {
				leader.up()
			}
			w.quiet(500 * time.Millisecond)
			require.Equal(t, other.name, w.leader(), "the lead moved without need")
			w.requireReloads(1, since, workloadsOf(apps)...)
			t.Logf("leader %s at patch %d (%s): the other had the lease after %s; from the last write of the old to the first of the new %s",
				name, nth, moment, lead.Round(time.Millisecond), gap.Round(time.Millisecond))
		}
	}
	w.requireReloads(2*rounds, first, workloadsOf(apps)...)
	w.history.Look(func(s *history.Story) { require.NoError(t, s.SameMarks()) })
	for _, e := range engines {
		e.kill()
	}
}

// requireOneAfterTheOther fails if the old leader has written after the new one
// got the lease, and returns what lay between their writes.
func requireOneAfterTheOther(t *testing.T, mark cluster.AuditMark, before, after string) time.Duration {
	t.Helper()
	events, err := shared.AuditSince(mark)
	require.NoError(t, err)
	var last, lead, first cluster.AuditEvent
	for _, e := range events {
		if e.Code >= 300 || e.Verb != "patch" && e.Verb != "update" {
			continue
		}
		isNew, isLease := e.User == userOf(leadersNamespace, after), e.Resource == "leases"
		switch {
		case isNew && isLease && lead.Time.IsZero():
			lead = e
		case isNew && !isLease && e.Group == "apps" && first.Time.IsZero():
			first = e
		case !isNew && e.Group == "apps":
			assert.True(t, lead.Time.IsZero(), "%s wrote %s at %s, after %s had got the lease at %s", before, e.Name, e.Time, after, lead.Time)
			last = e
		}
	}
	require.False(t, lead.Time.IsZero(), "%s never wrote the lease", after)
	if !first.Time.IsZero() {
		assert.True(t, first.Time.After(lead.Time), "%s wrote %s at %s, before it got the lease at %s", after, first.Name, first.Time, lead.Time)
	}
	if last.Time.IsZero() || first.Time.IsZero() {
		return 0
	}
	return first.Time.Sub(last.Time)
}
