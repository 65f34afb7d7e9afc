package podrunner

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster/process"
)

const (
	// firstBackOff doubles with each restart up to lastBackOff, and starts
	// again after the container has run for steadyAfter.
	firstBackOff = time.Second
	lastBackOff  = 30 * time.Second
	steadyAfter  = time.Minute
)

// container is one container of a pod, across its restarts.
type container struct {
	pod  *pod
	spec *corev1.Container
	// program is the file to run; empty if the image stands for none.
	program string
	probes  *prober

	mu sync.Mutex
	// All that follows is guarded by mu.
	process  *process.Process
	state    corev1.ContainerState
	last     corev1.ContainerState
	started  bool
	ready    bool
	restarts int32
	// done says that it will not run again.
	done bool
}

// run runs the container, again and again as the pod's restart policy wants,
// until it is done or ctx ends.
func (c *container) run(ctx context.Context) {
	if c.program == "" {
		c.waiting("ImagePullBackOff", "no program stands for image "+c.spec.Image)
		return
	}
	backOff := time.Duration(0)
	for {
		began := metav1.Now()
		if err := c.start(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			c.waiting("CreateContainerConfigError", err.Error())
			if !sleep(ctx, time.Second) {
				return
			}
			continue
		}
		code, reason := c.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		restart := c.restartsAfter(code)
		c.terminated(began, code, reason, restart)
		if !restart {
			return
		}
		if time.Since(began.Time) > steadyAfter {
			backOff = 0
		}
		if backOff > 0 {
			c.waiting("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting container", backOff))
		}
		if !sleep(ctx, backOff) {
			return
		}
		backOff = min(max(firstBackOff, 2*backOff), lastBackOff)
	}
}

func (c *container) start(ctx context.Context) error {
	env, err := c.environment(ctx)
	if err != nil {
		return err
	}
	object := c.pod.object
	started, err := c.pod.runner.options.Group.Start(ctx, process.Spec{
		Name: fmt.Sprintf("container %s of pod %s/%s", c.spec.Name, object.Namespace, object.Name),
		Path: c.program,
		Args: arguments(c.spec, env.values),
		Env:  env.list(),
		Dir:  c.pod.dir,
		Log:  c.pod.runner.LogPath(object.Namespace, object.Name, c.spec.Name),
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.process = started
	c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	c.started = c.spec.StartupProbe == nil
	c.ready = c.started && c.spec.ReadinessProbe == nil
	c.mu.Unlock()
	c.pod.touch()
	return nil
}

// follow probes the process until it has ended, which it brings about when ctx
// ends or a probe wants it.
func (c *container) follow(ctx context.Context) (code int, reason string) {
	running := c.current()
	probing, cancel := context.WithCancel(ctx)
	sick := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { sick <- c.watchHealth(probing) })
	defer wg.Wait()
	defer cancel()

	var err error
	select {
	case <-running.Done():
	case <-ctx.Done():
		err = running.Stop(c.pod.stopGrace())
	case illness := <-sick:
		if ctx.Err() != nil {
			err = running.Stop(c.pod.stopGrace())
			break
		}
		c.pod.runner.logf("restart container %s of pod %s/%s: %v", c.spec.Name, c.pod.object.Namespace, c.pod.object.Name, illness)
		c.setHealth(false, false)
		err = running.Stop(terminationGrace(c.pod.object))
	}
	if err != nil {
		c.pod.runner.logf("%v", err)
	}
	code = running.ExitCode()
	if code == 0 {
		return code, "Completed"
	}
	return code, "Error"
}

func (c *container) restartsAfter(code int) bool {
	switch c.pod.object.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	default:
		return true
	}
}

func (c *container) terminated(began metav1.Time, code int, reason string, restart bool) {
	state := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: int32(code),
		Reason:   reason, StartedAt: began, FinishedAt: metav1.Now(),
	}}
	c.mu.Lock()
	c.state, c.started, c.ready = state, false, false
	c.done = !restart
	if restart {
		c.last = state
		c.restarts++
	}
	c.mu.Unlock()
	c.pod.touch()
}

func (c *container) waiting(reason, message string) {
	c.mu.Lock()
	c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	c.started, c.ready = false, false
	c.mu.Unlock()
	c.pod.touch()
}

func (c *container) setHealth(started, ready bool) {
	c.mu.Lock()
	changed := c.started != started || c.ready != ready
	c.started, c.ready = started, ready
	c.mu.Unlock()
	if changed {
		c.pod.touch()
	}
}

func (c *container) current() *process.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

func terminationGrace(pod *corev1.Pod) time.Duration {
	if pod.Spec.TerminationGracePeriodSeconds == nil {
		return corev1.DefaultTerminationGracePeriodSeconds * time.Second
	}
	return time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
}
