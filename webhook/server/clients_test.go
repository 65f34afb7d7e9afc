package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// issuer signs certificates.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	return issuer{certificate, key}
}

func (i issuer) issue(t *testing.T, usage x509.ExtKeyUsage, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, i.certificate, key.Public(), i.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func TestClientsAreKnownByTheirCertificates(t *testing.T) {
	ca, other := newIssuer(t), newIssuer(t)
	later := time.Now().Add(time.Hour)
	pool := x509.NewCertPool()
	pool.AddCert(ca.certificate)
	shown := func(c tls.Certificate) *tls.Certificate { return &c }
	tests := map[string]struct {
		cas         *x509.CertPool
		certificate *tls.Certificate
		want        bool
	}{
		"one of the CA":                 {pool, shown(ca.issue(t, x509.ExtKeyUsageClientAuth, later)), true},
		"none":                          {pool, nil, false},
		"one of another CA":             {pool, shown(other.issue(t, x509.ExtKeyUsageClientAuth, later)), false},
		"one that has expired":          {pool, shown(ca.issue(t, x509.ExtKeyUsageClientAuth, time.Now().Add(-time.Hour))), false},
		"one for servers":               {pool, shown(ca.issue(t, x509.ExtKeyUsageServerAuth, later)), false},
		"one that nobody has asked for": {nil, shown(ca.issue(t, x509.ExtKeyUsageClientAuth, later)), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var r *running
			r = start(t, Options{Linger: -1, ClientCAs: tc.cas}, func(rw http.ResponseWriter, req *http.Request) {
				_, _ = fmt.Fprint(rw, r.server.Knows(req))
			})
			transport, ok := r.client.Transport.(*http.Transport)
			require.True(t, ok)
			transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if tc.certificate == nil {
					return new(tls.Certificate), nil
				}
				return tc.certificate, nil
			}
			for range 2 {
				got, err := r.get(t)
				require.NoError(t, err, "nobody is refused")
				assert.Equal(t, fmt.Sprint(tc.want), got.body)
			}
		})
	}
}
