package fault

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	soon  = 30 * time.Second
	often = 10 * time.Millisecond
)

// upstream stands where the API server does: it carries everything out, and
// knows what that was.
type upstream struct {
	mu sync.Mutex
	// did are the paths of the requests that came, tokens what they came with;
	// guarded by mu.
	did, tokens []string
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.did = append(u.did, r.URL.Path)
	u.tokens = append(u.tokens, r.Header.Get("Authorization"))
	u.mu.Unlock()
	if r.URL.Query().Get("watch") == "true" {
		// Something to begin with, and then nothing until somebody goes.
		_, _ = io.WriteString(w, "begin")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	_, _ = io.WriteString(w, "done")
}

func (u *upstream) carriedOut(path string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Contains(u.did, path)
}

// bench is a proxy with a client before and an upstream behind it.
type bench struct {
	*Proxy
	upstream *upstream
	client   *http.Client
	// trust is what another client needs for a connection of its own.
	trust *tls.Config
	url   string
}

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{upstream: &upstream{}}
	server := httptest.NewUnstartedServer(b.upstream)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	o.Upstream = &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}}
	var err error
	b.Proxy, err = Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.Close()) })

	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, b.WriteKubeconfig(kubeconfig, &rest.Config{BearerToken: "the client's own"}))
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	b.client, err = rest.HTTPClientFor(config)
	require.NoError(t, err)
	b.trust, err = rest.TLSConfigFor(config)
	require.NoError(t, err)
	b.url = config.Host
	t.Cleanup(func() { utilnet.CloseIdleConnectionsFor(b.client.Transport) })
	return b
}

// ask sends a request and returns the status of its answer, 0 if there is none.
func (b *bench) ask(t *testing.T, method, path string) (status int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	return b.askFor(ctx, t, method, path)
}

func (b *bench) askFor(ctx context.Context, t *testing.T, method, path string) (status int, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, b.url+path, http.NoBody)
	require.NoError(t, err)
	answer, err := b.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

func (b *bench) works(t *testing.T) bool {
	t.Helper()
	status, err := b.ask(t, http.MethodGet, "/api/v1/pods")
	return err == nil && status == http.StatusOK
}

func patchPath(i int) string {
	return fmt.Sprintf("/apis/apps/v1/namespaces/shop/deployments/app-%d", i)
}

func TestEverythingPassesUnlessFaultsAreAskedFor(t *testing.T) {
	b := newBench(t, Options{})
	for i := range 20 {
		status, err := b.ask(t, http.MethodPatch, patchPath(i))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		require.True(t, b.upstream.carriedOut(patchPath(i)))
	}
	assert.Equal(t, slices.Repeat([]string{"Bearer the client's own"}, 20), b.upstream.tokens)
	counts := b.Counts()
	assert.Equal(t, map[What]int{{"patch", "deployments"}: 20}, counts.Total)
	assert.Equal(t, 20, counts.All())
	assert.Zero(t, counts.Injected())
	assert.Positive(t, counts.Connections)
}

// seen is what a client saw of a request, and what has come of it.
type seen struct {
	status     int
	carriedOut bool
}

// Every fault is what its name says, for the client and for the API server, and
// all of them are drawn.
func TestFaultsAreWhatTheyAreCountedAs(t *testing.T) {
	tests := map[string]struct {
		method string
		want   map[kind]seen
	}{
		"of a write": {http.MethodPatch, map[kind]seen{
			conflict:    {http.StatusConflict, false},
			tooMany:     {http.StatusTooManyRequests, false},
			broken:      {http.StatusInternalServerError, false},
			lateTimeout: {http.StatusGatewayTimeout, true},
			cutBefore:   {0, false},
			cutAfter:    {0, true},
			disconnect:  {0, false},
		}},
		"of a read, which nothing can be in conflict with": {http.MethodGet, map[kind]seen{
			tooMany:     {http.StatusTooManyRequests, false},
			broken:      {http.StatusInternalServerError, false},
			lateTimeout: {http.StatusGatewayTimeout, true},
			cutBefore:   {0, false},
			cutAfter:    {0, true},
			disconnect:  {0, false},
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Options{Seed: 1})
			b.Inject(1)
			before := b.Counts().Faults
			got := map[kind]int{}
			for i := range 200 {
				status, err := b.ask(t, tc.method, patchPath(i))
				require.Equal(t, status == 0, err != nil, "%d, %v", status, err)
				after := b.Counts().Faults
				drawn := none
				for name := range after {
					if after[name] != before[name] {
						require.Equal(t, none, drawn, "one request, one fault")
						drawn = kind(name)
					}
				}
				before = after
				saw := seen{status, b.upstream.carriedOut(patchPath(i))}
				require.Equal(t, tc.want[drawn], saw, "%q: %v", drawn, err)
				got[drawn]++
			}
			for k := range tc.want {
				assert.Positive(t, got[k], "%q", k)
			}
			assert.Len(t, got, len(tc.want))
			assert.Equal(t, 200, b.Counts().Injected())

			b.Inject(0)
			require.True(t, b.works(t), "it can be switched off")
		})
	}
}

