package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
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

// startEngine runs the product's engine, as administrator and without a
// coalescing window, and returns when it is ready.
func (b *bench) startEngine(ctx context.Context, c *cluster.Cluster) (*child, error) {
	return b.startChild(ctx, c, "engine", b.program, "engine", "--coalesce-window=0", "--verify-interval=-1s")
}

// startChild runs a program that listens on --listen-address and answers
// /readyz.
func (b *bench) startChild(ctx context.Context, c *cluster.Cluster, name, program string, args ...string) (*child, error) {
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
		Name: name,
		Path: program,
		Args: append(args, "--kubeconfig="+c.Kubeconfig(), "--listen-address="+address),
		Log:  filepath.Join(c.Dir(), name+".log"),
	})
	if err != nil {
		return nil, err
	}
	run := &child{Process: p, group: group}
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
				run.ready = time.Since(started)
				return run, nil
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
