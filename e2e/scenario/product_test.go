package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
)

// How long things may take on a busy machine, and how often they are looked at.
const (
	soon  = 30 * time.Second
	often = 20 * time.Millisecond
	// unhurried is a coalescing window in which two edits fit on a busy machine.
	unhurried = "5s"
)

// values are what a test needs of the chart, as "webhook.mode": "strict".
type values map[string]any

// current is the release as the last test wanted it.
//
//nolint:gochecknoglobals // shared by the tests, which run one after another
var current struct {
	// values is empty if nothing is known of the release.
	values  string
	release *install.Release
	// disturbed is true after a test has changed the release's objects by hand.
	disturbed bool
}

// given returns the release with these values and the chart's own for the
// rest.
func given(t *testing.T, v values) *install.Release {
	t.Helper()
	tree := map[string]any{}
	for path, value := range v {
		at, names := tree, strings.Split(path, ".")
		for _, name := range names[:len(names)-1] {
			next, ok := at[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		at[names[len(names)-1]] = value
	}
	text, err := json.Marshal(tree)
	require.NoError(t, err)
	if current.values == string(text) && !current.disturbed {
		return current.release
	}
	current.values = ""
	r, err := install.Chart(t.Context(), shared, install.ChartOptions{
		Namespace: releaseNamespace, Values: tree, Force: current.disturbed, Log: t.Output(),
	})
	require.NoError(t, err)
	current.values, current.release, current.disturbed = string(text), r, false
	return r
}

// disturbed makes the next test take the release back to what its chart says.
func disturbed() { current.disturbed = true }

// newNamespace is a test's own; its name begins with name.
func newNamespace(t *testing.T, name string) string {
	t.Helper()
	name += "-" + unique()
	_, err := shared.Client().CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return name
}

func keys() annotation.Keys { return annotation.DefaultKeys() }

func auto() map[string]string { return map[string]string{keys().Auto: "true"} }

func setConfigMap(t *testing.T, namespace, name, value string) {
	t.Helper()
	require.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), namespace, name, map[string]string{"key": value}))
}

func setSecret(t *testing.T, namespace, name, value string) {
	t.Helper()
	require.NoError(t, fixture.SetSecret(t.Context(), shared.Client(), namespace, name, map[string]string{"key": value}))
}

func create(t *testing.T, app fixture.App) {
	t.Helper()
	_, err := app.Create(t.Context(), shared.Client())
	require.NoError(t, err)
}

func read(t *testing.T, w reloader.Workload) fixture.State {
	t.Helper()
	s, err := fixture.Read(t.Context(), shared.Client(), w)
	require.NoError(t, err)
	return s
}

// mark is what the last reload for a source left in the pod template.
func mark(t *testing.T, w reloader.Workload, of reloader.SourceKind, name string) string {
	t.Helper()
	return read(t, w).Env(reloader.EnvName(of, name))
}

// requireReload makes the change and waits until it has reloaded the workload.
func requireReload(t *testing.T, w reloader.Workload, of reloader.SourceKind, name string, change func()) {
	t.Helper()
	before := mark(t, w, of, name)
	change()
	require.Eventually(t, func() bool { return mark(t, w, of, name) != before }, soon, often,
		"%s is reloaded for %s %s", w, of, name)
}

// patch changes a workload as its owner would.
func patch(t *testing.T, w reloader.Workload, pt types.PatchType, body string, subresource ...string) {
	t.Helper()
	k, ok := kind.BuiltIn().ByName(w.Kind)
	require.True(t, ok)
	err := shared.Client().AppsV1().RESTClient().Patch(pt).
		Namespace(w.Namespace).Resource(k.Resource.Resource).Name(w.Name).SubResource(subresource...).
		Body([]byte(body)).Do(t.Context()).Error()
	require.NoError(t, err)
}

// apply runs kubectl apply and returns what it printed and whether it worked.
func apply(t *testing.T, namespace, manifest string) (output string, ok bool) {
	t.Helper()
	output, err := shared.KubectlInput(t.Context(), manifest, "apply", "-n", namespace, "-f", "-")
	return output, err == nil
}

