package engine

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader/checkpoint"
)

// term is a Lease that is held at once, until a fixed time.
type term struct {
	until time.Time
	err   error
	held  chan struct{}
}

var _ Lease = (*term)(nil)

func (l *term) Hold(ctx context.Context, lead func(context.Context)) error {
	close(l.held)
	lead(ctx)
	return l.err
}

func (l *term) Until() time.Time { return l.until }

func TestAReloadAfterTheLeaseHasRunOutSendsNothing(t *testing.T) {
	a := newApp(web)
	object := a.object().(*appsv1.Deployment)
	server := deployments(t, object)
	r := new(told)
	e := newTestEngine(t, server.config, r)
	lease := &term{until: time.Now().Add(-time.Millisecond)}
	e.lease = lease
	settled(t, e.intake, a)
	due(t, e.ledger, written(30, "b"))

	require.ErrorContains(t, e.reload(t.Context(), web), "the lease has run out")
	assert.Empty(t, server.requests)
	assert.Empty(t, r.failed)
	assert.Zero(t, e.intake.workloads[web].expected)
	assert.Equal(t, []debt{{settings, "b"}}, e.ledger.due(web))

	lease.until = time.Now().Add(time.Minute)
	require.NoError(t, e.reload(t.Context(), web))
	require.Len(t, server.requests, 1)
	asked, err := url.ParseQuery(server.requests[0].query)
	require.NoError(t, err)
	limit, err := time.ParseDuration(asked.Get("timeout"))
	require.NoError(t, err)
	assert.Positive(t, limit)
	assert.Less(t, limit, time.Minute, "the API server has no longer than the lease")
	assert.Empty(t, e.ledger.due(web))
}

// brief is a Lease that has this long left whenever it is looked at, so that no
// look comes too late on a busy machine.
type brief time.Duration

var _ Lease = brief(0)

func (l brief) Hold(ctx context.Context, lead func(context.Context)) error {
	lead(ctx)
	return nil
}

func (l brief) Until() time.Time { return time.Now().Add(time.Duration(l)) }

// A patch that is not answered by then may come after another leader's.
func TestAPatchWaitsNoLongerThanTheLease(t *testing.T) {
	release := make(chan struct{})
	server := play(t, func(request) (int, http.Header, any) {
		<-release
		return failure(apierrors.NewInternalError(errors.New("late")))
	})
	t.Cleanup(func() { close(release) })
	e := newTestEngine(t, server.config, new(told))
	e.lease = brief(50 * time.Millisecond)
	settled(t, e.intake, newApp(web))
	due(t, e.ledger, written(30, "b"))
	require.ErrorIs(t, e.reload(t.Context(), web), context.DeadlineExceeded)
	assert.Equal(t, []debt{{settings, "b"}}, e.ledger.due(web))
}

func eventually(t *testing.T, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, time.Millisecond, what)
}

func TestLeadStopsItsWorkersBeforeItReturns(t *testing.T) {
	arrived := make(chan struct{})
	server := play(t, func(request) (int, http.Header, any) {
		close(arrived)
		return failure(apierrors.NewInternalError(errors.New("etcd")))
	})
	hold := &gate{RoundTripper: server.config.Transport, open: make(chan struct{})}
	server.config.Transport = hold
	e := newTestEngine(t, server.config, new(told))
	settled(t, e.intake, newApp(web))
	due(t, e.ledger, written(30, "b"))
	e.intake.reload(web)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); e.lead(ctx) }()
	<-arrived
	cancel()
	eventually(t, e.queues.workloads.ShuttingDown, "it ends")
	select {
	case <-ended:
		assert.Fail(t, "lead has returned while a patch is under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(hold.open)
	<-ended
	assert.True(t, e.queues.sources.ShuttingDown() && e.queues.workloads.ShuttingDown())
}

// gate holds answers up until it is open, whatever becomes of the request.
type gate struct {
	http.RoundTripper
	open chan struct{}
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := g.RoundTripper.RoundTrip(r)
	<-g.open
	return answer, err
}

// empty is a cluster without anything, whose watches fail.
func empty(t *testing.T) *script {
	t.Helper()
	return play(t, func(r request) (int, http.Header, any) {
		if strings.Contains(r.query, "watch=") {
			return failure(apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("watch").GroupKind(), "watch", nil))
		}
		return http.StatusOK, nil, metav1.PartialObjectMetadataList{
			TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"},
			ListMeta: metav1.ListMeta{ResourceVersion: "10"},
		}
	})
}

