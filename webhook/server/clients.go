package server

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
)

// maxChain bounds the certificates of a client that are verified: its own and some
// intermediates.
const maxChain = 4

// client caches whether the client of a connection is known.
type client struct {
	verify sync.Once
	known  bool
}

// clientOf is the context key of a connection's client.
type clientOf struct{}

func withClient(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, clientOf{}, new(client))
}

// Knows reports whether a request came from a client with a certificate that
// one of Options.ClientCAs has signed. Clients without one are served as well,
// so it is for the caller to make a difference. It verifies once per connection.
func (s *Server) Knows(r *http.Request) bool {
	c, ok := r.Context().Value(clientOf{}).(*client)
	if !ok || s.options.ClientCAs == nil || r.TLS == nil {
		return false
	}
	c.verify.Do(func() { c.known = s.verifies(r.TLS.PeerCertificates) })
	return c.known
}

func (s *Server) verifies(chain []*x509.Certificate) bool {
	if len(chain) == 0 || len(chain) > maxChain {
		return false
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: s.options.ClientCAs, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}
