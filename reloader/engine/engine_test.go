package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
)

// unreachable is the configuration of a server that is not there.
func unreachable(t *testing.T) *rest.Config {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &rest.Config{Host: "http://" + l.Addr().String(), QPS: -1, Transport: transport}
}

func TestOptions(t *testing.T) {
	valid := Options{Config: &rest.Config{}, Reporter: new(told)}
	tests := map[string]struct {
		change func(*Options)
		want   []string
	}{
		"the least that is needed": {change: func(*Options) {}},
		"nothing at all":           {change: func(o *Options) { *o = Options{} }, want: []string{"API server", "reporter"}},
		"a strategy that is none":  {change: func(o *Options) { o.Strategy = "hope" }, want: []string{`"hope"`}},
		"negative numbers": {
			change: func(o *Options) { o.CoalesceWindow, o.Workers = -1, -2 },
			want:   []string{"coalesce window -1ns", "-2 workers"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := valid
			tc.change(&o)
			err := o.Validate()
			if len(tc.want) == 0 {
				require.NoError(t, err)
				return
			}
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
			_, err = New(o)
			require.Error(t, err)
		})
	}
}

func TestRunEndsWhileTheServerCannotBeReached(t *testing.T) {
	key, err := RandomKey()
	require.NoError(t, err)
	e, err := New(Options{
		Config: unreachable(t), Key: key, Settings: policy.Settings{Keys: keys}, Reporter: new(told),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, e.Run(ctx)) })
	cancel()
	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		require.Fail(t, "Run goes on after its context is done")
	}
	assert.False(t, e.Ready())
}

func TestTheKeyOfTheCluster(t *testing.T) {
	held := []byte("0123456789abcdef0123456789abcdef")
	key, err := fingerprint.NewKey(held)
	require.NoError(t, err)
	secret := func(data map[string][]byte) corev1.Secret {
		return corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, Data: data}
	}
	secrets := corev1.Resource("secrets")
	tests := map[string]struct {
		answer func(r request, times int) (int, http.Header, any)
		// wantShared is true if the key is the one that the Secret holds.
		wantShared   bool
		wantRequests []string
	}{
		"is the one that the Secret holds": {
			answer: func(request, int) (int, http.Header, any) {
				return http.StatusOK, nil, secret(map[string][]byte{keyEntry: held})
			},
			wantShared:   true,
			wantRequests: []string{http.MethodGet},
		},
		"fills an empty Secret": {
			answer: func(request, int) (int, http.Header, any) {
				return http.StatusOK, nil, secret(nil)
			},
			wantRequests: []string{http.MethodGet, http.MethodPut},
		},
		"is that of the engine that was faster": {
			answer: func(r request, times int) (int, http.Header, any) {
				switch {
				case r.method == http.MethodPut:
					return failure(apierrors.NewConflict(secrets, "key", nil))
				case times == 1:
					return http.StatusOK, nil, secret(nil)
				}
				return http.StatusOK, nil, secret(map[string][]byte{keyEntry: held})
			},
			wantShared:   true,
			wantRequests: []string{http.MethodGet, http.MethodPut, http.MethodGet},
		},
		"makes a Secret that is missing": {
			answer: func(r request, _ int) (int, http.Header, any) {
				if r.method == http.MethodPost {
					return http.StatusCreated, nil, secret(nil)
				}
				return failure(apierrors.NewNotFound(secrets, "key"))
			},
			wantRequests: []string{http.MethodGet, http.MethodPost},
		},
		"is that of the engine that was faster to make it": {
			answer: func(r request, times int) (int, http.Header, any) {
				switch {
				case r.method == http.MethodPost:
					return failure(apierrors.NewAlreadyExists(secrets, "key"))
				case times == 1:
					return failure(apierrors.NewNotFound(secrets, "key"))
				}
				return http.StatusOK, nil, secret(map[string][]byte{keyEntry: held})
			},
			wantShared:   true,
			wantRequests: []string{http.MethodGet, http.MethodPost, http.MethodGet},
		},
		"is one of the process if the Secret may not be made": {
			answer: func(r request, _ int) (int, http.Header, any) {
				if r.method == http.MethodPost {
					return failure(apierrors.NewForbidden(secrets, "", nil))
				}
				return failure(apierrors.NewNotFound(secrets, "key"))
			},
			wantRequests: []string{http.MethodGet, http.MethodPost},
		},
		"is one of the process if the Secret holds something else": {
			answer: func(request, int) (int, http.Header, any) {
				return http.StatusOK, nil, secret(map[string][]byte{keyEntry: []byte("short")})
			},
			wantRequests: []string{http.MethodGet},
		},
		"is one of the process if the Secret is forbidden": {
			answer: func(request, int) (int, http.Header, any) {
				return failure(apierrors.NewForbidden(secrets, "key", nil))
			},
			wantRequests: []string{http.MethodGet},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			times := 0
			server := play(t, func(r request) (int, http.Header, any) { times++; return tc.answer(r, times) })
			got, err := ClusterKey(t.Context(), server.config, "reloader", "key", logr.Discard())
			require.NoError(t, err)
			assert.False(t, got.IsZero())
			data := map[string]string{"a": "1"}
			assert.Equal(t, tc.wantShared, key.ConfigMap(data, nil) == got.ConfigMap(data, nil))
			var methods []string
			for _, r := range server.requests {
				methods = append(methods, r.method)
			}
			assert.Equal(t, tc.wantRequests, methods)
		})
	}
}

