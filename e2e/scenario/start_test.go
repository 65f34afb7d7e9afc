package scenario

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// command is the program with an environment in which it finds no cluster.
func command(ctx context.Context, home string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	cmd.Dir = home
	return cmd
}

// ends runs the program, which is to end by itself, and returns what it wrote
// and its exit status.
func ends(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	cmd := command(ctx, t.TempDir(), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.NoError(t, ctx.Err(), "it ends by itself")
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// kubeconfig writes one that leads to the address and returns its path.
func kubeconfig(t *testing.T, address string) string {
	t.Helper()
	config := api.NewConfig()
	config.Clusters["c"] = &api.Cluster{Server: "https://" + address, InsecureSkipTLSVerify: true}
	config.AuthInfos["u"] = &api.AuthInfo{Token: "t"}
	config.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u", Namespace: "somewhere"}
	config.CurrentContext = "x"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, path))
	return path
}

// listen counts the connections to an address.
func listen(t *testing.T) (address string, connections func() int) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var accepting sync.WaitGroup
	count := 0
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			count++
			mu.Unlock()
			conn.Close()
		}
	})
	t.Cleanup(func() { listener.Close(); accepting.Wait() })
	return listener.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
}

func TestUnusableFlagsStopTheStart(t *testing.T) {
	tests := map[string]struct {
		args []string
		// want is in the line besides the flag, which is the first there is.
		want string
	}{
		"a log level that is none":                    {[]string{"--log-level=loud"}, "trace, debug, info"},
		"a log format that is none":                   {[]string{"--log-format=xml"}, "json"},
		"a strategy that is none":                     {[]string{"--reload-strategy=magic"}, "env-vars or annotations"},
		"a window before now":                         {[]string{"--coalesce-window=-1s"}, "0"},
		"a window that is no duration":                {[]string{"--coalesce-window=soon"}, "invalid duration"},
		"verifying all the time":                      {[]string{"--verify-interval=0"}, "6h"},
		"a kind of source that is none":               {[]string{"--resources-to-ignore=pods"}, "configmaps or secrets"},
		"both kinds of sources ignored":               {[]string{"--resources-to-ignore=configmaps,Secrets"}, "ignore one kind"},
		"an annotation without a name":                {[]string{"--auto-annotation="}, "name an annotation"},
		"two annotations of one name":                 {[]string{"--auto-annotation=reloader.stakater.com/search"}, "two meanings"},
		"a switch that is neither on nor off":         {[]string{"--auto-reload-all=perhaps"}, "invalid"},
		"an address that is none":                     {[]string{"--listen-address=here"}, "missing port"},
		"an address that is somebody else's":          {[]string{"--listen-address=192.0.2.1:9090"}, "assign"},
		"a Secret for the key that cannot exist":      {[]string{"--fingerprint-key-secret=No/Name"}, "No/Name"},
		"a flag that is unknown":                      {[]string{"--no-such-flag"}, "unknown flag"},
		"the engine by name":                          {[]string{"engine", "--log-level=loud"}, "trace, debug, info"},
		"the webhook: a mode that is none":            {[]string{"webhook", "--admission=loud"}, "off, warn, default, strict"},
		"the webhook: an address without a port":      {[]string{"webhook", "--listen-address=127.0.0.1", "--metrics-address=127.0.0.1:0"}, "port"},
		"the webhook: a port that is none":            {[]string{"webhook", "--listen-address=:99999", "--metrics-address=127.0.0.1:0"}, "99999"},
		"the webhook: metrics without a port":         {[]string{"webhook", "--metrics-address=here", "--listen-address=127.0.0.1:0"}, "missing port"},
		"the webhook: a Secret that cannot exist":     {[]string{"webhook", "--certificate-secret=No/Name"}, "No/Name"},
		"the webhook: a Service that cannot exist":    {[]string{"webhook", "--service=No/Name"}, "No/Name"},
		"the webhook: a configuration without a name": {[]string{"webhook", "--mutating-configuration=No/Name"}, "No/Name"},
		"the webhook: two annotations of one name":    {[]string{"webhook", "--ignore-annotation=reloader.stakater.com/match"}, "two meanings"},
		"the webhook: a kind of source that is none":  {[]string{"webhook", "--resources-to-ignore=pods"}, "configmaps or secrets"},
		"a kubeconfig that is not there":              {[]string{"--kubeconfig=/no/such/file"}, "/no/such/file"},
		"the webhook: a kubeconfig that is not there": {[]string{"webhook", "--kubeconfig=/no/such/file"}, "/no/such/file"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			address, connections := listen(t)
			flag := tc.args[0]
			if !strings.HasPrefix(flag, "-") {
				flag = tc.args[1]
			}
			flag, _, _ = strings.Cut(flag, "=")
			args := tc.args
			if flag != "--kubeconfig" {
				args = append(slices.Clip(args), "--kubeconfig="+kubeconfig(t, address))
			}
			_, stderr, status := ends(t, args...)
			assert.Equal(t, 1, status)
			assert.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
			assert.True(t, strings.HasPrefix(stderr, "reloader: "), stderr)
			assert.Contains(t, stderr, flag)
			assert.Contains(t, stderr, tc.want)
			assert.Zero(t, connections(), "nothing is touched")
		})
	}
}

