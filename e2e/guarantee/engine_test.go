package guarantee

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster/process"
	"k8s-reloader/e2e/guarantee/fault"
)

// window is the coalescing window of the engines: long enough to be there,
// short enough not to be waited for.
const window = 100 * time.Millisecond

func userOf(namespace, name string) string {
	return "system:serviceaccount:" + namespace + ":" + name
}

// engine is one replica of the product: a process that can be started again
// and again, behind a proxy of its own, as a ServiceAccount of its own.
type engine struct {
	world      *world
	name       string
	program    string // what is started; default this version's
	args       []string
	proxy      *fault.Proxy
	kubeconfig string
	address    string
	log        string

	mu sync.Mutex
	// process that was started last; guarded by mu.
	process *process.Process
	// ambush is called for every request at every moment; nil lets all pass;
	// guarded by mu.
	ambush func(fault.Request, fault.Moment) bool
}

// engine makes a replica that is not started yet.
func (w *world) engine(name string, args ...string) *engine {
	w.t.Helper()
	ctx := w.t.Context()
	_, err := w.client.CoreV1().ServiceAccounts(w.own).Create(ctx,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	account, err := shared.ServiceAccountConfig(ctx, w.own, name)
	require.NoError(w.t, err)
	// No connection goes out from this IP address, and takes the port while the
	// engine is away.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.98.0.1:0")
	require.NoError(w.t, err)
	require.NoError(w.t, listener.Close())

	e := &engine{
		world:      w,
		name:       name,
		program:    program,
		kubeconfig: filepath.Join(w.logs, name+".kubeconfig"),
		address:    listener.Addr().String(),
		log:        filepath.Join(w.logs, name+".log"),
	}
	e.args = append([]string{
		"engine",
		"--kubeconfig=" + e.kubeconfig,
		"--listen-address=" + e.address,
		"--fingerprint-key-secret=" + keySecret,
		"--checkpoint=" + checkpoint,
		"--coalesce-window=" + window.String(),
	}, args...)
	e.proxy, err = fault.Start(ctx, fault.Options{Upstream: account, Seed: w.random.Uint64(), Watch: e.pass})
	require.NoError(w.t, err)
	require.NoError(w.t, e.proxy.WriteKubeconfig(e.kubeconfig, account))
	w.t.Cleanup(func() {
		e.kill()
		assert.NoError(w.t, e.proxy.Close())
		if w.t.Failed() {
			w.t.Logf("log of engine %s, %s:\n%s", name, e.log, process.Tail(e.log, 6000))
		}
	})
	return e
}

func (e *engine) pass(r fault.Request, m fault.Moment) bool {
	e.mu.Lock()
	ambush := e.ambush
	e.mu.Unlock()
	return ambush == nil || ambush(r, m)
}

// lieInWait has ambush called for every request at every moment from now on.
func (e *engine) lieInWait(ambush func(fault.Request, fault.Moment) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ambush = ambush
}

// start starts the process, which must not run.
func (e *engine) start() {
	e.world.t.Helper()
	p, err := e.world.group.Start(e.world.t.Context(), process.Spec{
		Name: "engine " + e.name,
		Path: e.program,
		Args: e.args,
		Env: append(os.Environ(),
			"POD_NAMESPACE="+e.world.own,
			"POD_NAME="+e.name,
			"GORACE=halt_on_error=1 exitcode=66",
		),
		Log: e.log,
	})
	require.NoError(e.world.t, err)
	e.world.absences.Starts = append(e.world.absences.Starts, time.Now())
	e.mu.Lock()
	defer e.mu.Unlock()
	e.process = p
}

// ready returns when the engine says that it misses nothing any more.
func (e *engine) ready() {
	e.world.t.Helper()
	began := time.Now()
	for time.Since(began) < time.Minute {
		if body, code := e.get("/readyz"); code == http.StatusOK {
			return
		} else if e.current().Ended() {
			require.NoError(e.world.t, e.current().Failure(), body)
		}
		e.world.wait(5 * time.Millisecond)
	}
	require.Failf(e.world.t, "the engine is not ready", "%s", process.Tail(e.log, 4000))
}

func (e *engine) up() {
	e.world.t.Helper()
	e.start()
	e.ready()
}

func (e *engine) current() *process.Process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.process
}

// kill is kill -9, and returns when the process has ended. It may be called by
// an ambush, and for an engine that does not run.
func (e *engine) kill() {
	p := e.current()
	if p == nil {
		return
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		e.world.t.Error(err)
		return
	}
	<-p.Done()
}

// terminate is what happens to a pod that is deleted.
func (e *engine) terminate() {
	e.world.t.Helper()
	began := time.Now()
	require.NoError(e.world.t, e.current().Stop(20*time.Second))
	e.world.t.Logf("engine %s ended %s after SIGTERM", e.name, time.Since(began).Round(time.Millisecond))
	require.Equal(e.world.t, 0, e.current().ExitCode(), "after SIGTERM")
}

func (e *engine) signal(s syscall.Signal) {
	assert.NoError(e.world.t, e.current().Signal(s))
}

// requireEnd waits for the process to end by itself with that status.
func (e *engine) requireEnd(status int, limit time.Duration) {
	e.world.t.Helper()
	select {
	case <-e.current().Done():
		require.Equal(e.world.t, status, e.current().ExitCode(), "%s", process.Tail(e.log, 4000))
	case <-time.After(limit):
		require.Failf(e.world.t, "the engine did not end by itself", "%s", process.Tail(e.log, 4000))
	}
}

func (e *engine) get(path string) (body string, code int) {
	ctx, cancel := context.WithTimeout(e.world.t.Context(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.address+path, http.NoBody)
	require.NoError(e.world.t, err)
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error(), 0
	}
	defer answer.Body.Close()
	var b strings.Builder
	for scanner := bufio.NewScanner(answer.Body); scanner.Scan(); {
		fmt.Fprintln(&b, scanner.Text())
	}
	return b.String(), answer.StatusCode
}

// metric reads one metric; its labels, if any, are part of the name.
func (e *engine) metric(name string) float64 {
	e.world.t.Helper()
	value, ok := e.lookUp(name)
	require.True(e.world.t, ok, "no metric %s", name)
	return value
}

// counter reads a metric that is not there before it has counted something.
func (e *engine) counter(name string) int {
	e.world.t.Helper()
	value, _ := e.lookUp(name)
	return int(value)
}

func (e *engine) lookUp(name string) (float64, bool) {
	e.world.t.Helper()
	body, code := e.get("/metrics")
	require.Equal(e.world.t, http.StatusOK, code, body)
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			require.NoError(e.world.t, err)
			return value, true
		}
	}
	return 0, false
}

// each does something for 0 to n-1, several at a time.
func (w *world) each(n int, do func(ctx context.Context, i int) error) {
	w.t.Helper()
	group, ctx := errgroup.WithContext(w.t.Context())
	group.SetLimit(16)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	require.NoError(w.t, group.Wait())
}