func TestTheKeyIsWaitedForOnlyAsLongAsTheContextLasts(t *testing.T) {
	config := unreachable(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := ClusterKey(ctx, config, "reloader", "key", logr.Discard())
	require.ErrorIs(t, err, context.Canceled)
}

// An event asks whether anybody depends on the source, and then the ledger
// whether it is news: in between, the last one who did may leave.
func TestASourceThatIsForgottenDuringItsEventHoldsUpNothing(t *testing.T) {
	e := newTestEngine(t, unreachable(t), new(told))
	e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
	require.True(t, e.index.Depended(settings))
	e.intake.deleted(web)
	require.True(t, e.ledger.news(settings, 5))
	require.NoError(t, e.readSource(t.Context(), settings))
	assert.True(t, e.ledger.allRead(), "an engine that starts never gets ready")
}

func TestOnePassVerifiesEverything(t *testing.T) {
	a := newApp(web)
	lists := map[string]any{}
	server := play(t, func(r request) (int, http.Header, any) { return http.StatusOK, nil, lists[r.path] })
	for _, k := range kind.BuiltIn().All() {
		lists[listPath(k)] = map[string]any{"apiVersion": k.Resource.GroupVersion().String(), "kind": string(k.Name) + "List"}
	}
	item := a.object()
	lists["/apis/apps/v1/deployments"] = map[string]any{"apiVersion": "apps/v1", "kind": "DeploymentList", "items": []any{item}}
	r := new(told)
	e := newTestEngine(t, server.config, r)
	settled(t, e.intake, a.with(func(a *app) { a.configMaps = nil }))

	require.NoError(t, e.Verify(t.Context()))
	assert.Equal(t, []reloader.Workload{web}, r.corrected)
	assert.Equal(t, []reloader.Source{settings}, e.index.DependsOn(web))
	require.NoError(t, e.Verify(t.Context()))
	assert.Len(t, r.corrected, 1, "the second pass finds nothing")
}

// What is over is swept whether or not the index is verified.
func TestWhatIsOverIsSwept(t *testing.T) {
	for name, interval := range map[string]time.Duration{
		"with passes that verify": time.Hour,
		"without":                 -time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			server := play(t, func(request) (int, http.Header, any) { return failure(apierrors.NewInternalError(errors.New("etcd"))) })
			e := newTestEngine(t, server.config, new(told))
			c := clocktesting.NewFakeClock(time.Unix(0, 0))
			e.clock, e.limits.clock, e.verifyInterval = c, c, interval
			e.limits.reloaded(web)
			e.ledger.created(settings)

			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { e.verifyRegularly(ctx) })
			running.Go(func() { e.forgetRegularly(ctx) })
			require.Eventually(t, func() bool { return c.Waiters() == 2 }, time.Minute, time.Millisecond)
			for range 3 {
				c.Step(sweepInterval)
			}
			require.Eventually(t, func() bool {
				e.limits.mu.Lock()
				defer e.limits.mu.Unlock()
				return len(e.limits.paces) == 0
			}, time.Minute, time.Millisecond, "what tenants can fill by writing does not wait for a verifying pass")
			require.NotEmpty(t, e.ledger.sources)
			c.Step(2 * defaultVerifyInterval)
			require.Eventually(t, func() bool { return c.Waiters() == 2 }, time.Minute, time.Millisecond)
			stop()
			running.Wait()
			assert.Empty(t, e.ledger.sources)
			assert.Equal(t, interval > 0, len(server.requests) > 0, "workloads are read to verify")
		})
	}
}

