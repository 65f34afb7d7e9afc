package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/cluster/process"
)

// child is a process that is measured.
type child struct {
	*process.Process
	group *process.Group
	ready time.Duration // from its start
}

// command is a program that listens on --listen-address and answers /readyz.
type command struct {
	name, program string
	args          []string
	kubeconfig    string
	env           []string // beside that of this process
}

// engineArgs are those of every engine: no window to wait for, and no limit on
// the reloads of one workload, of which there are many here.
func engineArgs(more ...string) []string {
	return append([]string{"engine", "--coalesce-window=0", "--verify-interval=-1s", "--breaker-reloads=-1"}, more...)
}

// startEngine runs the product's engine as administrator, and returns when it
// is ready.
func (b *bench) startEngine(ctx context.Context, c *cluster.Cluster) (*child, error) {
	return startChild(ctx, c, command{name: "engine", program: b.program, args: engineArgs(), kubeconfig: c.Kubeconfig()})
}

// startReplica runs one of the engines that share a key and a checkpoint, as a
// ServiceAccount of that name, and returns when it is ready.
func (b *bench) startReplica(ctx context.Context, c *cluster.Cluster, name string, args ...string) (*child, error) {
	kubeconfig, err := c.ServiceAccountKubeconfig(ctx, own, name)
	if err != nil {
		return nil, err
	}
	return startChild(ctx, c, command{
		name:       name,
		program:    b.program,
		args:       append(engineArgs("--fingerprint-key-secret="+keySecret, "--checkpoint="+checkpointName), args...),
		kubeconfig: kubeconfig,
		env:        []string{"POD_NAMESPACE=" + own, "POD_NAME=" + name},
	})
}

// startChild returns when the program is ready.
func startChild(ctx context.Context, c *cluster.Cluster, run command) (*child, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	group, err := process.NewGroup(ctx, "")
	if err != nil {
		return nil, err
	}
	started := time.Now()
	p, err := group.Start(ctx, process.Spec{
		Name: run.name,
		Path: run.program,
		Args: append(run.args, "--kubeconfig="+run.kubeconfig, "--listen-address="+address),
		Env:  append(os.Environ(), run.env...),
		Log:  filepath.Join(c.Dir(), run.name+".log"),
	})
	if err != nil {
		return nil, err
	}
	up := &child{Process: p, group: group}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
		if err != nil {
			return nil, err
		}
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			if err := answer.Body.Close(); err != nil {
				return nil, err
			}
			if answer.StatusCode == http.StatusOK {
				up.ready = time.Since(started)
				return up, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.Done():
			return nil, p.Failure()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (c *child) stop() error {
	if err := c.Stop(10 * time.Second); err != nil {
		return err
	}
	return c.group.Close()
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
