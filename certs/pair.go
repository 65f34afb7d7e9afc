package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The keys of the Secret.
const (
	// KeyCertificate holds the serving certificate and its intermediates, PEM.
	KeyCertificate = corev1.TLSCertKey
	// KeyPrivateKey holds the key of the serving certificate, PEM.
	KeyPrivateKey = corev1.TLSPrivateKeyKey
	// KeyCA holds the CAs to trust, PEM: the one that signs now, then those
	// before it whose leaves may still be in use.
	KeyCA = "ca.crt"
	// KeyCAKey holds the key of the CA that signs now, PEM. Only a Secret that
	// this package keeps has it.
	KeyCAKey = "ca.key"
)

// maxAuthorities bounds the CAs of a bundle, whatever happens to the Secret.
const maxAuthorities = 3

// ours reports whether this package maintains the Secret: it contains our CA key, or
// it is empty. A Secret that cert-manager fills is not ours, even if it still
// contains our key: both would overwrite each other endlessly.
func ours(secret *corev1.Secret) bool {
	if issuedBy(secret) != "" {
		return false
	}
	data := secret.Data
	return len(data[KeyCAKey]) > 0 ||
		len(data[KeyCertificate])+len(data[KeyPrivateKey])+len(data[KeyCA]) == 0
}

// certificateName is the annotation by which cert-manager marks the Secret of a
// Certificate. It is written out here, since the package that defines it brings
// along the API types of Gateway API and ACME; a test compares the two.
const certificateName = "cert-manager.io/certificate-name"

// issuedBy names the Certificate of cert-manager that the Secret is filled for;
// empty if it is not.
func issuedBy(secret *corev1.Secret) string {
	return secret.Annotations[certificateName]
}

// waiting returns the reason why a Secret that others fill has no certificate yet;
// nil if it has one.
func waiting(secret *corev1.Secret) error {
	if len(secret.Data[KeyCertificate])+len(secret.Data[KeyPrivateKey]) > 0 {
		return nil
	}
	if name := issuedBy(secret); name != "" {
		return fmt.Errorf("cert-manager has not issued it yet: see kubectl describe certificate -n %s %s", secret.Namespace, name)
	}
	return fmt.Errorf("%s and %s are missing: waiting for the controller that fills it", KeyCertificate, KeyPrivateKey)
}

// pair is a certificate that can be served, and what its clients have to trust.
type pair struct {
	cert tls.Certificate // with Leaf
	ca   []byte          // PEM, as it is published; empty if unknown
}

// parsePair returns the pair in data, or why it could not be verified now by a
// client that asks for dnsName.
func parsePair(data map[string][]byte, dnsName string, now time.Time) (*pair, error) {
	// The errors of X509KeyPair describe the problem and never contain the key.
	cert, err := tls.X509KeyPair(data[KeyCertificate], data[KeyPrivateKey])
	if err != nil {
		return nil, fmt.Errorf("read %s and %s: %w", KeyCertificate, KeyPrivateKey, err)
	}
	p := &pair{cert: cert, ca: data[KeyCA]}
	return p, p.verify(dnsName, now)
}

// verify does what a client does that trusts the published CAs only.
func (p *pair) verify(dnsName string, now time.Time) error {
	leaf := p.cert.Leaf
	if err := p.validAt(now); err != nil {
		return err
	}
	if len(p.ca) == 0 { // The configurations, or the client's system, know whom to trust.
		return leaf.VerifyHostname(dnsName)
	}
	return verify(p.cert, dnsName, parseCertificates(p.ca), now)
}