func TestRunEndsWithTheLease(t *testing.T) {
	lost := errors.New("lost")
	for name, want := range map[string]error{"that was lost": lost, "that was given back": nil} {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, empty(t).config, new(told))
			lease := &term{until: time.Now().Add(time.Minute), err: want, held: make(chan struct{})}
			e.lease = lease
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { assert.Equal(t, want, e.Run(ctx)) })
			<-lease.held
			assert.True(t, e.Ready(), "it stands by")
			cancel()
			running.Wait()
		})
	}
}

// drawer holds the ConfigMaps of a checkpoint.
type drawer struct {
	mu      sync.Mutex // guards everything below
	objects map[string]*corev1.ConfigMap
	version int
}

var _ checkpoint.ConfigMaps = (*drawer)(nil)

func (d *drawer) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.ConfigMap, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o := d.objects[name]; o != nil {
		return o.DeepCopy(), nil
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "0"}}, nil
}

func (d *drawer) Create(_ context.Context, cm *corev1.ConfigMap, _ metav1.CreateOptions) (*corev1.ConfigMap, error) {
	return nil, apierrors.NewAlreadyExists(corev1.Resource("configmaps"), cm.Name)
}

func (d *drawer) Update(_ context.Context, cm *corev1.ConfigMap, _ metav1.UpdateOptions) (*corev1.ConfigMap, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version++
	cm = cm.DeepCopy()
	cm.ResourceVersion = strconv.Itoa(d.version)
	d.objects[cm.Name] = cm
	return cm.DeepCopy(), nil
}

func (d *drawer) store(t *testing.T) *checkpoint.Store {
	t.Helper()
	s, err := checkpoint.New(d, checkpoint.Options{Namespace: "reloader", Name: "kept", KeyID: "key"})
	require.NoError(t, err)
	return s
}

// Two engines, one after the other: the second reads nothing that has not
// changed in between, and what the first rolled out is stored when it ends.
func TestTheNextLeaderGoesOnWhereTheLastEnded(t *testing.T) {
	kept := &drawer{objects: map[string]*corev1.ConfigMap{}}
	var mu sync.Mutex
	version, data := "5", map[string]string{"a": "1"}
	server := play(t, func(r request) (int, http.Header, any) {
		mu.Lock()
		defer mu.Unlock()
		if r.method == http.MethodPatch {
			return http.StatusOK, nil, metav1.PartialObjectMetadata{
				TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: path.Base(r.path), UID: "first", Generation: 2},
			}
		}
		return http.StatusOK, nil, corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: data,
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "settings", ResourceVersion: version},
		}
	})
	key, err := RandomKey()
	require.NoError(t, err)
	run := func(heard string, then func(e *Engine)) (asked []string) {
		before := len(paths(server))
		e := newTestEngine(t, server.config, new(told))
		e.key, e.checkpoint = key, kept.store(t)
		e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
		event(e, "settings", heard, listed)
		ctx, cancel := context.WithCancel(t.Context())
		var leading sync.WaitGroup
		leading.Go(func() { e.lead(ctx) })
		eventually(t, e.Ready, "it gets ready")
		if then != nil {
			then(e)
		}
		cancel()
		leading.Wait()
		return paths(server)[before:]
	}
	const read, patch = "/api/v1/namespaces/shop/configmaps/settings", "/apis/apps/v1/namespaces/shop/deployments/web"
	assert.Equal(t, []string{read}, run("5", nil), "nothing is known yet")
	assert.Empty(t, run("5", nil), "nothing has changed")

	version, data = "6", map[string]string{"a": "2"}
	assert.Equal(t, []string{read, patch, patch}, run("6", func(e *Engine) {
		eventually(t, func() bool { kept, _ := e.checkpoint.Lookup(settings); return kept.Version == 6 }, "it is rolled out")
	}), "it changed while nobody ran: the workload is read, and patched")
	s := kept.store(t)
	_, err = s.Load(t.Context())
	require.NoError(t, err)
	got, _ := s.Lookup(settings)
	assert.Equal(t, checkpoint.Entry{Fingerprint: key.ConfigMap(data, nil), Version: 6}, got)
	assert.Empty(t, run("6", nil), "nothing has changed since")
}