// recordOf decodes the index record that a workload carries.
func recordOf(t *testing.T, s fixture.State) record.Record {
	t.Helper()
	r, err := record.Decode(s.Meta.Annotations[keys().Index])
	require.NoError(t, err)
	return r
}

// fits reports whether the record on a workload was made for its present
// state.
func fits(t *testing.T, s fixture.State) bool {
	t.Helper()
	return recordOf(t, s).Fits(record.Identity{
		Namespace:  s.Meta.Namespace,
		Name:       s.Meta.Name,
		UID:        string(s.Meta.UID),
		Generation: s.Meta.Generation,
	}, keys()) == nil
}

// quietMark is a moment at which the product has nothing left to do: nothing
// has been asked of the API server between two looks.
func quietMark(t *testing.T) cluster.AuditMark {
	t.Helper()
	const calm = 500 * time.Millisecond
	var last cluster.AuditMark = -1
	require.Eventually(t, func() bool {
		now, err := shared.AuditMark()
		require.NoError(t, err)
		still := now == last
		last = now
		return still
	}, soon, calm)
	return last
}

// requests are what the user has asked for since the mark. Watches are left
// out: they run for minutes, whatever happens, and are then renewed.
func requests(t *testing.T, user string, since cluster.AuditMark) []cluster.AuditEvent {
	t.Helper()
	events, err := shared.AuditSince(since)
	require.NoError(t, err)
	var asked []cluster.AuditEvent
	for _, e := range events {
		if e.User == user && e.Verb != "watch" {
			asked = append(asked, e)
		}
	}
	return asked
}

// tally counts requests by "verb resource".
func tally(events []cluster.AuditEvent) map[string]int {
	counts := map[string]int{}
	for _, e := range events {
		counts[e.Verb+" "+e.Resource]++
	}
	return counts
}

// metric returns the value of one line of the engine's metrics, "" if there is
// none.
func metric(t *testing.T, r *install.Release, name string) string {
	t.Helper()
	pods, err := r.Pods(t.Context(), r.Engine)
	require.NoError(t, err)
	require.Len(t, pods, 1)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		"http://"+net.JoinHostPort(pods[0].Status.PodIP, "9090")+"/metrics", http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// killWebhook kills the webhook's processes, and kills them again whenever
// they come back, until revive is called, which waits until they serve.
func killWebhook(t *testing.T, r *install.Release) (revive func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done, dead := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		killed, told := map[string]bool{}, false
		for {
			pods, err := r.Pods(ctx, r.Webhook)
			if err != nil {
				return
			}
			for i := range pods {
				// An error means that it does not run.
				if shared.Pods().Kill(r.Namespace, pods[i].Name, syscall.SIGKILL) == nil {
					killed[pods[i].Name] = true
				}
			}
			if len(killed) == len(pods) && !told {
				told = true
				close(dead)
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-dead:
	case <-time.After(soon):
		t.Fatal("the webhook's processes were not killed")
	}
	return func() {
		cancel()
		<-done
		limited, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		require.NoError(t, r.AwaitReady(limited))
	}
}

// output is what all of the product's processes have written, by file.
func output() (map[string][]byte, error) {
	paths, err := filepath.Glob(filepath.Join(shared.Dir(), "pods", releaseNamespace+"_*.log"))
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for _, path := range paths {
		if all[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sound reports races and panics that the product's processes wrote about.
func sound() error {
	logs, err := output()
	if err != nil {
		return fmt.Errorf("read the product's logs: %w", err)
	}
	if len(logs) == 0 && current.release != nil {
		return errors.New("the product has run, and its logs are not where they are looked for")
	}
	return faultsIn(logs)
}

// faultsIn reports the races and panics that logs, by file, tell of.
func faultsIn(logs map[string][]byte) error {
	var problems []error
	for name, text := range logs {
		for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if at := bytes.Index(text, []byte(sign)); at >= 0 {
				problems = append(problems, fmt.Errorf("%s:\n%s", name, text[at:min(len(text), at+4096)]))
			}
		}
	}
	return errors.Join(problems...)
}

// serial makes names that no other test has.
//
//nolint:gochecknoglobals // shared by the tests, which run one after another
var serial int

// unique returns a name that no other test has.
func unique() string {
	serial++
	return fmt.Sprintf("n%d", serial)
}
