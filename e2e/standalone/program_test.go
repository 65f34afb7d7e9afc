package standalone

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/install"
)

// built is the path of the program, built once for all tests.
//
//nolint:gochecknoglobals // building takes longer than most tests
var built = sync.OnceValues(func() (string, error) {
	return install.Build(context.Background(), install.BuildOptions{Dir: shared.Dir(), Log: os.Stderr})
})

// program is the product as a process of its own.
type program struct {
	t       *testing.T
	address string // of /metrics
	command *exec.Cmd
	ended   chan struct{}

	mu     sync.Mutex // guards everything below
	output bytes.Buffer
}

// Write takes the program's log.
func (p *program) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(text)
}

func (p *program) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// rule is one line of a role.
func may(group, resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
}

// reading is what every engine may do; Deployments are for the test to add.
func reading() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		may("", "configmaps", "get", "list", "watch"),
		may("", "secrets", "get", "list", "watch"),
		may("apps", "deployments", "get", "list", "watch"),
		may("apps", "statefulsets", "get", "list", "watch"),
		may("apps", "daemonsets", "get", "list", "watch"),
		may("", "events", "create", "patch"),
	}
}

// writing adds the right to reload Deployments, and nothing else.
func writing() []rbacv1.PolicyRule {
	return append(reading(), may("apps", "deployments", "patch"))
}

// startProgram runs the engine in a namespace of its own, with these rights in
// all, and returns when it is ready.
func startProgram(t *testing.T, ns string, rights []rbacv1.PolicyRule, env map[string]string, args ...string) *program {
	t.Helper()
	c := shared.Client()
	_, err := c.CoreV1().ServiceAccounts(ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "engine"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = c.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: ns}, Rules: rights}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = c.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: ns},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: ns},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: "engine"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	return runProgram(t, ns, env, args...)
}

// runProgram runs the engine once more, with the rights that it was started with.
func runProgram(t *testing.T, ns string, env map[string]string, args ...string) *program {
	t.Helper()
	path, err := built()
	require.NoError(t, err)
	kubeconfig, err := shared.ServiceAccountKubeconfig(t.Context(), ns, "engine")
	require.NoError(t, err)

	p := &program{t: t, address: freeAddress(t), ended: make(chan struct{})}
	p.command = exec.CommandContext(context.WithoutCancel(t.Context()), path, append([]string{
		"--kubeconfig=" + kubeconfig, "--listen-address=" + p.address,
	}, args...)...)
	p.command.Env = append(os.Environ(), "POD_NAMESPACE="+ns)
	for name, value := range env {
		p.command.Env = append(p.command.Env, name+"="+value)
	}
	p.command.Stdout, p.command.Stderr = p, p
	require.NoError(t, p.command.Start())
	go func() { _ = p.command.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Log(p.log())
		}
	})
	require.Eventually(t, func() bool { _, code := p.get("/readyz"); return code == http.StatusOK }, 3*soon, often, "it is ready")
	return p
}

// freeAddress is one that nobody listens at. No connection goes out from its IP
// address, and takes the port before somebody listens there.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.98.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// stop sends SIGTERM and waits.
func (p *program) stop() {
	p.t.Helper()
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(3 * soon):
		_ = p.command.Process.Kill()
		<-p.ended
		assert.Fail(p.t, "it has not stopped by itself")
	}
}

func (p *program) get(path string) (body string, code int) {
	return get(p.t, "http://"+p.address+path)
}

// get returns code 0 if nobody answers.
func get(t *testing.T, url string) (body string, code int) {
	t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", 0
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(text), answer.StatusCode
}