func TestASeedDrawsItsShareAndTheSameAgain(t *testing.T) {
	drawn := func(seed uint64) Counts {
		b := newBench(t, Options{Seed: seed})
		b.Inject(0.2)
		for i := range 300 {
			_, _ = b.ask(t, http.MethodPatch, patchPath(i)) // an error is what some of them want
		}
		return b.Counts()
	}
	first := drawn(1)
	assert.InDelta(t, 60, first.Injected(), 20)
	assert.Equal(t, first.Faults, drawn(1).Faults)
	assert.NotEqual(t, first.Faults, drawn(2).Faults)
}

func TestWhoWatchesIsToldOfEachMomentAndCutsThere(t *testing.T) {
	tests := map[string]struct {
		cutAt          Moment
		wantMoments    []Moment
		wantStatus     int
		wantCarriedOut bool
	}{
		"nowhere":                           {"", []Moment{Arrived, Done}, http.StatusOK, true},
		"before the API server knows of it": {Arrived, []Moment{Arrived}, 0, false},
		"when it is done and the client does not know": {Done, []Moment{Arrived, Done}, 0, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var moments []Moment
			b := newBench(t, Options{Watch: func(r Request, m Moment) bool {
				mu.Lock()
				defer mu.Unlock()
				moments = append(moments, m)
				assert.Equal(t, Request{Verb: "patch", Resource: "deployments", Namespace: "shop", Name: "app-1"}, r)
				return m != tc.cutAt
			}})
			status, err := b.ask(t, http.MethodPatch, patchPath(1))
			assert.Equal(t, tc.wantStatus, status, "%v", err)
			assert.Equal(t, tc.wantCarriedOut, b.upstream.carriedOut(patchPath(1)))
			mu.Lock()
			defer mu.Unlock()
			assert.Equal(t, tc.wantMoments, moments)
		})
	}
}

// watching begins a watch and returns a channel that is closed when it ends.
func (b *bench) watching(t *testing.T) <-chan struct{} {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+"/api/v1/configmaps?watch=true", http.NoBody)
	require.NoError(t, err)
	answer, err := b.client.Do(request)
	require.NoError(t, err)
	text := make([]byte, len("begin"))
	_, err = io.ReadFull(answer.Body, text)
	require.NoError(t, err)
	ended := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, answer.Body) // however it ends
		_ = answer.Body.Close()
	})
	t.Cleanup(reading.Wait)
	return ended
}

func TestARefusedClientLosesItsConnectionsAndGetsNoOther(t *testing.T) {
	b := newBench(t, Options{})
	ended := b.watching(t)
	b.Refuse()
	select {
	case <-ended:
	case <-time.After(soon):
		require.Fail(t, "the watch goes on")
	}
	before := b.Counts()
	for i := range 5 {
		_, err := b.ask(t, http.MethodPatch, patchPath(i))
		require.Error(t, err)
		require.False(t, b.upstream.carriedOut(patchPath(i)))
	}
	after := b.Counts()
	assert.GreaterOrEqual(t, after.Connections-before.Connections, 5, "tries to connect are counted")
	assert.Equal(t, before.All(), after.All(), "no request comes through")
	b.Heal()
	require.Eventually(t, func() bool { return b.works(t) }, soon, often)
}