func TestResolve(t *testing.T) {
	present := true
	server := play(t, func(request) (int, http.Header, any) {
		if !present {
			return failure(apierrors.NewNotFound(corev1.Resource("deployments"), "web"))
		}
		o := newApp(web).object()
		o.GetObjectKind().SetGroupVersionKind(kindOf(t, web).Resource.GroupVersion().WithKind("Deployment"))
		return http.StatusOK, nil, o
	})
	e := newTestEngine(t, server.config, new(told))
	require.NoError(t, e.resolve(t.Context(), web))
	assert.Empty(t, server.requests, "nothing is known of it, so nothing is open")

	e.intake.observe(web, newApp(web).meta(), at(10))
	require.NoError(t, e.resolve(t.Context(), web))
	assert.Len(t, server.requests, 1)
	assert.Equal(t, []reloader.Source{settings}, e.index.DependsOn(web))
	require.NoError(t, e.resolve(t.Context(), web))
	assert.Len(t, server.requests, 1, "it is known now")

	present = false
	e.intake.observe(web, newApp(web).with(func(a *app) { a.generation++ }).meta(), at(11))
	require.NoError(t, e.resolve(t.Context(), web), "the event of its deletion comes")
}

func appNamed(name string) app {
	return newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: name})
}

// lists serves lists of workloads of all kinds, and single ones of those.
func lists(t *testing.T, items *[]app) *script {
	t.Helper()
	return play(t, func(r request) (int, http.Header, any) {
		var of []any
		for _, k := range kind.BuiltIn().All() {
			for _, a := range *items {
				if a.workload.Kind != k.Name {
					continue
				}
				o := a.object()
				o.GetObjectKind().SetGroupVersionKind(k.Resource.GroupVersion().WithKind(string(k.Name)))
				if r.path == "/apis/apps/v1/namespaces/shop/"+k.Resource.Resource+"/"+a.workload.Name {
					return http.StatusOK, nil, o
				}
				of = append(of, o)
			}
			if r.path == listPath(k) || r.path == "/apis/apps/v1/namespaces/shop/"+k.Resource.Resource {
				return http.StatusOK, nil, map[string]any{"apiVersion": k.Resource.GroupVersion().String(), "kind": string(k.Name) + "List", "items": of}
			}
			of = nil
		}
		return failure(apierrors.NewNotFound(corev1.Resource("workloads"), r.path))
	})
}

// listPath is where a kind is listed.
func listPath(k kind.Kind) string {
	return "/apis/" + k.Resource.Group + "/" + k.Resource.Version + "/" + k.Resource.Resource
}

// resolveQueued handles what is in the resolve queue, as a worker does.
func resolveQueued(t *testing.T, e *Engine) (failed error) {
	t.Helper()
	for e.queues.resolve.Len() > 0 {
		w, _ := e.queues.resolve.Get()
		if err := e.resolve(t.Context(), w); err != nil {
			failed = err
		}
		e.queues.resolve.Done(w)
	}
	return failed
}

func paths(s *script) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, r := range s.requests {
		all = append(all, r.path)
	}
	return all
}

