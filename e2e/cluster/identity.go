package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The users of the cluster's own components. Apart from the scheduler and the
// controller manager, which have the roles that every cluster gives them, they
// may do everything.
const (
	adminUser             = "admin"
	kwokUser              = "kwok"
	podRunnerUser         = "pod-runner"
	controllerManagerUser = "system:kube-controller-manager"
	schedulerUser         = "system:kube-scheduler"
)

// identity is who the cluster is to its clients and who they are to it: made
// anew by each start, and gone with the state folder.
type identity struct {
	caPEM []byte
	// tokens has a static token for each user.
	tokens map[string]string
}

// newIdentity writes to dir: ca.crt, apiserver.crt and .key, the key that signs
// ServiceAccount tokens, and the file of static tokens.
func newIdentity(dir string) (*identity, error) {
	caKey, ca, err := newCertificate(nil, nil, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "reloader local cluster CA"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
	if err != nil {
		return nil, fmt.Errorf("make the CA: %w", err)
	}
	servingKey, serving, err := newCertificate(caKey, ca, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 96, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, fmt.Errorf("make the API server's certificate: %w", err)
	}
	signingKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of ServiceAccount tokens: %w", err)
	}
	servingKeyPEM, err := keyPEM(servingKey)
	if err != nil {
		return nil, err
	}
	signingKeyPEM, err := keyPEM(signingKey)
	if err != nil {
		return nil, err
	}

	id := &identity{caPEM: certificatePEM(ca), tokens: map[string]string{}}
	var tokens bytes.Buffer
	for _, user := range []string{adminUser, kwokUser, podRunnerUser, controllerManagerUser, schedulerUser} {
		token := rand.Text()
		id.tokens[user] = token
		groups := ""
		if user == adminUser || user == kwokUser || user == podRunnerUser {
			groups = ",system:masters"
		}
		fmt.Fprintf(&tokens, "%s,%s,%s%s\n", token, user, user, groups)
	}
	for name, content := range map[string][]byte{
		"ca.crt":              id.caPEM,
		"apiserver.crt":       certificatePEM(serving),
		"apiserver.key":       servingKeyPEM,
		"serviceaccounts.key": signingKeyPEM,
		"tokens.csv":          tokens.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("write the cluster's identity: %w", err)
		}
	}
	return id, nil
}

// newCertificate completes the template and signs it with the parent's key;
// with a nil parent it signs itself.
func newCertificate(parentKey *ecdsa.PrivateKey, parent, template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().AddDate(1, 0, 0)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return key, cert, err
}

func certificatePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// writeKubeconfig writes a kubeconfig with a token, for one user of server.
func writeKubeconfig(path, server string, caPEM []byte, user, namespace, token string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["local"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: caPEM}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["local"] = &clientcmdapi.Context{Cluster: "local", AuthInfo: user, Namespace: namespace}
	config.CurrentContext = "local"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write the kubeconfig of %s: %w", user, err)
	}
	return nil
}
