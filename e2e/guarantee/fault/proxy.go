package fault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log" //nolint:depguard // net/http takes no other logger
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Moment is where a request stands.
type Moment string

// The moments that Options.Watch is told of.
const (
	// Arrived: the API server does not know of the request yet.
	Arrived Moment = "arrived"
	// Done: the API server has carried it out, the client does not know yet.
	Done Moment = "done"
)

// Options describe a proxy.
type Options struct {
	// Upstream is how to reach the API server. Its credentials are not used.
	Upstream *rest.Config
	// Seed draws the faults.
	Seed uint64
	// Watch, if not nil, is called at each moment of each request, by many
	// goroutines. The request goes on when it returns true, and is cut otherwise.
	Watch func(Request, Moment) bool
}

// Proxy is a reverse proxy on loopback. Its methods may be called concurrently.
type Proxy struct {
	watch     func(Request, Moment) bool
	reverse   *httputil.ReverseProxy
	transport *http.Transport
	server    *http.Server
	network   *network
	caPEM     []byte
	serving   sync.WaitGroup

	mu sync.Mutex
	// random draws the faults; guarded by mu.
	random *rand.Rand
	// rate is the share of requests that go wrong; guarded by mu.
	rate float64
	// tally counts requests and faults; guarded by mu.
	tally tally
}

// Start runs a proxy until Close.
func Start(ctx context.Context, o Options) (*Proxy, error) {
	target, err := url.Parse(o.Upstream.Host)
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	trust, err := rest.TLSConfigFor(&rest.Config{TLSClientConfig: o.Upstream.TLSClientConfig})
	if err != nil {
		return nil, fmt.Errorf("trust the API server: %w", err)
	}
	certificate, caPEM, err := newCertificate()
	if err != nil {
		return nil, fmt.Errorf("make the proxy's certificate: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	p := &Proxy{
		watch:     o.Watch,
		network:   newNetwork(listener),
		caPEM:     caPEM,
		random:    rand.New(rand.NewPCG(o.Seed, 0)),
		tally:     newTally(time.Now()),
		transport: &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true},
	}
	if p.watch == nil {
		p.watch = func(Request, Moment) bool { return true }
	}
	silent := stdlog.New(io.Discard, "", 0)
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      p.transport,
		FlushInterval:  -1,
		ModifyResponse: p.answered,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { cut() },
		ErrorLog:       silent,
	}
	p.server = &http.Server{
		Handler:           p,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ErrorLog:          silent,
		ReadHeaderTimeout: time.Minute,
	}
	p.serving.Go(func() {
		// It only ever returns because of Close.
		_ = p.server.ServeTLS(p.network, "", "")
	})
	return p, nil
}

// Close ends the proxy and all connections.
func (p *Proxy) Close() error {
	p.network.set(whole)
	err := p.server.Close()
	p.serving.Wait()
	p.transport.CloseIdleConnections()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// WriteKubeconfig writes a kubeconfig that reaches the API server through the
// proxy with the token of that configuration.
func (p *Proxy) WriteKubeconfig(path string, as *rest.Config) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["proxy"] = &clientcmdapi.Cluster{
		Server:                   "https://" + p.network.Addr().String(),
		CertificateAuthorityData: p.caPEM,
	}
	config.AuthInfos["user"] = &clientcmdapi.AuthInfo{Token: as.BearerToken}
	config.Contexts["proxy"] = &clientcmdapi.Context{Cluster: "proxy", AuthInfo: "user"}
	config.CurrentContext = "proxy"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write the proxy's kubeconfig: %w", err)
	}
	return nil
}

// Inject makes that share of the requests go wrong, from 0 to 1.
func (p *Proxy) Inject(rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = rate
}

// Refuse closes all connections and every new one at once, until Heal.
func (p *Proxy) Refuse() { p.network.set(refused) }

// Silence lets nothing through any more, in neither direction and without a
// word, until Heal: what was on its way is lost then.
func (p *Proxy) Silence() { p.network.set(silenced) }

// Heal ends Refuse and Silence.
func (p *Proxy) Heal() { p.network.set(whole) }

// Counts returns what has come so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.tally.counts()
	counts.Connections = p.network.accepted()
	return counts
}

type faultKey struct{}

type passing struct {
	request Request
	fault   kind
}

// ServeHTTP is for net/http.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := requestOf(r)
	fault := p.draw(request)
	if !p.watch(request, Arrived) {
		cut()
	}
	switch fault {
	case conflict, tooMany, broken:
		fault.answer(w)
		return
	case cutBefore:
		cut()
	case disconnect:
		p.network.cut(r.RemoteAddr)
		cut()
	case none, lateTimeout, cutAfter:
	}
	ctx := context.WithValue(r.Context(), faultKey{}, passing{request, fault})
	p.reverse.ServeHTTP(w, r.WithContext(ctx))
}

var errCut = errors.New("cut by the proxy")

// answered is called when the API server's answer begins.
func (p *Proxy) answered(answer *http.Response) error {
	pass, ok := answer.Request.Context().Value(faultKey{}).(passing)
	if !ok {
		return nil
	}
	if !p.watch(pass.request, Done) {
		return errCut
	}
	switch pass.fault {
	case cutAfter:
		return errCut
	case lateTimeout:
		// The write has been made all the same.
		_ = answer.Body.Close()
		pass.fault.replace(answer)
	case none, conflict, tooMany, broken, cutBefore, disconnect:
	}
	return nil
}

func (p *Proxy) draw(r Request) kind {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := none
	if p.random.Float64() < p.rate {
		k = drawKind(p.random, r)
	}
	p.tally.add(time.Now(), r, k)
	return k
}

// cut resets the stream, or closes the connection where it has only one.
func cut() {
	panic(http.ErrAbortHandler) //nolint:forbidigo // net/http knows no other way
}
