package production

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"regexp"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/install"
)

const certificates = "/apis/cert-manager.io/v1/namespaces/" + namespace + "/certificates/"

// renew asks cert-manager for a new certificate, as its command line does.
func renew(t *testing.T, name string) {
	t.Helper()
	client := shared.Client().Discovery().RESTClient()
	require.Eventually(t, func() bool {
		raw, err := client.Get().AbsPath(certificates + name).DoRaw(t.Context())
		require.NoError(t, err)
		var c certmanagerv1.Certificate
		require.NoError(t, json.Unmarshal(raw, &c))
		now := metav1.Now()
		c.Status.Conditions = append(c.Status.Conditions, certmanagerv1.CertificateCondition{
			Type: certmanagerv1.CertificateConditionIssuing, Status: cmmeta.ConditionTrue,
			Reason: "ManuallyTriggered", Message: "a test", LastTransitionTime: &now,
		})
		raw, err = json.Marshal(c)
		require.NoError(t, err)
		return client.Put().AbsPath(certificates+name+"/status").Body(raw).Do(t.Context()).Error() == nil
	}, soon, often)
}

// awaitAnother waits until the Secret has another certificate than that one, and
// the webhook has had time to serve it.
func awaitAnother(t *testing.T, s *stream, secret, than string) (certificate string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, certificate = served(t, secret)
		return certificate != than
	}, soon, often)
	// It is served ten seconds after the injector has published its CA.
	s.await(t, 14*rate)
	return certificate
}

func serial(t *testing.T, certificate string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(certificate))
	require.NotNil(t, block)
	parsed, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return parsed.SerialNumber.Text(16)
}

// TestCertManager has cert-manager's own controllers issue, renew and inject.
func TestCertManager(t *testing.T) {
	require.NoError(t, shared.StartCertManager(t.Context()))
	const secret = "reloader-webhook-tls"
	s := startStream(t)
	var r *install.Release
	withCertManager := map[string]any{"certManager": map[string]any{"enabled": true}}
	s.during(t, "install", func() { r = installed(t, install.ChartOptions{Values: values(withCertManager)}) })
	bundle, first := served(t, secret)
	require.NotEmpty(t, bundle, "the injector has published the CA")

	var second, third string
	assert.Zero(t, s.during(t, "renewal of the certificate", func() {
		renew(t, "reloader-webhook")
		second = awaitAnother(t, s, secret, first)
	}))
	requireServed(t, r, second)

	assert.Zero(t, s.during(t, "renewal of the CA", func() {
		_, ca := served(t, "reloader-webhook-ca")
		renew(t, "reloader-webhook-ca")
		require.Eventually(t, func() bool {
			_, now := served(t, "reloader-webhook-ca")
			return now != ca
		}, soon, often)
		renew(t, "reloader-webhook")
		third = awaitAnother(t, s, secret, second)
	}))
	requireServed(t, r, third)

	_, err := shared.KubectlInput(t.Context(), `
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: corporate}
spec: {selfSigned: {}}
`, "apply", "-f", "-")
	require.NoError(t, err)
	assert.Zero(t, s.during(t, "change of issuer", func() {
		r = installed(t, install.ChartOptions{Values: values(map[string]any{"certManager": map[string]any{
			"enabled": true, "issuerRef": map[string]any{"name": "corporate", "kind": "ClusterIssuer"},
		}})})
		requireServed(t, r, awaitAnother(t, s, secret, third))
	}))

	s.during(t, "uninstall", func() { helm(t, "uninstall", r.Engine, "--wait") })
	s.stop()
	requireNothingLeft(t)
}

// requireServed holds that every pod of the webhook serves that certificate, by
// what it has logged.
func requireServed(t *testing.T, r *install.Release, certificate string) {
	t.Helper()
	want := serial(t, certificate)
	pods, err := r.Pods(t.Context(), r.Webhook)
	require.NoError(t, err)
	require.Len(t, pods, 2)
	for i := range pods {
		require.Eventually(t, func() bool {
			return lastServed(t, pods[i].Name) == want
		}, soon, 100*time.Millisecond, "pod %s serves %s", pods[i].Name, want)
	}
}

// lastServed is the serial number that a pod has logged last.
func lastServed(t *testing.T, pod string) string {
	t.Helper()
	text, err := os.ReadFile(shared.Pods().LogPath(namespace, pod, "webhook"))
	require.NoError(t, err)
	found := regexp.MustCompile(`certificate served .*serial=([0-9a-f]+)`).FindAllStringSubmatch(string(text), -1)
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1][1]
}
