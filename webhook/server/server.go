package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

// DefaultLinger is the time that a server keeps serving after the shutdown has
// begun. It is longer than API servers need to switch to another pod.
const DefaultLinger = 10 * time.Second

// DefaultMaxConnections is how many connections are open at a time. An API
// server has one or two.
const DefaultMaxConnections = 256

const (
	// The API server sends a review at once and waits for 30 seconds at most.
	// A slower client delays only itself.
	readHeaderTimeout = 3 * time.Second
	readTimeout       = 5 * time.Second
	writeTimeout      = 30 * time.Second
	// idleTimeout is above the 90 seconds after which an API server closes what
	// it does not use, so that it is never the server that closes first.
	idleTimeout = 2 * time.Minute
	// maxHeaderBytes is plenty for what an API server sends.
	maxHeaderBytes = 16 << 10
	// maxStreams bounds the requests of one HTTP/2 connection at a time. Each
	// costs a goroutine before it has a body. An API server that has more opens
	// another connection.
	maxStreams = 100
	// maxFrame and maxUnread bound what one HTTP/2 connection has in memory of
	// what no handler has read yet.
	maxFrame  = 16 << 10
	maxUnread = 128 << 10
	// shutdownTimeout bounds the wait for the last answers.
	shutdownTimeout = 5 * time.Second
)

var (
	errNotListening = errors.New("does not listen yet")
	errEnding       = errors.New("is ending")
)

// Options say how a Server serves.
type Options struct {
	// GetCertificate returns the certificate to serve with. Required.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// MinVersion of TLS: tls.VersionTLS12 or tls.VersionTLS13, the default.
	MinVersion uint16
	// Linger is the time to keep serving after the shutdown has begun. Negative:
	// none. Zero: DefaultLinger.
	Linger time.Duration
	// MaxConnections bounds the number of open connections. At the limit, the
	// address with the most loses one. Zero: DefaultMaxConnections.
	MaxConnections int
	// ClientCAs sign the certificates of the clients that Server.Knows recognizes.
	// Other clients are served, too. Nil: no client certificate is requested.
	ClientCAs *x509.CertPool
	// Log reports the begin and the end of serving. The zero Logger is silent.
	Log logr.Logger
}

func (o *Options) setDefaults() {
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS13
	}
	if o.Linger == 0 {
		o.Linger = DefaultLinger
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
}

// Validate returns all problems of the options, joined.
func (o Options) Validate() error {
	var problems []error
	if o.GetCertificate == nil {
		problems = append(problems, errors.New("nothing to take a certificate from"))
	}
	switch o.MinVersion {
	case 0, tls.VersionTLS12, tls.VersionTLS13:
	default:
		problems = append(problems, fmt.Errorf("TLS version %#x: use 1.2 or 1.3", o.MinVersion))
	}
	if o.MaxConnections < 0 {
		problems = append(problems, fmt.Errorf("room for %d connections: use a positive number", o.MaxConnections))
	}
	return errors.Join(problems...)
}

// Server serves handlers over TLS. Make one with New, Register what it serves,
// and run it with Serve. Ready may be called at any time.
type Server struct {
	options Options
	mux     *http.ServeMux
	state   atomic.Int32
}

// The states, in order.
const (
	idle int32 = iota
	serving
	ending
)

// New returns a Server that does nothing until Serve.
func New(o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	return &Server{options: o, mux: http.NewServeMux()}, nil
}

// Register has the handler answer requests for exactly that path. Not after
// Serve.
func (s *Server) Register(path string, handler http.Handler) { s.mux.Handle(path, handler) }

// Ready is for a readiness probe. It returns nil from the start of serving until
// the shutdown begins.
func (s *Server) Ready() error {
	switch s.state.Load() {
	case idle:
		return errNotListening
	case ending:
		return errEnding
	}
	return nil
}

// Serve answers requests on the listener until ctx is done, and for
// Options.Linger more. Then it closes the listener, waits for the answers that
// are being given, and returns nil. An error means that it ended by itself, or
// that answers were cut off. Call it once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	clientAuth := tls.NoClientCert
	if s.options.ClientCAs != nil {
		// Requested, and verified by Knows: a client with an invalid certificate is
		// still served.
		clientAuth = tls.RequestClientCert
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(s.answer),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReadFrameSize:              maxFrame,
			MaxReceiveBufferPerConnection: maxUnread,
			MaxReceiveBufferPerStream:     maxUnread,
		},
		ConnState:   newConnections(s.options.MaxConnections).changed,
		ConnContext: withClient,
		// Mostly clients that do not trust the certificate: V(1).
		ErrorLog: slog.NewLogLogger(logr.ToSlogHandler(s.options.Log), slog.Level(-1)),
		TLSConfig: &tls.Config{
			MinVersion:     s.options.MinVersion,
			GetCertificate: s.options.GetCertificate,
			ClientAuth:     clientAuth,
			ClientCAs:      s.options.ClientCAs,
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(l, "", "") }()
	// The listener takes connections already; Serve only begins to accept them.
	s.state.Store(serving)
	s.options.Log.Info("serving", "address", l.Addr().String())

	select {
	case err := <-ended:
		s.state.Store(ending)
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.state.Store(ending)
	s.options.Log.Info("ending", "linger", s.options.Linger.String())
	linger := time.NewTimer(s.options.Linger)
	defer linger.Stop()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-linger.C:
	}

	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("stop serving %s: %w", l.Addr(), err)
	}
	return nil
}

// answer hands a request on. A server that is ending asks the client to leave
// with the answer: on HTTP/2 the header becomes a GOAWAY frame, after which the
// client opens a new connection for what follows and loses nothing.
func (s *Server) answer(rw http.ResponseWriter, r *http.Request) {
	if s.state.Load() == ending {
		rw.Header().Set("Connection", "close")
	}
	s.mux.ServeHTTP(rw, r)
}
