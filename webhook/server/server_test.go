package server

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const deadline = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a server that serves, and a client that trusts it.
type running struct {
	server  *Server
	address string
	client  *http.Client
	end     context.CancelFunc
	ended   chan error
}

// start serves "/" with the handler until the test ends.
func start(t *testing.T, o Options, handler http.HandlerFunc) *running {
	t.Helper()
	// It has a certificate for example.com, and a client that trusts it.
	model := httptest.NewUnstartedServer(nil)
	model.EnableHTTP2 = true
	model.StartTLS()
	certificate := model.TLS.Certificates[0]
	transport, ok := model.Client().Transport.(*http.Transport)
	require.True(t, ok)
	transport = transport.Clone()
	model.Close()

	o.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }
	s, err := New(o)
	require.NoError(t, err)
	s.Register("/", handler)
	require.ErrorIs(t, s.Ready(), errNotListening)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{server: s, address: l.Addr().String(), client: &http.Client{Transport: transport}, end: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- s.Serve(ctx, l); close(r.ended) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		for range r.ended { // what the test has not taken
		}
	})
	require.Eventually(t, func() bool { return s.Ready() == nil }, deadline, time.Millisecond)
	return r
}

// answer is what a client got.
type answer struct {
	body   string
	proto  int
	tls    uint16
	reused bool // an old connection served for it
}

func (r *running) get(t *testing.T) (answer, error) {
	t.Helper()
	reused := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.address+"/", http.NoBody)
	require.NoError(t, err)
	response, err := r.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { assert.NoError(t, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	return answer{string(text), response.ProtoMajor, response.TLS.Version, reused}, err
}

func hello(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "hello") }

func TestAnEndLosesNoRequest(t *testing.T) {
	r := start(t, Options{Linger: 2 * time.Second}, hello)
	got, err := r.get(t)
	require.NoError(t, err)
	require.Equal(t, answer{body: "hello", proto: 2, tls: tls.VersionTLS13}, got)
	got, err = r.get(t)
	require.NoError(t, err)
	require.True(t, got.reused, "one connection serves for all requests")

	r.end()
	require.Eventually(t, func() bool { return r.server.Ready() != nil }, deadline, time.Millisecond)
	require.ErrorIs(t, r.server.Ready(), errEnding, "at once, so that nobody new is sent here")
	fresh := 0
	for {
		select {
		case err := <-r.ended:
			require.NoError(t, err)
			assert.Greater(t, fresh, 1, "clients were asked to come back on a new connection")
			_, err = r.get(t)
			require.Error(t, err, "nobody listens any more")
			return
		default:
		}
		got, err := r.get(t)
		if err != nil { // It has just ended.
			require.NoError(t, <-r.ended)
			return
		}
		require.Equal(t, "hello", got.body)
		if !got.reused {
			fresh++
		}
	}
}

func TestAnAnswerThatIsBeingGivenIsAwaited(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	r := start(t, Options{Linger: -1}, func(rw http.ResponseWriter, req *http.Request) {
		close(asked)
		<-release
		hello(rw, req)
	})
	go func() {
		<-asked
		r.end()
		for r.server.Ready() == nil {
			runtime.Gosched()
		}
		close(release)
	}()
	got, err := r.get(t)
	require.NoError(t, err)
	assert.Equal(t, "hello", got.body)
	assert.NoError(t, <-r.ended)
}

func TestVersionsOfTLS(t *testing.T) {
	tests := map[string]struct {
		min    uint16
		client uint16
		wantOK bool
	}{
		"1.2 is refused by default":       {client: tls.VersionTLS12},
		"1.2 is served where it is asked": {min: tls.VersionTLS12, client: tls.VersionTLS12, wantOK: true},
		"1.3 is served by default":        {client: tls.VersionTLS13, wantOK: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := start(t, Options{MinVersion: tc.min, Linger: -1}, hello)
			transport, ok := r.client.Transport.(*http.Transport)
			require.True(t, ok)
			transport.TLSClientConfig.MinVersion = tls.VersionTLS12
			transport.TLSClientConfig.MaxVersion = tc.client
			_, err := r.get(t)
			if !tc.wantOK {
				require.ErrorContains(t, err, "protocol version")
				return
			}
			require.NoError(t, err)
		})
	}
}

func TestAListenerThatFailsEndsTheServer(t *testing.T) {
	s, err := New(Options{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }})
	require.NoError(t, err)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.ErrorContains(t, s.Serve(t.Context(), l), "serve 127.0.0.1:")
	assert.Error(t, s.Ready())
}

func TestOptions(t *testing.T) {
	_, err := New(Options{MinVersion: tls.VersionTLS11, MaxConnections: -1})
	require.EqualError(t, err, "nothing to take a certificate from\nTLS version 0x302: use 1.2 or 1.3\nroom for -1 connections: use a positive number")
}