func TestManyUnresolvedAreListed(t *testing.T) {
	const list = "/apis/apps/v1/namespaces/shop/deployments"
	several := func(n int) (all []app) {
		for i := range n {
			all = append(all, appNamed(fmt.Sprintf("app-%03d", i)))
		}
		return all
	}
	last := func(change func(*app)) func([]app) []app {
		return func(all []app) []app {
			all[len(all)-1] = all[len(all)-1].with(change)
			return all
		}
	}
	tests := map[string]struct {
		events int
		// served is what the server has by then.
		served    func([]app) []app
		wantPaths []string
		wantOpen  bool
	}{
		"as many as make a list worth it: one list": {
			events: manyUnresolved + 1, wantPaths: []string{list},
		},
		"one that the list does not have is read alone, and its deletion comes": {
			events:    manyUnresolved + 1,
			served:    func(all []app) []app { return all[:len(all)-1] },
			wantPaths: []string{list, "/apis/apps/v1/namespaces/shop/deployments/app-064"}, wantOpen: true,
		},
		"one of which the list has a newer generation is read alone, and its event comes": {
			events:    manyUnresolved + 1,
			served:    last(func(a *app) { a.generation++ }),
			wantPaths: []string{list, "/apis/apps/v1/namespaces/shop/deployments/app-064"}, wantOpen: true,
		},
		"one that no event has told of yet is left to its event": {
			events:    manyUnresolved + 1,
			served:    func(all []app) []app { return append(all, appNamed("nobody-asked")) },
			wantPaths: []string{list},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			items := several(tc.events)
			server := lists(t, &items)
			e := newTestEngine(t, server.config, new(told))
			for _, a := range items {
				e.intake.observe(a.workload, a.meta(), at(10))
			}
			if tc.served != nil {
				items = tc.served(items)
			}
			require.NoError(t, resolveQueued(t, e))
			assert.Equal(t, tc.wantPaths, paths(server))
			assert.Equal(t, tc.wantOpen, !e.intake.allResolved())
			assert.Equal(t, []reloader.Source{settings}, e.index.DependsOn(several(1)[0].workload))
			assert.NotContains(t, e.intake.workloads, appNamed("nobody-asked").workload)
		})
	}
}

// A list brings in those that wait for it. The others are left to their
// records, which the verifying pass compares, and reports.
func TestAListOfWorkloadsLeavesAloneWhatIsKnown(t *testing.T) {
	items := []app{newApp(web).recorded(t, func(r *record.Record) { r.References = nil })}
	for i := range manyUnresolved + 1 {
		items = append(items, appNamed(strconv.Itoa(i)))
	}
	server := lists(t, &items)
	r := new(told)
	e := newTestEngine(t, server.config, r)
	for _, a := range items {
		e.intake.observe(a.workload, a.meta(), at(10))
	}
	require.NoError(t, resolveQueued(t, e))
	assert.Equal(t, []string{"/apis/apps/v1/namespaces/shop/deployments"}, paths(server))
	assert.True(t, e.intake.allResolved())
	assert.Empty(t, e.index.DependsOn(web))
	require.NoError(t, e.Verify(t.Context()))
	assert.Equal(t, []reloader.Workload{web}, r.corrected)
}

func TestFewUnresolvedAreReadOneByOne(t *testing.T) {
	items := []app{appNamed("a"), appNamed("b")}
	server := lists(t, &items)
	e := newTestEngine(t, server.config, new(told))
	for _, a := range items {
		e.intake.observe(a.workload, a.meta(), at(10))
	}
	require.NoError(t, resolveQueued(t, e))
	assert.Equal(t, []string{"/apis/apps/v1/namespaces/shop/deployments/a", "/apis/apps/v1/namespaces/shop/deployments/b"}, paths(server))
	assert.True(t, e.intake.allResolved())
}

func TestEachKindIsListedOnce(t *testing.T) {
	var items []app
	for i := range manyUnresolved {
		for _, k := range []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet} {
			items = append(items, newApp(reloader.Workload{Kind: k, Namespace: "shop", Name: strconv.Itoa(i)}))
		}
	}
	server := lists(t, &items)
	e := newTestEngine(t, server.config, new(told))
	for _, a := range items {
		e.intake.observe(a.workload, a.meta(), at(10))
	}
	require.NoError(t, resolveQueued(t, e))
	assert.Equal(t, []string{"/apis/apps/v1/namespaces/shop/deployments", "/apis/apps/v1/namespaces/shop/statefulsets"}, paths(server))
	assert.True(t, e.intake.allResolved())
	assert.Equal(t, len(items), e.Stats().Workloads)
}

func TestWorkersThatComeDuringAListWaitForIt(t *testing.T) {
	var items []app
	for i := range 2 * manyUnresolved {
		items = append(items, appNamed(strconv.Itoa(i)))
	}
	server := lists(t, &items)
	e := newTestEngine(t, server.config, new(told))
	for _, a := range items {
		e.intake.observe(a.workload, a.meta(), at(10))
	}
	var running sync.WaitGroup
	for range 8 {
		w, _ := e.queues.resolve.Get()
		running.Go(func() {
			defer e.queues.resolve.Done(w)
			assert.NoError(t, e.resolve(t.Context(), w)) //nolint:testifylint // require ends goroutines of its own only
			assert.False(t, e.intake.open(w))
		})
	}
	running.Wait()
	assert.Equal(t, []string{"/apis/apps/v1/namespaces/shop/deployments"}, paths(server))
	assert.True(t, e.intake.allResolved())
}

