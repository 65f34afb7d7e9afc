package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"k8s-reloader/e2e/cluster/process"
)

// The components, by the names that Signal takes.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
	// RolloutsController runs from InstallRollouts on.
	RolloutsController = "rollouts-controller"
)

// serviceCIDR makes every ClusterIP a loopback address that the pod runner, or
// a test, can listen on: Services work without a pod network.
const serviceCIDR = "127.96.0.0/16"

// component is a program of the control plane and the process that runs it.
type component struct {
	args    []string
	process *process.Process
	// stopped is true while the end of the process is wanted.
	stopped bool
}

func (c *Cluster) etcdArgs() []string {
	client, peer := c.etcdURL, loopbackURL("http", c.ports[1])
	return []string{
		"--name=local",
		"--data-dir=" + filepath.Join(c.dir, "etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=local=" + peer,
		"--unsafe-no-fsync",
		"--quota-backend-bytes=" + strconv.Itoa(8<<30),
		"--log-level=warn",
	}
}

func (c *Cluster) apiServerArgs() []string {
	args := []string{
		"--etcd-servers=" + c.etcdURL,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports[2]),
		"--tls-cert-file=" + c.file("apiserver.crt"),
		"--tls-private-key-file=" + c.file("apiserver.key"),
		"--token-auth-file=" + c.file("tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.file("serviceaccounts.key"),
		"--service-account-signing-key-file=" + c.file("serviceaccounts.key"),
		"--service-cluster-ip-range=" + serviceCIDR,
		// 127.0.0.1 is no valid endpoint of the kubernetes Service.
		"--endpoint-reconciler-type=none",
		"--allow-privileged=true",
		"--profiling=false",
	}
	if c.audited() {
		args = append(args,
			"--audit-policy-file="+c.file("audit-policy.yaml"),
			"--audit-log-path="+c.AuditLog(),
			// A request's line is written before the request is answered, so
			// whoever has the answer can read the line.
			"--audit-log-mode=blocking",
			// In MiB: no rotation, which would pull the file from under AuditSince.
			"--audit-log-maxsize=1000000",
		)
	}
	return append(args, c.options.APIServerArgs...)
}

func (c *Cluster) controllerManagerArgs() []string {
	return []string{
		"--kubeconfig=" + c.userKubeconfig(controllerManagerUser),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + c.file("serviceaccounts.key"),
		"--root-ca-file=" + c.file("ca.crt"),
		"--profiling=false",
	}
}

func (c *Cluster) schedulerArgs() []string {
	return []string{
		"--kubeconfig=" + c.userKubeconfig(schedulerUser),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--profiling=false",
	}
}

func (c *Cluster) kwokArgs() []string {
	return []string{
		"--kubeconfig=" + c.userKubeconfig(kwokUser),
		"--config=" + c.file("stages.yaml"),
		"--manage-all-nodes=true",
		"--node-lease-duration-seconds=40",
		"--node-ip=10.0.0.1",
		"--cidr=10.0.0.1/16",
	}
}

// startComponent starts a component that is not running. more is arguments of this
// start alone.
func (c *Cluster) startComponent(ctx context.Context, name string, args []string, more ...string) error {
	p, err := c.group.Start(ctx, process.Spec{
		Name: name,
		Path: c.Program(name),
		Args: slices.Concat(args, more),
		Env:  c.env(),
		Dir:  c.dir,
		Log:  c.componentLog(name),
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.components[name] = &component{args: args, process: p}
	c.mu.Unlock()
	c.watchers.Go(func() { c.reportEnd(name, p) })
	return nil
}

// reportEnd makes Wait return when a component ends that nobody stopped.
func (c *Cluster) reportEnd(name string, p *process.Process) {
	<-p.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	component := c.components[name]
	wanted := c.stopping || component.stopped || component.process != p
	// The first failure is the one that explains the others.
	if !wanted && c.failure == nil {
		c.failure = p.Failure()
		close(c.failed)
	}
}

// Signal sends a signal to a component. With SIGKILL or SIGTERM its end is no
// failure of the cluster; SIGSTOP and SIGCONT freeze and thaw it.
func (c *Cluster) Signal(name string, sig syscall.Signal) error {
	c.mu.Lock()
	component := c.components[name]
	if component != nil && (sig == syscall.SIGKILL || sig == syscall.SIGTERM) {
		component.stopped = true
	}
	c.mu.Unlock()
	if component == nil {
		return fmt.Errorf("signal %s: there is no such component", name)
	}
	if err := component.process.Signal(sig); err != nil {
		return err
	}
	if sig == syscall.SIGKILL {
		<-component.process.Done()
	}
	return nil
}

// Restart starts a component again with what it was started with, after
// killing it if it still runs, and waits until the API server is ready. more is
// arguments until the next restart; they win over the others.
func (c *Cluster) Restart(ctx context.Context, name string, more ...string) error {
	if err := c.Signal(name, syscall.SIGKILL); err != nil {
		return err
	}
	c.mu.Lock()
	args := c.components[name].args
	c.mu.Unlock()
	if err := c.startComponent(ctx, name, args, more...); err != nil {
		return err
	}
	return c.awaitAPIServer(ctx)
}

// PID is the process id of a component, to measure it.
func (c *Cluster) PID(name string) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	component := c.components[name]
	if component == nil || component.process.Ended() {
		return 0, fmt.Errorf("%s is not running", name)
	}
	return component.process.PID(), nil
}

func loopbackURL(scheme string, port int) string {
	return scheme + "://127.0.0.1:" + strconv.Itoa(port)
}

// freePorts picks ports below the range that systems take for outgoing
// connections: what is free there stays free until the component listens.
func freePorts(ctx context.Context, count int) ([]int, error) {
	const first, last, tries = 10_000, 30_000, 1000
	var ports []int
	var listenConfig net.ListenConfig
	for range tries {
		port := first + rand.IntN(last-first)
		listener, err := listenConfig.Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		// Held until all are chosen, so that none is chosen twice.
		defer listener.Close()
		if ports = append(ports, port); len(ports) == count {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("find %d free ports between %d and %d: none in %d tries", count, first, last, tries)
}
