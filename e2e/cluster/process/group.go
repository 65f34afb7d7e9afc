package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
)

// guardScript ends the group when its standard input ends. It ignores the
// SIGTERM that it sends to everyone, and dies by its own SIGKILL.
const guardScript = `
trap '' HUP INT TERM
while read -r _; do :; done
kill -TERM 0
sleep 1
[ -n "$1" ] && rm -rf -- "$1"
kill -KILL 0
`

// Group owns child processes. Its methods may be called concurrently.
type Group struct {
	guard *exec.Cmd
	// pipe is the write end of the guard's standard input: never written to.
	pipe *os.File

	mu sync.Mutex
	// processes has every process that was started; guarded by mu.
	processes []*Process
	// closed refuses further processes; guarded by mu.
	closed bool
}

// NewGroup starts the guard. If this process dies before Close, the guard
// removes the folder remove; empty removes nothing.
func NewGroup(ctx context.Context, remove string) (*Group, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the guard's pipe: %w", err)
	}
	guard := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", guardScript, "reloader-cluster-guard", remove)
	guard.Stdin = read
	guard.Dir = "/"
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = guard.Start()
	err = errors.Join(err, read.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the guard: %w", err), write.Close())
	}
	return &Group{guard: guard, pipe: write}, nil
}

// Start runs a process in the group. ctx is not kept: the process ends by
// itself, by one of its methods, or with the group.
func (g *Group) Start(ctx context.Context, s Spec) (*Process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("start %s: the group is closed", s.Name)
	}
	p, err := start(ctx, s, g.guard.Process.Pid)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	// Forgetting those that ended keeps a group that restarts pods for days small.
	g.processes = append(slices.DeleteFunc(g.processes, (*Process).Ended), p)
	return p, nil
}

// PIDs returns the process ids of the guard and of all that still runs.
func (g *Group) PIDs() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	pids := []int{g.guard.Process.Pid}
	for _, p := range g.processes {
		if !p.Ended() {
			pids = append(pids, p.PID())
		}
	}
	return pids
}

// Close kills every process of the group and waits for them. Stop those first
// that should end gracefully. Closing again does nothing.
func (g *Group) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	processes := g.processes
	g.mu.Unlock()

	var errs []error
	// The guard has not been waited for yet, so its id cannot belong to others.
	if err := syscall.Kill(-g.guard.Process.Pid, syscall.SIGKILL); err != nil {
		errs = append(errs, fmt.Errorf("kill the process group: %w", err))
	}
	if err := g.guard.Wait(); err != nil {
		if _, killed := errors.AsType[*exec.ExitError](err); !killed {
			errs = append(errs, fmt.Errorf("wait for the guard: %w", err))
		}
	}
	for _, p := range processes {
		<-p.Done()
	}
	return errors.Join(append(errs, g.pipe.Close())...)
}