func TestAListOfWorkloadsThatFailsIsTriedAgain(t *testing.T) {
	down := true
	server := play(t, func(request) (int, http.Header, any) {
		if down {
			return failure(apierrors.NewInternalError(errors.New("etcd")))
		}
		return http.StatusOK, nil, map[string]any{"apiVersion": "apps/v1", "kind": "DeploymentList"}
	})
	e := newTestEngine(t, server.config, new(told))
	for i := range manyUnresolved + 1 {
		a := appNamed(strconv.Itoa(i))
		e.intake.observe(a.workload, a.meta(), at(10))
	}
	w, _ := e.queues.resolve.Get()
	require.True(t, apierrors.IsInternalError(e.resolve(t.Context(), w)))
	assert.Equal(t, []string{"/apis/apps/v1/namespaces/shop/deployments"}, paths(server), "one that failed is not made up for by many reads")
	assert.True(t, e.intake.open(w))
	e.queues.resolve.Done(w)
}

func kindOf(t *testing.T, w reloader.Workload) kind.Kind {
	t.Helper()
	k, ok := kind.BuiltIn().ByName(w.Kind)
	require.True(t, ok)
	return k
}

func TestReadSource(t *testing.T) {
	data := map[string]string{"a": "1"}
	version, present := "5", true
	server := play(t, func(request) (int, http.Header, any) {
		if !present {
			return failure(apierrors.NewNotFound(corev1.Resource("configmaps"), "settings"))
		}
		return http.StatusOK, nil, corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: data,
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "settings", ResourceVersion: version},
		}
	})
	e := newTestEngine(t, server.config, new(told))
	require.NoError(t, e.readSource(t.Context(), settings))
	assert.Empty(t, server.requests, "nobody depends on it")

	e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
	drain(e.queues.sources)
	require.NoError(t, e.readSource(t.Context(), settings))
	assert.True(t, e.ledger.allRead())
	assert.Empty(t, e.ledger.due(web), "adopted")

	seen := func(version string) int {
		e.sourceSeen(reloader.ConfigMap, &metav1.ObjectMeta{Namespace: "shop", Name: "settings", ResourceVersion: version}, updated)
		return len(drain(e.queues.sources))
	}
	assert.Zero(t, seen("5"), "an unchanged version is known unchanged without a read")
	assert.Equal(t, 1, seen("6"))
	data, version = map[string]string{"a": "2"}, "6"
	require.NoError(t, e.readSource(t.Context(), settings))
	assert.Equal(t, []debt{{settings, e.key.ConfigMap(data, nil)}}, e.ledger.due(web))
	assert.Equal(t, []reloader.Workload{web}, drain(e.queues.workloads))

	for how, want := range map[arrival]int{created: 0, updated: 0, listed: 1} {
		e.sourceSeen(reloader.ConfigMap, &metav1.ObjectMeta{Namespace: "shop", Name: "settings", ResourceVersion: "6"}, how)
		assert.Empty(t, drain(e.queues.sources), how)
		account := *e.ledger.sources[settings]
		e.sourceSeen(reloader.ConfigMap, &metav1.ObjectMeta{Namespace: "shop", Name: "settings", ResourceVersion: "4"}, how)
		assert.Len(t, drain(e.queues.sources), want, "only a list can take a version back")
		*e.ledger.sources[settings] = account
	}
	require.NoError(t, e.readSource(t.Context(), settings))
	asked := len(server.requests)
	assert.Equal(t, 1, seen("7"))
	version = "4"
	for range 2 {
		require.ErrorIs(t, e.readSource(t.Context(), settings), errOutdated, "its worker repeats it")
	}
	version = "7"
	require.NoError(t, e.readSource(t.Context(), settings))
	require.NoError(t, e.readSource(t.Context(), settings))
	assert.Len(t, server.requests, asked+3, "nothing is read without a reason")

	present = false
	e.sourceDeleted(settings, 8)
	assert.Equal(t, []reloader.Source{settings}, drain(e.queues.sources))
	require.NoError(t, e.readSource(t.Context(), settings))
	assert.True(t, e.ledger.sources[settings].absent)
}