func TestASilentNetworkSaysNothingAndCarriesNothing(t *testing.T) {
	b := newBench(t, Options{})
	ended := b.watching(t)
	b.Silence()
	before := b.Counts()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := b.askFor(ctx, t, http.MethodPatch, patchPath(1))
	require.ErrorIs(t, err, context.DeadlineExceeded, "no word, not even a refusal")
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = (&tls.Dialer{Config: b.trust}).DialContext(ctx, "tcp", strings.TrimPrefix(b.url, "https://"))
	require.ErrorIs(t, err, context.DeadlineExceeded, "nor to who comes later")
	select {
	case <-ended:
		require.Fail(t, "the watch has ended, so somebody was told")
	default:
	}
	assert.Equal(t, before.All(), b.Counts().All(), "no request comes through")

	b.Heal()
	select {
	case <-ended:
	case <-time.After(soon):
		require.Fail(t, "a connection that has lost bytes goes on")
	}
	require.Eventually(t, func() bool { return b.works(t) }, soon, often)
	assert.False(t, b.upstream.carriedOut(patchPath(1)), "what was lost stays lost")
}

func TestRequestOf(t *testing.T) {
	tests := map[string]struct {
		method, path string
		want         Request
	}{
		"a named object":      {http.MethodGet, "/api/v1/namespaces/shop/secrets/db", Request{"get", "secrets", "shop", "db"}},
		"all of a namespace":  {http.MethodGet, "/api/v1/namespaces/shop/secrets", Request{"list", "secrets", "shop", ""}},
		"all of a cluster":    {http.MethodGet, "/apis/apps/v1/deployments?limit=5", Request{"list", "deployments", "", ""}},
		"a watch":             {http.MethodGet, "/apis/apps/v1/deployments?watch=true", Request{"watch", "deployments", "", ""}},
		"a watch, in short":   {http.MethodGet, "/api/v1/secrets?watch=1", Request{"watch", "secrets", "", ""}},
		"a watch that lists":  {http.MethodGet, "/api/v1/secrets?sendInitialEvents=true&watch=true", Request{"list", "secrets", "", ""}},
		"a namespace itself":  {http.MethodGet, "/api/v1/namespaces/shop", Request{"get", "namespaces", "", "shop"}},
		"a new object":        {http.MethodPost, "/apis/events.k8s.io/v1/namespaces/shop/events", Request{"create", "events", "shop", ""}},
		"an update":           {http.MethodPut, "/api/v1/namespaces/own/configmaps/c-0", Request{"update", "configmaps", "own", "c-0"}},
		"a patch":             {http.MethodPatch, "/apis/apps/v1/namespaces/shop/deployments/web", Request{"patch", "deployments", "shop", "web"}},
		"a deletion":          {http.MethodDelete, "/apis/batch/v1/namespaces/shop/jobs/one", Request{"delete", "jobs", "shop", "one"}},
		"a subresource":       {http.MethodPut, "/apis/apps/v1/namespaces/shop/deployments/web/scale", Request{"update", "deployments/scale", "shop", "web"}},
		"what is no resource": {http.MethodGet, "/readyz", Request{"get", "/readyz", "", ""}},
		"the list of groups":  {http.MethodGet, "/apis", Request{"get", "/apis", "", ""}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, requestOf(httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, http.NoBody)))
		})
	}
}

func TestTheTallyKnowsTheBusiestSecond(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tally := newTally(begin)
	patch, get := Request{Verb: "patch", Resource: "deployments"}, Request{Verb: "get", Resource: "secrets"}
	for at, requests := range [][]Request{{patch, get}, {patch, patch, patch}, {get, get}} {
		for _, r := range requests {
			tally.add(begin.Add(time.Duration(at)*time.Second+time.Millisecond), r, none)
		}
	}
	tally.add(begin.Add(time.Minute), get, tooMany)

	counts := tally.counts()
	assert.Equal(t, Counts{
		Total:     map[What]int{{"patch", "deployments"}: 4, {"get", "secrets"}: 4},
		Peak:      map[What]int{{"patch", "deployments"}: 3, {"get", "secrets"}: 2},
		PeakOfAll: 3,
		Faults:    map[string]int{"429": 1},
	}, counts)
	assert.True(t, strings.HasSuffix(counts.String(), "8 requests, at most 3 in a second, 0 connections; went wrong: map[429:1]\n"), counts.String())
}
