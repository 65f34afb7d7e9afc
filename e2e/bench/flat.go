package main

import (
	"context"
	"errors"
	"time"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/cluster/process"
)

// passes over the changing Deployments: enough changes for a clock of CPU time
// that ticks every 10 ms.
const passes = 3

// cost is what one change takes.
type cost struct{ latency, floor, cpu time.Duration }

// flat measures changes, one at a time, on a small cluster and on the same one
// when it has grown. The floor at both sizes tells what of a difference is the
// API server's.
func flat(ctx context.Context, b *bench) error {
	return b.withCluster(ctx, cluster.Options{}, func(c *cluster.Cluster) error {
		ours, floor := side{prefix: "ours"}, side{prefix: "floor", patches: true}
		if err := createNamespace(ctx, c); err != nil {
			return err
		}
		for _, s := range []side{ours, floor} {
			if err := s.createOnes(ctx, c.Client()); err != nil {
				return err
			}
		}
		const before, after = 1000, 20000
		small, err := b.costAt(ctx, c, "small", before-2*changing, ours, floor)
		if err != nil {
			return err
		}
		large, err := b.costAt(ctx, c, "large", after-before, ours, floor)
		if err != nil {
			return err
		}
		b.table.duration("change to rollout, p50: at 20,000 workloads, beside 1,000", large.latency, small.latency, "1.2 x")
		b.table.duration("the same of the program that only patches", large.floor, small.floor, "")
		b.table.duration("CPU of the engine for a change: at 20,000 workloads, beside 1,000", large.cpu, small.cpu, "1.2 x")
		return nil
	})
}

// costAt adds that many workloads and measures.
func (b *bench) costAt(ctx context.Context, c *cluster.Cluster, name string, more int, ours, floor side) (at cost, err error) {
	b.say("creating %d workloads", more)
	if err := createApps(ctx, c.Client(), name, more, true); err != nil {
		return cost{}, err
	}
	if err := settled(ctx, c); err != nil {
		return cost{}, err
	}
	engine, err := b.startEngine(ctx, c)
	if err != nil {
		return cost{}, err
	}
	defer func() { err = errors.Join(err, engine.stop()) }()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r, err := newRollout(ctx, c, fail)
	if err != nil {
		return cost{}, err
	}
	b.say("one at a time, %d each", passes*changing)
	// The first ones open connections and size buffers.
	if _, err := r.oneAtATime(ctx, ours, 1); err != nil {
		return cost{}, err
	}
	before, err := process.UsageOf(engine.PID())
	if err != nil {
		return cost{}, err
	}
	single, err := r.oneAtATime(ctx, ours, passes)
	if err != nil {
		return cost{}, err
	}
	after, err := process.UsageOf(engine.PID())
	if err != nil {
		return cost{}, err
	}
	patched, err := r.oneAtATime(ctx, floor, passes)
	return cost{
		latency: quantile(single, 0.5),
		floor:   quantile(patched, 0.5),
		cpu:     (after.CPU - before.CPU) / time.Duration(len(single)),
	}, err
}

func (r *rollout) oneAtATime(ctx context.Context, s side, times int) (all []time.Duration, err error) {
	for i := range times * changing {
		took, err := r.edit(ctx, s, s.one(i%changing), s.one(i%changing))
		if err != nil {
			return nil, err
		}
		all = append(all, took...)
	}
	return all, nil
}
