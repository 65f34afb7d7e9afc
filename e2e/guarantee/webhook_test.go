package guarantee

import (
	"context"
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
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"k8s-reloader/e2e/cluster/process"
	"k8s-reloader/reloader/annotation"
)

// webhook is the product's webhook as one process, which the API server asks about
// workloads of the world's namespace.
type webhook struct {
	world   *world
	args    []string
	log     string
	process *process.Process
}

// webhook has the API server ask for a webhook that does not run yet.
func (w *world) webhook() *webhook {
	w.t.Helper()
	ctx := w.t.Context()
	const name = "webhook"
	_, err := w.client.CoreV1().ServiceAccounts(w.own).Create(ctx,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	account, err := shared.ServiceAccountConfig(ctx, w.own, name)
	require.NoError(w.t, err)
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: account.Host, CertificateAuthorityData: account.CAData, CertificateAuthority: account.CAFile}
	config.AuthInfos[name] = &api.AuthInfo{Token: account.BearerToken}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name, Namespace: w.own}
	config.CurrentContext = name
	kubeconfig := filepath.Join(w.logs, name+".kubeconfig")
	require.NoError(w.t, clientcmd.WriteToFile(*config, kubeconfig))

	// No connection goes out from this IP address.
	const host = "127.98.0.2"
	var addresses []string
	for range 2 {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", host+":0")
		require.NoError(w.t, err)
		addresses = append(addresses, listener.Addr().String())
		defer listener.Close()
	}
	certificate, key := certificateFor(w.t, host, "reloader-webhook."+w.own+".svc")
	_, err = w.client.CoreV1().Secrets(w.own).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key, "ca.crt": certificate},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	configurations := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	_, err = configurations.Create(ctx, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: w.own},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "mutate-workload.reloader.stakater.com",
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				URL: new("https://" + addresses[0] + "/mutate-workload"), CABundle: certificate,
			},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule: admissionregistrationv1.Rule{
					APIGroups: []string{"apps", "batch"}, APIVersions: []string{"v1"},
					Resources: []string{"deployments", "statefulsets", "daemonsets", "cronjobs"},
				},
			}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.apps}},
			FailurePolicy:           new(admissionregistrationv1.Ignore),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	h := &webhook{
		world: w,
		log:   filepath.Join(w.logs, name+".log"),
		args: []string{
			"webhook", "--kubeconfig=" + kubeconfig, "--listen-address=" + addresses[0], "--metrics-address=" + addresses[1],
			"--certificate-secret=" + name, "--manage-certificate=false", "--publish-ca=false", "--shutdown-delay=0",
		},
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		assert.NoError(w.t, configurations.Delete(ctx, w.own, metav1.DeleteOptions{}))
		if w.t.Failed() {
			w.t.Logf("log of the webhook, %s:\n%s", h.log, process.Tail(h.log, 6000))
		}
	})
	return h
}

// certificateFor returns a certificate that signs itself, for an IP address, and for
// the Service that the webhook takes itself for.
func certificateFor(t require.TestingT, host, service string) (certificate, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "reloader webhook"},
		IPAddresses:           []net.IP{net.ParseIP(host)},
		DNSNames:              []string{service, service + ".cluster.local"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(0, 0, 7),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// swap ends the webhook's process, if one runs, starts that of a program, and
// returns when the API server has a workload's record from it, of that version.
func (h *webhook) swap(program string, version int) {
	t := h.world.t
	t.Helper()
	if h.process != nil {
		require.NoError(t, h.process.Stop(20*time.Second))
		require.Equal(t, 0, h.process.ExitCode(), "after SIGTERM")
	}
	var err error
	h.process, err = h.world.group.Start(t.Context(), process.Spec{
		Name: "webhook", Path: program, Args: h.args, Log: h.log,
		Env: append(os.Environ(), "POD_NAMESPACE="+h.world.own, "POD_NAME=webhook", "GORACE=halt_on_error=1 exitcode=66"),
	})
	require.NoError(t, err)
	probe := h.world.app("probe", "probe")
	h.world.eventually("have the API server ask the webhook", func(ctx context.Context) error {
		o, err := h.world.client.AppsV1().Deployments(h.world.apps).Create(ctx, probe.Deployment(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return err
		}
		if text := o.Annotations[annotation.DefaultKeys().Index]; !strings.HasPrefix(text, fmt.Sprintf(`{"v":%d,`, version)) {
			return fmt.Errorf("the record is %q", text)
		}
		return nil
	})
}
