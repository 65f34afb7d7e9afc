package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/leader"
)

const (
	terminations = 15
	kills        = 3
	// leaseDuration is the engine's: nobody can take over before it is over,
	// except from a leader that has released the lease.
	leaseDuration = 15 * time.Second
)

// pair is two engines of which one leads.
type pair struct {
	*bench
	cluster *cluster.Cluster
	rollout *rollout
	running map[string]*child
}

// takeOver measures the time from the end of the leader to the first rollout
// by the other one, of a change that was made right after.
func takeOver(ctx context.Context, b *bench) error {
	var users []string
	for _, name := range replicas() {
		users = append(users, userOf(name))
	}
	return b.withCluster(ctx, cluster.Options{AuditUsers: users}, func(c *cluster.Cluster) error {
		ours, floor := side{prefix: "ours"}, side{prefix: "floor", patches: true}
		b.say("creating %d workloads and %d Secrets", bystanders+4*changing, secrets)
		if err := populate(ctx, c, ours, floor); err != nil {
			return err
		}
		if err := createOwn(ctx, c); err != nil {
			return err
		}
		ctx, fail := context.WithCancelCause(ctx)
		defer fail(nil)
		r, err := newRollout(ctx, c, fail)
		if err != nil {
			return err
		}
		p := &pair{bench: b, cluster: c, rollout: r, running: map[string]*child{}}
		return errors.Join(p.measure(ctx, ours, floor), p.stop())
	})
}

func (p *pair) measure(ctx context.Context, ours, floor side) error {
	for _, name := range replicas() {
		if err := p.start(ctx, name); err != nil {
			return err
		}
	}
	// Whoever leads is at work.
	if _, err := p.rollout.edit(ctx, ours, ours.one(0), ours.one(0)); err != nil {
		return err
	}
	var patched, terminated, killed []time.Duration
	p.say("take-over, %d times after SIGTERM and %d times after kill -9", terminations, kills)
	for i := range terminations {
		took, err := p.rollout.edit(ctx, floor, floor.one(i), floor.one(i))
		if err != nil {
			return err
		}
		patched = append(patched, took...)
		// The one that stands by asks for the lease from time to time, first when
		// it was started just now. Its clock is met at all hours.
		if err := rest(ctx, 2*time.Second*time.Duration(i)/terminations); err != nil {
			return err
		}
		after, err := p.strike(ctx, syscall.SIGTERM, ours.one(i))
		if err != nil {
			return err
		}
		terminated = append(terminated, after)
	}
	for i := range kills {
		after, err := p.strike(ctx, syscall.SIGKILL, ours.one(i))
		if err != nil {
			return err
		}
		killed = append(killed, after)
	}
	p.table.duration("SIGTERM of the leader to a rollout by the other, median, beside one PATCH", quantile(terminated, 0.5), quantile(patched, 0.5), "under 1 s")
	p.table.duration(fmt.Sprintf("the same, the slowest of %d", terminations), quantile(terminated, 1), quantile(patched, 1), "under 1 s")
	p.table.duration(fmt.Sprintf("kill -9 of the leader to a rollout by the other, the slowest of %d, beside the lease", kills), quantile(killed, 1), leaseDuration, "under 17 s")
	return nil
}

// strike ends the leader, changes the ConfigMap of the Deployment's name and
// returns how long after the signal the other replica had rolled it out. Then
// it starts the old leader again.
func (p *pair) strike(ctx context.Context, signal syscall.Signal, name string) (time.Duration, error) {
	old, err := p.leader(ctx)
	if err != nil {
		return 0, err
	}
	struck := time.Now()
	if err := p.running[old].Signal(signal); err != nil {
		return 0, err
	}
	at, by, err := p.change(ctx, name)
	if err == nil && by == userOf(old) {
		// It was faster than the signal. It has ended by now.
		at, by, err = p.change(ctx, name)
	}
	if err != nil {
		return 0, err
	}
	if by == userOf(old) {
		return 0, fmt.Errorf("replica %s goes on reloading after a signal: %s", old, signal)
	}
	if err := p.running[old].stop(); err != nil {
		return 0, err
	}
	delete(p.running, old)
	return at.Sub(struck), p.start(ctx, old)
}

// change edits the ConfigMap of the Deployment's name, and returns when and by
// which user it was rolled out.
func (p *pair) change(ctx context.Context, name string) (at time.Time, by string, err error) {
	mark, err := p.cluster.AuditMark()
	if err != nil {
		return at, "", err
	}
	changed := p.rollout.observer.next(name)
	value := time.Now().Format(time.RFC3339Nano)
	if err := fixture.SetConfigMap(ctx, p.rollout.client, namespace, name, map[string]string{"a": value}); err != nil {
		return at, "", err
	}
	if at, err = await(ctx, changed, name); err != nil {
		return at, "", err
	}
	// The log may lag behind the watch.
	err = wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		requests, err := p.cluster.AuditSince(mark)
		for _, r := range requests {
			if r.Verb == "patch" && r.Resource == "deployments" {
				by = r.User
			}
		}
		return by != "", err
	})
	return at, by, err
}

func (p *pair) start(ctx context.Context, name string) error {
	c, err := p.startReplica(ctx, p.cluster, name, "--enable-ha")
	if err != nil {
		return err
	}
	p.running[name] = c
	return nil
}

func (p *pair) stop() error {
	var problems []error
	for _, c := range p.running {
		problems = append(problems, c.stop())
	}
	return errors.Join(problems...)
}

// leader waits until one of the replicas holds the lease.
func (p *pair) leader(ctx context.Context) (name string, err error) {
	leases := p.cluster.Client().CoordinationV1().Leases(own)
	err = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		lease, err := leases.Get(ctx, leader.DefaultName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if holder := lease.Spec.HolderIdentity; holder != nil {
			name = *holder
		}
		return p.running[name] != nil, nil
	})
	return name, err
}