func (p *pair) validAt(now time.Time) error {
	switch leaf := p.cert.Leaf; {
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("certificate is valid from %s on", leaf.NotBefore.Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		return fmt.Errorf("certificate expired at %s", leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

func verify(cert tls.Certificate, dnsName string, roots []*x509.Certificate, now time.Time) error {
	opts := x509.VerifyOptions{
		DNSName:       dnsName,
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, root := range roots {
		opts.Roots.AddCert(root)
	}
	for _, der := range cert.Certificate[1:] {
		if intermediate, err := x509.ParseCertificate(der); err == nil {
			opts.Intermediates.AddCert(intermediate)
		}
	}
	_, err := cert.Leaf.Verify(opts)
	return err
}

// renew returns what a Secret of ours has to hold from now on, and why. It
// returns nil and no reason as long as the present data will do.
func renew(data map[string][]byte, o Options, now time.Time) (next map[string][]byte, reason string, err error) {
	a, reason := usableAuthority(data, o.CALifetime, now)
	bundle := parseCertificates(data[KeyCA])
	if reason != "" {
		if a, err = newAuthority(now, o.CALifetime); err != nil {
			return nil, "", err
		}
		bundle = slices.Insert(bundle, 0, a.cert)
	}
	trusted := stillTrusted(bundle, o.LeafLifetime, now)

	next = maps.Clone(data)
	if next == nil {
		next = map[string][]byte{}
	}
	leafReason := reason
	if leafReason == "" {
		leafReason = leafProblem(data, a, o, now)
	}
	if leafReason != "" {
		next[KeyCertificate], next[KeyPrivateKey], err = a.issue(o.DNSNames, now, o.LeafLifetime)
		if err != nil {
			return nil, "", err
		}
		if next[KeyCAKey], err = encodeKey(a.key); err != nil {
			return nil, "", err
		}
	} else if len(trusted) == len(bundle) {
		return nil, "", nil
	} else {
		leafReason = "a former CA is no longer in use"
	}
	next[KeyCA] = encodeCertificates(trusted...)
	return next, leafReason, nil
}

// usableAuthority returns the CA in data, or why there has to be a new one.
func usableAuthority(data map[string][]byte, lifetime time.Duration, now time.Time) (a authority, reason string) {
	if len(data[KeyCAKey]) == 0 {
		return authority{}, "there is none yet"
	}
	a, err := parseAuthority(data[KeyCA], data[KeyCAKey])
	switch {
	case err != nil:
		return authority{}, err.Error()
	case now.Before(a.cert.NotBefore):
		return authority{}, "CA is not valid yet"
	case !now.Before(renewal(a.cert)):
		return authority{}, "two thirds of the CA's life are over"
	case livesLonger(a.cert, lifetime):
		return authority{}, "the CA is made for longer than it may be"
	}
	return a, ""
}

// leafProblem returns why there has to be a new leaf, or nothing.
func leafProblem(data map[string][]byte, a authority, o Options, now time.Time) string {
	cert, err := tls.X509KeyPair(data[KeyCertificate], data[KeyPrivateKey])
	if err != nil {
		return "certificate and key cannot be read"
	}
	for _, name := range o.DNSNames {
		if err := verify(cert, name, []*x509.Certificate{a.cert}, now); err != nil {
			return err.Error()
		}
	}
	if !now.Before(renewal(cert.Leaf)) {
		return "two thirds of its life are over"
	}
	if livesLonger(cert.Leaf, o.LeafLifetime) {
		return "it is made for longer than it may be"
	}
	return ""
}

// livesLonger reports whether a certificate has a longer lifetime than a new one
// would have. A shorter lifetime in the configuration applies to it, too.
func livesLonger(cert *x509.Certificate, lifetime time.Duration) bool {
	return cert.NotAfter.Sub(cert.NotBefore) > lifetime+backdated(lifetime)+2*time.Second
}

// stillTrusted returns, as DER, the signing CA (the first) and the former CAs whose
// leaves may still be in use.
func stillTrusted(bundle []*x509.Certificate, leafLifetime time.Duration, now time.Time) [][]byte {
	trusted := [][]byte{bundle[0].Raw}
	if !now.Before(takeover(bundle[0], leafLifetime)) {
		return trusted
	}
	for _, cert := range bundle[1:] {
		if len(trusted) < maxAuthorities && now.Before(cert.NotAfter) {
			trusted = append(trusted, cert.Raw)
		}
	}
	return trusted
}

// takeover returns the time at which the last leaf of the CA before this one
// has expired at the latest. The CA signed from its making on, which is somewhat
// after the beginning of its validity; see certificate.
func takeover(ca *x509.Certificate, leafLifetime time.Duration) time.Time {
	// A life that is backdated by a tenth is eleven tenths long.
	past := min(backdate, ca.NotAfter.Sub(ca.NotBefore)/11)
	return ca.NotBefore.Add(past + leafLifetime + time.Second) // times in certificates are whole seconds
}

// due returns when renew has to be asked again about data that it accepted.
func due(data map[string][]byte, leaf *x509.Certificate, leafLifetime time.Duration) (time.Time, error) {
	bundle := parseCertificates(data[KeyCA])
	if len(bundle) == 0 {
		return time.Time{}, errors.New("no CA certificate")
	}
	at := renewal(leaf)
	if ca := renewal(bundle[0]); ca.Before(at) {
		at = ca
	}
	if drop := takeover(bundle[0], leafLifetime); len(bundle) > 1 && drop.Before(at) {
		at = drop
	}
	return at, nil
}
