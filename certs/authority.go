package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	blockCertificate = "CERTIFICATE"
	blockKey         = "PRIVATE KEY"

	// backdate is how far in the past a validity begins, at most: clocks of
	// nodes differ a little.
	backdate = 5 * time.Minute
)

// authority is a CA of our own: it can sign.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(now time.Time, lifetime time.Duration) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("make CA key: %w", err)
	}
	template, err := certificate(now, lifetime)
	if err != nil {
		return authority{}, err
	}
	// Successive CAs have the same name; their key identifiers differ.
	template.Subject = pkix.Name{CommonName: "webhook serving CA"}
	template.IsCA = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("read back CA certificate: %w", err)
	}
	return authority{cert: cert, key: key}, nil
}

// issue returns a serving certificate with a new key, both as PEM.
func (a authority) issue(dnsNames []string, now time.Time, lifetime time.Duration) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make serving key: %w", err)
	}
	template, err := certificate(now, lifetime)
	if err != nil {
		return nil, nil, err
	}
	template.DNSNames = dnsNames
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign serving certificate: %w", err)
	}
	keyPEM, err = encodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return encodeCertificates(der), keyPEM, nil
}

// certificate returns what CA and leaf have in common.
func certificate(now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	// 159 random bits: RFC 5280 allows 20 octets, and their first bit is the sign.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             now.Add(-backdated(lifetime)),
		NotAfter:              now.Add(lifetime),
		BasicConstraintsValid: true,
	}, nil
}

// backdated returns how far in the past a validity of that length begins.
func backdated(lifetime time.Duration) time.Duration { return min(backdate, lifetime/10) }

// renewal returns the time at which two thirds of a certificate's life are over.
func renewal(cert *x509.Certificate) time.Time {
	return cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)
}

// parseAuthority returns the CA whose certificate stands first in a bundle.
// No error ever holds a part of the key.
func parseAuthority(bundle, keyPEM []byte) (authority, error) {
	certs := parseCertificates(bundle)
	if len(certs) == 0 {
		return authority{}, errors.New("no CA certificate")
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil || block.Type != blockKey {
		return authority{}, errors.New("CA key is no PKCS #8 PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return authority{}, errors.New("CA key cannot be parsed")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return authority{}, errors.New("CA key is no ECDSA key")
	}
	cert := certs[0]
	if !key.PublicKey.Equal(cert.PublicKey) {
		return authority{}, errors.New("CA key and CA certificate do not belong together")
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return authority{}, errors.New("CA certificate may not sign")
	}
	return authority{cert: cert, key: key}, nil
}

// parseCertificates returns the certificates of a PEM bundle, in order. What is
// no certificate is skipped.
func parseCertificates(bundle []byte) []*x509.Certificate {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, bundle = pem.Decode(bundle)
		if block == nil {
			return certs
		}
		if block.Type != blockCertificate {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, cert)
		}
	}
}

func encodeCertificates(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der})...)
	}
	return out
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}
