package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"k8s-reloader/e2e/cluster/binaries"
	"k8s-reloader/e2e/cluster/podrunner"
	"k8s-reloader/e2e/cluster/process"
)

// Cluster is a running cluster. Its methods may be called concurrently, apart
// from Stop.
type Cluster struct {
	options   Options
	dir       string
	temporary bool
	identity  *identity
	// ports are etcd's for clients, etcd's for peers, and the API server's.
	ports   []int
	etcdURL string
	client  kubernetes.Interface
	group   *process.Group
	pods    *podrunner.Runner
	// failed is closed when a component ends that nobody asked to.
	failed   chan struct{}
	watchers sync.WaitGroup

	mu sync.Mutex
	// paths of the programs; guarded by mu.
	paths binaries.Paths
	// components by name; guarded by mu.
	components map[string]*component
	// stopping makes every end a wanted one; guarded by mu.
	stopping bool
	// failure is why failed is closed; guarded by mu.
	failure error
}

// Start builds what the cache lacks, starts a cluster and returns when it
// takes pods. ctx ends the start, not the cluster: Stop does. When the start
// fails nothing runs on, and the state folder is kept for its logs.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("options of the cluster: %w", err)
	}
	paths, err := binaries.Build(ctx, binaries.Options{Log: o.Log}, binaries.Kubernetes())
	if err != nil {
		return nil, err
	}
	began := time.Now()
	c := &Cluster{
		options:    o,
		dir:        o.Dir,
		paths:      paths,
		failed:     make(chan struct{}),
		components: map[string]*component{},
	}
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the cluster: %w", err), c.Stop())
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the cluster (state kept in %s): %w", c.dir, err), c.stopProcesses())
	}
	fmt.Fprintf(o.Log, "cluster ready in %.1f s\n", time.Since(began).Seconds())
	return c, nil
}

// prepare makes the state folder and all that is known before a process runs.
func (c *Cluster) prepare(ctx context.Context) (err error) {
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "reloader-cluster-"); err != nil {
			return err
		}
		c.temporary = true
	}
	for _, name := range []string{"etcd", "logs", "pods", "audit.log"} {
		if err := os.RemoveAll(c.file(name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"etcd", "logs", "pods", "helm"} {
		if err := os.MkdirAll(c.file(name), 0o700); err != nil {
			return err
		}
	}
	if c.identity, err = newIdentity(c.dir); err != nil {
		return err
	}
	if c.ports, err = freePorts(ctx, 3); err != nil {
		return err
	}
	c.etcdURL = loopbackURL("http", c.ports[0])
	for user, token := range c.identity.tokens {
		if err := writeKubeconfig(c.userKubeconfig(user), c.server(), c.identity.caPEM, user, "default", token); err != nil {
			return err
		}
	}
	if c.client, err = kubernetes.NewForConfig(c.RESTConfig()); err != nil {
		return err
	}
	if err := writeStages(c.file("stages.yaml"), c.options); err != nil {
		return err
	}
	if c.audited() {
		return c.writeAuditPolicy()
	}
	return nil
}

func (c *Cluster) start(ctx context.Context) (err error) {
	remove := ""
	if c.temporary {
		remove = c.dir
	}
	if c.group, err = process.NewGroup(ctx, remove); err != nil {
		return err
	}
	if err := c.startComponent(ctx, Etcd, c.etcdArgs()); err != nil {
		return err
	}
	if err := c.startComponent(ctx, APIServer, c.apiServerArgs()); err != nil {
		return err
	}
	if err := c.awaitAPIServer(ctx); err != nil {
		return err
	}
	if err := createNodes(ctx, c.client, c.options); err != nil {
		return err
	}
	for name, args := range map[string][]string{
		ControllerManager: c.controllerManagerArgs(),
		Scheduler:         c.schedulerArgs(),
		Kwok:              c.kwokArgs(),
	} {
		if err := c.startComponent(ctx, name, args); err != nil {
			return err
		}
	}
	if err := c.awaitComponent(ctx, Kwok, "the nodes to be ready", func(ctx context.Context) (bool, error) {
		return nodesReady(ctx, c.client, c.options.Nodes)
	}); err != nil {
		return err
	}
	if err := c.awaitComponent(ctx, ControllerManager, "the default ServiceAccount", func(ctx context.Context) (bool, error) {
		_, err := c.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		return err
	}
	if len(c.options.Images) > 0 {
		return c.startPodRunner(ctx)
	}
	return nil
}

func (c *Cluster) startPodRunner(ctx context.Context) (err error) {
	c.pods, err = podrunner.Start(ctx, podrunner.Options{
		Config: c.config(podRunnerUser),
		Images: c.options.Images,
		Env:    c.options.PodEnv,
		Dir:    c.file("pods"),
		Group:  c.group,
		Log:    c.options.Log,
	})
	return err
}

func (c *Cluster) awaitAPIServer(ctx context.Context) error {
	return c.awaitComponent(ctx, APIServer, "the API server to be ready", func(ctx context.Context) (bool, error) {
		_, err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err == nil, err
	})
}

// awaitComponent awaits a condition that the component brings about. Its error
// has the component's last words.
func (c *Cluster) awaitComponent(ctx context.Context, name, what string, condition func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.StartTimeout)
	defer cancel()
	err := c.await(ctx, what, condition)
	if err == nil || c.firstFailure() != nil {
		return err
	}
	log := c.componentLog(name)
	return fmt.Errorf("%w; log %s:\n%s", err, log, process.Tail(log, 2048))
}

// await polls until the condition holds or ctx ends. An error of the condition
// is not final: it is reported if the time is up. The end of a component is.
func (c *Cluster) await(ctx context.Context, what string, condition func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		ok, err := condition(ctx)
		if ok {
			return nil
		}
		// The error of a request that was cut off by the deadline says less than
		// the one before it.
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-c.failed:
			return fmt.Errorf("wait for %s: %w", what, c.firstFailure())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, errors.Join(ctx.Err(), last))
		case <-ticker.C:
		}
	}
}

// Wait returns nil when ctx ends, or an error with the tail of its log when a
// component ended that nobody had asked to.
func (c *Cluster) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-c.failed:
		return c.firstFailure()
	}
}

func (c *Cluster) firstFailure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// Stop ends everything that Start started, waits for it, and removes the state
// folder unless it was given. Stopping again does nothing.
func (c *Cluster) Stop() error {
	err := c.stopProcesses()
	if c.temporary {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return err
}

func (c *Cluster) stopProcesses() error {
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
	if c.pods != nil {
		c.pods.Stop()
	}
	// Nothing of the cluster outlives this, so nothing has to end gracefully.
	var err error
	if c.group != nil {
		err = c.group.Close()
	}
	c.watchers.Wait()
	if client, ok := c.client.(*kubernetes.Clientset); ok {
		closeIdle(client)
	}
	return err
}

// closeIdle ends the connections that the client keeps for later.
func closeIdle(client *kubernetes.Clientset) {
	if rc, ok := client.Discovery().RESTClient().(*rest.RESTClient); ok && rc.Client != nil {
		rc.Client.CloseIdleConnections()
	}
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) componentLog(name string) string { return c.file(filepath.Join("logs", name+".log")) }

func (c *Cluster) server() string { return loopbackURL("https", c.ports[2]) }