func TestAMissingKubeconfigSaysWhereItLooked(t *testing.T) {
	for _, part := range []string{"engine", "webhook"} {
		t.Run(part, func(t *testing.T) {
			_, stderr, status := ends(t, part)
			assert.Equal(t, 1, status)
			assert.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
			for _, place := range []string{"--kubeconfig (not set)", "$KUBECONFIG (not set)", "ServiceAccount (not in a pod)", ".kube/config"} {
				assert.Contains(t, stderr, place)
			}
		})
	}
}

// lines is what a running process has written so far.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.text.String()), "\n")
}

// TestAnUnreachableAPIServerIsWaitedFor starts both parts before there is an
// API server.
func TestAnUnreachableAPIServerIsWaitedFor(t *testing.T) {
	const watches = 5 // three kinds of workloads, two of sources
	// prompt is less than the half minute for which it may be about to wait for
	// the API server, and time enough on a busy machine.
	const prompt = 15 * time.Second
	line := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\S* (TRC|DBG|INF|WRN|ERR) \S`)
	tests := map[string]struct {
		args []string
		// tries are more than it makes at once: it has to have waited.
		tries int
	}{
		"engine": {
			args:  []string{"engine", "--listen-address=127.0.0.1:0"},
			tries: 2*watches + 1,
		},
		"engine with a key in a Secret": {
			args:  []string{"engine", "--listen-address=127.0.0.1:0", "--fingerprint-key-secret=key"},
			tries: 3,
		},
		"webhook": {
			args:  []string{"webhook", "--metrics-address=127.0.0.1:0", "--listen-address=127.0.0.1:0", "--shutdown-delay=100ms"},
			tries: 5,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			// A port that was free a moment ago.
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			address := listener.Addr().String()
			require.NoError(t, listener.Close())
			var written lines
			cmd := command(t.Context(), t.TempDir(), append(tc.args, "--kubeconfig="+kubeconfig(t, address))...)
			cmd.Stderr, cmd.Stdout = &written, &written
			require.NoError(t, cmd.Start())
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()

			require.Eventually(t, func() bool {
				tries := 0
				for _, line := range written.all() {
					if strings.Contains(line, "connection refused") {
						tries++
					}
				}
				return tries >= tc.tries
			}, soon, often, "it tries again and says so")

			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			select {
			case err := <-ended:
				require.NoError(t, err, "it exits with 0")
			case <-time.After(prompt):
				require.NoError(t, cmd.Process.Kill())
				require.Error(t, <-ended)
				t.Errorf("it does not end within %s of SIGTERM", prompt)
			}
			for _, text := range written.all() {
				assert.Regexp(t, line, text)
				assert.NotContains(t, text, "goroutine ")
				assert.NotContains(t, text, ".go:")
			}
		})
	}
}
