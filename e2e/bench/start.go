package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/cluster/process"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/checkpoint"
)

const (
	// runs of each process; the fastest counts, as the one least disturbed.
	runs = 3
	// idle is how long a process rests before its memory is read.
	idle = 10 * time.Second
)

// start measures engines from exec to ready, and their memory when idle, on
// clusters of several sizes.
func start(ctx context.Context, b *bench) error {
	for _, withRecords := range []bool{true, false} {
		if err := b.withCluster(ctx, cluster.Options{}, func(c *cluster.Cluster) error {
			return b.starts(ctx, c, withRecords)
		}); err != nil {
			return err
		}
	}
	return b.withCluster(ctx, cluster.Options{AuditUsers: []string{userOf(replicas()[0])}}, func(c *cluster.Cluster) error {
		return b.resumes(ctx, c)
	})
}

func (b *bench) starts(ctx context.Context, c *cluster.Cluster, withRecords bool) error {
	with := "without records"
	if withRecords {
		with = "with records"
	}
	if err := createNamespace(ctx, c); err != nil {
		return err
	}
	secretsThere, workloadsThere := 0, 0
	for _, size := range []struct{ workloads, secrets int }{{1200, 2000}, {1200, 10000}, {10000, 10000}} {
		if !withRecords && size.workloads == 1200 && size.secrets > 2000 {
			continue
		}
		what := fmt.Sprintf("%d workloads %s, %d unreferenced Secrets", size.workloads, with, size.secrets)
		b.say("creating %s", what)
		if err := createSecrets(ctx, c.Client(), secretsThere, size.secrets-secretsThere); err != nil {
			return err
		}
		secretsThere = size.secrets
		prefix := fmt.Sprintf("app-%d", workloadsThere)
		if err := createApps(ctx, c.Client(), prefix, size.workloads-workloadsThere, withRecords); err != nil {
			return err
		}
		workloadsThere = size.workloads
		if err := settled(ctx, c); err != nil {
			return err
		}
		ours, err := b.measureStart(ctx, c, b.startEngine)
		if err != nil {
			return err
		}
		floor, err := b.measureStart(ctx, c, b.startFloor)
		if err != nil {
			return err
		}
		goal := ""
		if size.workloads == 1200 {
			goal = "under 40 MiB"
		}
		b.table.duration("ready: "+what, ours.ready, floor.ready, "")
		b.table.duration("CPU until ready: "+what, ours.cpu, floor.cpu, "")
		b.table.size("memory when idle: "+what, ours.memory, floor.memory, goal)
	}
	return nil
}

// resumes measures starts with a checkpoint, after which nothing has changed:
// every workload depends on a source of its own, a ConfigMap or a Secret.
func (b *bench) resumes(ctx context.Context, c *cluster.Cluster) error {
	const size = 10000
	what := fmt.Sprintf("%d workloads with records, %d referenced sources, a checkpoint", size, size)
	b.say("creating %s", what)
	if err := createNamespace(ctx, c); err != nil {
		return err
	}
	if err := createOwn(ctx, c); err != nil {
		return err
	}
	err := each(ctx, size, func(ctx context.Context, i int) error {
		app := fixture.App{Namespace: namespace, Name: fmt.Sprintf("app-%d", i)}
		set := fixture.SetConfigMap
		if i%2 == 0 {
			app.ConfigMaps = []string{app.Name}
		} else {
			app.Secrets, set = []string{app.Name}, fixture.SetSecret
		}
		if err := set(ctx, c.Client(), namespace, app.Name, map[string]string{"a": "0"}); err != nil {
			return err
		}
		return createApp(ctx, c.Client(), app, true, true)
	})
	if err != nil {
		return err
	}
	if err := settled(ctx, c); err != nil {
		return err
	}
	resume := func(ctx context.Context, c *cluster.Cluster) (*child, error) {
		return b.startReplica(ctx, c, replicas()[0])
	}
	// The first start writes the checkpoint.
	if _, err := measureOnce(ctx, c, resume, false); err != nil {
		return err
	}
	mark, err := c.AuditMark()
	if err != nil {
		return err
	}
	ours, err := b.measureStart(ctx, c, resume)
	if err != nil {
		return err
	}
	requests, err := c.AuditSince(mark)
	if err != nil {
		return err
	}
	floor, err := b.measureStart(ctx, c, b.startFloor)
	if err != nil {
		return err
	}
	b.table.duration("ready: "+what, ours.ready, floor.ready, "under 5 s")
	b.table.duration("CPU until ready: "+what, ours.cpu, floor.cpu, "")
	b.table.size("most memory ever: "+what, ours.peak, floor.peak, "under 80 MiB")
	b.table.size("memory when idle: "+what, ours.memory, floor.memory, "under 80 MiB")
	// Eight watches, the checkpoint, the key.
	const fewest = 8 + checkpoint.Shards + 1
	b.table.count("requests: "+what, (len(requests)+runs-1)/runs, fewest, "3 beyond")
	return nil
}

// footprint is what one process took.
type footprint struct {
	ready  time.Duration
	cpu    time.Duration
	memory int64 // when idle
	peak   int64
}

func (b *bench) measureStart(ctx context.Context, c *cluster.Cluster,
	begin func(context.Context, *cluster.Cluster) (*child, error),
) (best footprint, err error) {
	for i := range runs {
		f, err := measureOnce(ctx, c, begin, i == runs-1)
		if err != nil {
			return footprint{}, err
		}
		if i == 0 || f.ready < best.ready {
			best.ready = f.ready
		}
		if i == 0 || f.cpu < best.cpu {
			best.cpu = f.cpu
		}
		best.memory = max(best.memory, f.memory)
		best.peak = max(best.peak, f.peak)
	}
	return best, nil
}

func measureOnce(ctx context.Context, c *cluster.Cluster,
	begin func(context.Context, *cluster.Cluster) (*child, error), memory bool,
) (f footprint, err error) {
	p, err := begin(ctx, c)
	if err != nil {
		return footprint{}, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	usage, err := process.UsageOf(p.PID())
	if err != nil {
		return footprint{}, err
	}
	f = footprint{ready: p.ready, cpu: usage.CPU, peak: usage.PeakResident}
	if !memory {
		return f, nil
	}
	if err := rest(ctx, idle); err != nil {
		return footprint{}, err
	}
	usage, err = process.UsageOf(p.PID())
	f.memory, f.peak = usage.Resident, usage.PeakResident
	return f, err
}

// startFloor runs this program as the floor of a start.
func (b *bench) startFloor(ctx context.Context, c *cluster.Cluster) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return startChild(ctx, c, command{name: "floor", program: self, args: []string{"floor"}, kubeconfig: c.Kubeconfig()})
}
