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
			events, err := shared.AuditSince(mark)
			require.NoError(t, err)
			gap, err := oneAfterTheOther(events, userOf(leadersNamespace, leader.name), userOf(leadersNamespace, other.name))
			require.NoError(t, err, "the leader was %s", name)
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

// oneAfterTheOther fails if the old leader has written after the new one got the
// lease, or the new one before, or never, and returns what lay between their
// writes: 0 if the old one made none.
func oneAfterTheOther(events []cluster.AuditEvent, before, after string) (time.Duration, error) {
	var last, lead, first cluster.AuditEvent
	for _, e := range events {
		if e.Code >= 300 || e.Verb != "patch" && e.Verb != "update" {
			continue
		}
		isNew, isLease := e.User == after, e.Resource == "leases"
		switch {
		case isNew && isLease && lead.Time.IsZero():
			lead = e
		case isNew && e.Group == "apps" && first.Time.IsZero():
			first = e
		case e.User == before && e.Group == "apps":
			if !lead.Time.IsZero() {
				return 0, fmt.Errorf("%s wrote %s at %s, after %s had got the lease at %s", before, e.Name, e.Time, after, lead.Time)
			}
			last = e
		}
	}
	switch {
	case lead.Time.IsZero():
		return 0, fmt.Errorf("%s never wrote the lease", after)
	case first.Time.IsZero():
		return 0, fmt.Errorf("%s has the lease and wrote nothing", after)
	case first.Time.Before(lead.Time):
		return 0, fmt.Errorf("%s wrote %s at %s, before it got the lease at %s", after, first.Name, first.Time, lead.Time)
	case last.Time.IsZero():
		return 0, nil
	}
	return first.Time.Sub(last.Time), nil
}

func TestOneAfterTheOther(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	event := func(second int, user, group, resource string, code int) cluster.AuditEvent {
		verb := map[string]string{"apps": "patch", "coordination.k8s.io": "update"}[group]
		return cluster.AuditEvent{
			Verb: verb, User: user, Group: group, Resource: resource, Name: "x", Code: code, Time: begin.Add(time.Duration(second) * time.Second),
		}
	}
	lease := func(second int, user string) cluster.AuditEvent {
		return event(second, user, "coordination.k8s.io", "leases", 200)
	}
	reload := func(second int, user string) cluster.AuditEvent {
		return event(second, user, "apps", "deployments", 200)
	}
	refused := func(second int, user string) cluster.AuditEvent {
		return event(second, user, "apps", "deployments", 409)
	}
	tests := map[string]struct {
		events  []cluster.AuditEvent
		want    time.Duration
		wantErr string
	}{
		"one after the other":                  {events: []cluster.AuditEvent{lease(1, "old"), reload(2, "old"), lease(17, "new"), reload(18, "new"), lease(19, "new"), reload(20, "new")}, want: 16 * time.Second},
		"the old one came to nothing":          {events: []cluster.AuditEvent{lease(1, "old"), lease(17, "new"), reload(18, "new")}},
		"the old one's late write was refused": {events: []cluster.AuditEvent{reload(2, "old"), lease(17, "new"), refused(18, "old"), reload(19, "new")}, want: 17 * time.Second},
		"both write":                           {events: []cluster.AuditEvent{reload(2, "old"), lease(17, "new"), reload(18, "new"), reload(19, "old")}, wantErr: "old wrote x"},
		"the old one writes on":                {events: []cluster.AuditEvent{reload(2, "old"), lease(17, "new"), reload(18, "old"), reload(19, "new")}, wantErr: "old wrote x"},
		"the new one does not wait":            {events: []cluster.AuditEvent{reload(2, "old"), reload(3, "new"), lease(17, "new")}, wantErr: "new wrote x"},
		"the new one has no lease":             {events: []cluster.AuditEvent{reload(2, "old"), reload(3, "new")}, wantErr: "never wrote the lease"},
		"the new one does nothing":             {events: []cluster.AuditEvent{reload(2, "old"), lease(17, "new"), refused(18, "new")}, wantErr: "wrote nothing"},
		"nothing was heard of":                 {wantErr: "never wrote the lease"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := oneAfterTheOther(tc.events, "old", "new")
			if tc.wantErr != "" {
				require.ErrorContains(t, err, tc.wantErr)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}
