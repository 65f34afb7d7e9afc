package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRoutes(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "reloads_total", Help: "Reloads."})
	require.NoError(t, registry.Register(counter))
	counter.Inc()
	tests := map[string]struct {
		method, path string
		ready        error
		wantStatus   int
		wantBody     string
	}{
		"alive":                       {path: "/live", wantStatus: http.StatusOK, wantBody: "ok\n"},
		"alive, although not ready":   {path: "/live", ready: errors.New("no"), wantStatus: http.StatusOK, wantBody: "ok\n"},
		"healthy":                     {path: "/healthz", wantStatus: http.StatusOK, wantBody: "ok\n"},
		"healthy, although not ready": {path: "/healthz", ready: errors.New("no"), wantStatus: http.StatusOK, wantBody: "ok\n"},
		"ready":                       {path: "/readyz", wantStatus: http.StatusOK, wantBody: "ok\n"},
		"not ready, and why":          {path: "/readyz", ready: errors.New("reading the cluster"), wantStatus: http.StatusServiceUnavailable, wantBody: "reading the cluster\n"},
		"metrics":                     {path: "/metrics", wantStatus: http.StatusOK, wantBody: "# HELP reloads_total Reloads.\n# TYPE reloads_total counter\nreloads_total 1\n"},
		"something else":              {path: "/index", wantStatus: http.StatusNotFound, wantBody: "404 page not found\n"},
		"a write":                     {method: http.MethodPost, path: "/metrics", wantStatus: http.StatusMethodNotAllowed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.method == "" {
				tc.method = http.MethodGet
			}
			answer := httptest.NewRecorder()
			Handler(func() error { return tc.ready }, registry).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, nil))
			assert.Equal(t, tc.wantStatus, answer.Code)
			assert.Equal(t, tc.wantBody, answer.Body.String())
		})
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

func TestServeUntilTheContextIsDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := listen(t)
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, Handler(func() error { return nil }, prometheus.NewRegistry())) }()

	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/readyz", nil)
	require.NoError(t, err)
	answer, err := transport.RoundTrip(request)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	assert.Equal(t, "ok\n", string(body))

	cancel()
	require.NoError(t, <-ended)
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestARequestUnderWayIsAnswered(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := listen(t)
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cancel()
			<-ctx.Done()
			alive(w, r)
		}))
	}()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String(), nil)
	require.NoError(t, err)
	answer, err := transport.RoundTrip(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	assert.Equal(t, http.StatusOK, answer.StatusCode)
	require.NoError(t, <-ended)
}

func TestServeSaysWhyItCannot(t *testing.T) {
	l := listen(t)
	require.NoError(t, l.Close())
	err := Serve(t.Context(), l, http.NotFoundHandler())
	require.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorContains(t, err, "serve "+l.Addr().String()+": ")
}
