package standalone

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/scope"
)

// life is several engines one after another, with what stays between them: the
// key and the checkpoint.
type life struct {
	ns  string
	key fingerprint.Key
}

const checkpointName = "checkpoint"

func newLife(t *testing.T, ns string) *life {
	t.Helper()
	key, err := engine.RandomKey()
	require.NoError(t, err)
	for i := range 8 {
		_, err := shared.Client().CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: checkpointName + "-" + strconv.Itoa(i)},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	return &life{ns: ns, key: key}
}

// process is one engine of a life.
type process struct {
	*reports
	cancel  context.CancelFunc
	died    chan struct{}
	running *sync.WaitGroup
}

// start runs the next engine until it is stopped, dies or the test ends.
func (l *life) start(t *testing.T, f *faulty) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		reports: &reports{
			reloaded: map[reloader.Workload]int{}, held: map[reloader.Workload]int{}, takenBack: map[reloader.Workload]string{},
		},
		cancel: cancel, died: make(chan struct{}), running: new(sync.WaitGroup),
	}
	config := shared.RESTConfig()
	if f != nil {
		f.kill = sync.OnceFunc(func() { close(p.died); cancel() })
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { f.next = next; return f })
	}
	client, err := typedcorev1.NewForConfig(config)
	require.NoError(t, err)
	store, err := checkpoint.New(client.ConfigMaps(l.ns), checkpoint.Options{
		Namespace: l.ns, Name: checkpointName, KeyID: l.key.ID(), Log: logr.Discard(),
	})
	require.NoError(t, err)
	e, err := engine.New(engine.Options{
		Config: config, Key: l.key, Settings: policy.Settings{Keys: annotation.DefaultKeys()},
		Reporter: p.reports, Checkpoint: store,
		Scope: scope.Scope{Namespaces: []string{l.ns}},
	})
	require.NoError(t, err)
	p.running.Go(func() { _ = e.Run(ctx) })
	t.Cleanup(func() { cancel(); p.running.Wait() })
	require.Eventually(t, e.Ready, soon, time.Millisecond)
	return p
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	p.cancel()
	p.running.Wait()
}

// dies waits for the end that a faulty connection brings.
func (p *process) dies(t *testing.T) {
	t.Helper()
	select {
	case <-p.died:
	case <-time.After(soon):
		require.Fail(t, "it lives on")
	}
	p.running.Wait()
}

// faulty is the connection of a process that dies at a certain write: from
// then on nothing leaves it, and no answer reaches it.
type faulty struct {
	// writes come through before.
	writes int
	// on are the resources whose writes count, and what belongs to them.
	on string
	// arrives is true if the API server gets the last of them.
	arrives bool

	next http.RoundTripper
	kill func()

	mu   sync.Mutex // guards everything below
	seen int
	dead bool
}

var _ http.RoundTripper = (*faulty)(nil)

var errDead = errors.New("the process has died")

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	last := false
	if r.Method != http.MethodGet && slices.ContainsFunc(strings.Fields(f.on), func(part string) bool { return strings.Contains(r.URL.Path, part) }) && !f.dead {
		last = f.seen == f.writes
		f.seen++
	}
	if f.dead || last && !f.arrives {
		if last {
			f.dead = true
			f.kill()
		}
		f.mu.Unlock()
		return nil, errDead
	}
	f.dead = last
	f.mu.Unlock()
	if !last {
		return f.next.RoundTrip(r)
	}
	// The request is not given up because of the end that follows.
	answer, err := f.next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
	if err == nil {
		_ = answer.Body.Close()
	}
	f.kill()
	return nil, errDead
}
