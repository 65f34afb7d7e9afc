package podrunner

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"k8s-reloader/e2e/cluster/process"
)

// Options of a Runner. All but Env and Log are required.
type Options struct {
	// Config reaches the API server with rights on everything.
	Config *rest.Config
	// Images maps a container image to the program that stands for it.
	Images map[string]string
	// Env is added to the environment of every container, as NAME=value.
	Env []string
	// Dir gets the pods' logs, kubeconfigs and working folders.
	Dir string
	// Group owns the processes.
	Group *process.Group
	// Log receives what went wrong, a line at a time; nil is silent.
	Log io.Writer
}

// Runner runs pods. Its methods may be called concurrently.
type Runner struct {
	options   Options
	client    *kubernetes.Clientset
	addresses *addresses
	services  *services
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	// logMu keeps lines of Options.Log whole.
	logMu sync.Mutex

	mu sync.Mutex
	// pods that are run or being ended; guarded by mu.
	pods map[types.UID]*pod
}

// Start returns when the pods that exist have been seen. ctx ends the start,
// not the runner: Stop does.
func Start(ctx context.Context, o Options) (*Runner, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	client, err := kubernetes.NewForConfig(o.Config)
	if err != nil {
		return nil, fmt.Errorf("start the pod runner: %w", err)
	}
	r := &Runner{options: o, client: client, pods: map[types.UID]*pod{}}
	if r.addresses, err = newAddresses(ctx); err != nil {
		return nil, fmt.Errorf("start the pod runner: %w", err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel

	serviceStore, serviceInformer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "services", metav1.NamespaceAll, fields.Everything()),
		ObjectType:    &corev1.Service{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { r.services.touch() },
			UpdateFunc: func(any, any) { r.services.touch() },
			DeleteFunc: func(any) { r.services.touch() },
		},
	})
	r.services = newServices(r, serviceStore)
	_, podInformer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll,
			fields.OneTermNotEqualSelector("spec.nodeName", "")),
		ObjectType: &corev1.Pod{},
		Transform:  r.trim,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { r.podSeen(running, object) },
			UpdateFunc: func(_, object any) { r.podSeen(running, object) },
			DeleteFunc: r.podGone,
		},
	})
	r.wg.Go(func() { serviceInformer.RunWithContext(running) })
	r.wg.Go(func() { podInformer.RunWithContext(running) })
	r.wg.Go(func() { r.services.run(running) })
	if !cache.WaitForCacheSync(ctx.Done(), serviceInformer.HasSynced, podInformer.HasSynced) {
		r.Stop()
		return nil, fmt.Errorf("start the pod runner: wait for pods and services: %w", ctx.Err())
	}
	return r, nil
}

// Stop kills the pods' processes, closes all listeners and connections, and
// waits. What the cluster says about the pods stays as it is.
func (r *Runner) Stop() {
	r.cancel()
	r.wg.Wait()
	r.addresses.close()
	if rc, ok := r.client.CoreV1().RESTClient().(*rest.RESTClient); ok && rc.Client != nil {
		rc.Client.CloseIdleConnections()
	}
}

// LogPath is the file with the output of a pod's container, across restarts.
// The file is there once the container has started.
func (r *Runner) LogPath(namespace, pod, container string) string {
	return filepath.Join(r.options.Dir, strings.Join([]string{namespace, pod, container}, "_")+".log")
}

// PID is the process id of a pod's first container that runs.
func (r *Runner) PID(namespace, name string) (int, error) {
	p, err := r.process(namespace, name)
	if err != nil {
		return 0, err
	}
	return p.PID(), nil
}

// Usage is what the process of PID has taken of the machine since it started.
func (r *Runner) Usage(namespace, name string) (process.Usage, error) {
	p, err := r.process(namespace, name)
	if err != nil {
		return process.Usage{}, err
	}
	return process.UsageOf(p.PID())
}

// Kill sends a signal to the process of PID. The runner treats what follows as
// any other end of a container.
func (r *Runner) Kill(namespace, name string, sig syscall.Signal) error {
	p, err := r.process(namespace, name)
	if err != nil {
		return err
	}
	return p.Signal(sig)
}

func (r *Runner) process(namespace, name string) (*process.Process, error) {
	for _, p := range r.snapshot() {
		if p.object.Namespace != namespace || p.object.Name != name {
			continue
		}
		if running := p.runningProcess(); running != nil {
			return running, nil
		}
	}
	return nil, fmt.Errorf("pod %s/%s has no running process", namespace, name)
}

func (r *Runner) snapshot() []*pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	pods := make([]*pod, 0, len(r.pods))
	for _, p := range r.pods {
		pods = append(pods, p)
	}
	return pods
}

// runs says whether the pod is the runner's rather than kwok's.
func (r *Runner) runs(pod *corev1.Pod) bool {
	for i := range pod.Spec.Containers {
		if _, ok := r.options.Images[pod.Spec.Containers[i].Image]; ok {
			return true
		}
	}
	return false
}

// trim drops what is not needed of pods that are not the runner's: there may
// be very many.
func (r *Runner) trim(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok || r.runs(pod) {
		return object, nil
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}}, nil
}

func (r *Runner) podSeen(ctx context.Context, object any) {
	seen, ok := object.(*corev1.Pod)
	if !ok || !r.runs(seen) || ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	p, known := r.pods[seen.UID]
	if !known {
		p = newPod(r, seen)
		r.pods[seen.UID] = p
	}
	r.mu.Unlock()
	// Before it runs: a pod that is being deleted must not start.
	p.update(seen)
	if !known {
		r.wg.Go(func() {
			p.run(ctx)
			r.mu.Lock()
			delete(r.pods, seen.UID)
			r.mu.Unlock()
			r.services.touch()
		})
	}
	r.services.touch()
}

func (r *Runner) podGone(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	gone, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	r.mu.Lock()
	p := r.pods[gone.UID]
	r.mu.Unlock()
	if p != nil {
		p.end(0)
	}
}

func (r *Runner) logf(format string, args ...any) {
	r.logMu.Lock()
	defer r.logMu.Unlock()
	fmt.Fprintf(r.options.Log, "pod runner: "+format+"\n", args...)
}
