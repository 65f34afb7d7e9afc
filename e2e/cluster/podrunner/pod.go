package podrunner

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/cluster/process"
)

// pod is one pod's life from its binding to its end.
type pod struct {
	runner *Runner
	// object is the pod as first seen. What can change later is in labels.
	object *corev1.Pod
	dir    string
	began  metav1.Time
	// containers have a program here; the others of the pod wait for an image
	// that nobody will pull.
	containers []*container
	// ending is closed when the pod has to end.
	ending chan struct{}
	// changed has one element when the status may be out of date.
	changed chan struct{}

	mu sync.Mutex
	// ip is the pod's address, empty until it has one; guarded by mu.
	ip string
	// labels are the newest; guarded by mu.
	labels map[string]string
	// ended says that ending is closed; guarded by mu.
	ended bool
	// grace is how long the processes have between SIGTERM and SIGKILL, once
	// the pod is ending; guarded by mu.
	grace time.Duration
}

func newPod(r *Runner, object *corev1.Pod) *pod {
	p := &pod{
		runner:  r,
		object:  object,
		dir:     filepath.Join(r.options.Dir, object.Namespace+"_"+object.Name+"_"+string(object.UID)),
		began:   metav1.Now(),
		ending:  make(chan struct{}),
		changed: make(chan struct{}, 1),
		labels:  object.Labels,
	}
	for i := range object.Spec.Containers {
		spec := &object.Spec.Containers[i]
		p.containers = append(p.containers, &container{pod: p, spec: spec, program: r.options.Images[spec.Image], probes: newProber()})
	}
	return p
}

// update takes over what may have changed in the cluster.
func (p *pod) update(object *corev1.Pod) {
	p.mu.Lock()
	p.labels = object.Labels
	p.mu.Unlock()
	if object.DeletionTimestamp != nil {
		grace := int64(0)
		if object.DeletionGracePeriodSeconds != nil {
			grace = *object.DeletionGracePeriodSeconds
		}
		p.end(time.Duration(grace) * time.Second)
	}
}

// end makes run end the processes and then the pod. Only the first call counts.
func (p *pod) end(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended, p.grace = true, grace
		close(p.ending)
	}
}

// run returns when the pod is gone from the cluster, or ctx has ended; then
// none of its processes runs.
func (p *pod) run(ctx context.Context) {
	if err := p.takeAddress(); err != nil {
		p.runner.logf("pod %s/%s cannot run: %v", p.object.Namespace, p.object.Name, err)
	} else {
		p.live(ctx)
		p.runner.addresses.release(p.address())
	}
	select {
	case <-p.ending:
		p.finish(ctx)
	case <-ctx.Done():
	}
	if err := os.RemoveAll(p.dir); err != nil {
		p.runner.logf("pod %s/%s: %v", p.object.Namespace, p.object.Name, err)
	}
}

// live runs the containers until the pod is to end.
func (p *pod) live(ctx context.Context) {
	living, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if p.finished() || p.isEnding() {
		select {
		case <-ctx.Done():
		case <-p.ending:
		}
		return
	}
	wg.Go(func() { p.reportStatus(living) })
	wg.Go(func() {
		if p.prepare(living) {
			wg.Go(func() { p.keepToken(living) })
			for _, c := range p.containers {
				wg.Go(func() { c.run(living) })
			}
		}
	})
	select {
	case <-ctx.Done():
	case <-p.ending:
	}
}

func (p *pod) isEnding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// finished says whether the pod had already run to its end when first seen.
func (p *pod) finished() bool {
	return p.object.Status.Phase == corev1.PodSucceeded || p.object.Status.Phase == corev1.PodFailed
}

// prepare makes what the containers share, as often as it takes; false means
// that ctx ended first.
func (p *pod) prepare(ctx context.Context) bool {
	for {
		err := os.MkdirAll(p.dir, 0o700)
		if err == nil {
			err = p.writeKubeconfig()
		}
		if err == nil {
			err = p.renewToken(ctx)
		}
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			p.runner.logf("pod %s/%s: %v", p.object.Namespace, p.object.Name, err)
		}
		if !sleep(ctx, time.Second) {
			return false
		}
	}
}

// finish tells the API server that nothing of the pod runs any more.
func (p *pod) finish(ctx context.Context) {
	now := int64(0)
	for {
		err := p.runner.client.CoreV1().Pods(p.object.Namespace).Delete(ctx, p.object.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now,
			Preconditions:      metav1.NewUIDPreconditions(string(p.object.UID)),
		})
		// A conflict means that another pod has the name by now.
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || ctx.Err() != nil {
			return
		}
		p.runner.logf("delete pod %s/%s: %v", p.object.Namespace, p.object.Name, err)
		if !sleep(ctx, time.Second) {
			return
		}
	}
}

// reportStatus writes the status whenever it has changed.
func (p *pod) reportStatus(ctx context.Context) {
	var written corev1.PodStatus
	p.touch()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		}
		status := p.status(written.Conditions)
		if apiequality.Semantic.DeepEqual(status, written) {
			continue
		}
		if err := p.writeStatus(ctx, status); err != nil {
			if ctx.Err() == nil && !apierrors.IsNotFound(err) {
				p.runner.logf("%v", err)
			}
			if sleep(ctx, time.Second) {
				p.touch()
			}
			continue
		}
		written = status
	}
}

// writeStatus uses a merge patch: a strategic one would append to podIPs, of
// which the API server allows one per family. The uid makes it fail for a
// successor of the same name.
func (p *pod) writeStatus(ctx context.Context, status corev1.PodStatus) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.object.UID}, "status": status})
	if err != nil {
		return fmt.Errorf("encode the status of pod %s/%s: %w", p.object.Namespace, p.object.Name, err)
	}
	_, err = p.runner.client.CoreV1().Pods(p.object.Namespace).
		Patch(ctx, p.object.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("write the status of pod %s/%s: %w", p.object.Namespace, p.object.Name, err)
	}
	return nil
}

// touch has the status looked at again, and the Services that lead here.
func (p *pod) touch() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
	p.runner.services.touch()
}

func (p *pod) takeAddress() error {
	ip, err := p.runner.addresses.take()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ip = ip
	return err
}

func (p *pod) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ip
}

// stopGrace is how long a process has that must end because the pod does.
func (p *pod) stopGrace() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.grace
}

func (p *pod) runningProcess() *process.Process {
	for _, c := range p.containers {
		if running := c.current(); running != nil && !running.Ended() {
			return running
		}
	}
	return nil
}
