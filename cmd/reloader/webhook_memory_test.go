//go:build !race && linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asProgram has the test binary be the program itself.
const asProgram = "RELOADER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// servingSecret is the Secret that the webhook serves with.
func servingSecret(t *testing.T, name string, hosts ...string) *corev1.Secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", ResourceVersion: "1"},
		Data: map[string][]byte{
			"tls.crt": certificate, "ca.crt": certificate,
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		},
	}
}

// victim is a webhook in a process of its own.
type victim struct {
	pid     int
	address string
}

// startWebhook runs the program with the memory limit of the chart.
func startWebhook(t *testing.T) victim {
	t.Helper()
	secret := servingSecret(t, "reloader-webhook-certificate", "reloader-webhook.ns.svc", "reloader-webhook.ns.svc.cluster.local")
	apiServer := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" {
			rw.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(corev1.SecretList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"},
			ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Secret{*secret},
		})
	}))
	t.Cleanup(apiServer.Close)
	addresses := make([]string, 2)
	for i := range addresses {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addresses[i] = l.Addr().String()
		require.NoError(t, l.Close())
	}
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program, "webhook", "--kubeconfig="+kubeconfig(t, apiServer.URL, "ns"), "--manage-certificate=false", "--publish-ca=false", //nolint:noctx // it is ended below
		"--listen-address="+addresses[0], "--metrics-address="+addresses[1], "--shutdown-delay=0")
	cmd.Env = append(os.Environ(), asProgram+"=1", "GOMEMLIMIT=256MiB")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		assert.NoError(t, cmd.Wait(), "it went on to the end")
		apiServer.CloseClientConnections()
		if t.Failed() {
			t.Log(log.String()[max(0, log.Len()-2000):])
		}
	})
	require.Eventually(t, func() bool {
		response, err := http.Get("http://" + addresses[1] + "/readyz") //nolint:noctx // a probe
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, time.Minute, 20*time.Millisecond)
	return victim{cmd.Process.Pid, addresses[0]}
}

// memory returns a figure of /proc/PID/status, such as VmHWM, in MB.
func (v victim) memory(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid))
	require.NoError(t, err)
	found := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, found)
	kb, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return kb / 1024
}

// forgetPeak begins a new VmHWM.
func (v victim) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", v.pid), []byte("5"), 0)
}

// client comes from a loopback address of its own.
func (v victim) client(t *testing.T, from string) *http.Client {
	t.Helper()
	transport := &http.Transport{
		DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// post returns the HTTP status; 0 if there was no answer.
func (v victim) post(client *http.Client, path, body string) int {
	response, err := client.Post("https://"+v.address+path, "application/json", strings.NewReader(body)) //nolint:noctx // the server ends it
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// hostileReviews are reviews of the largest size, each made of the smallest
// elements of one field, and such that take as much as they may.
func hostileReviews() map[string]string {
	const size = 7<<20 - 2048
	review := func(metadata, podSpec string) string {
		object := `{"metadata":{"name":"a"` + metadata + `},"spec":{"template":{"spec":` + podSpec + `}}}`
		return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"apps","version":"v1","kind":"Deployment"},` +
			`"operation":"UPDATE","namespace":"a","name":"a","object":` + object + `,"oldObject":{"metadata":{"name":"a"},"spec":{}}}}`
	}
	const auto = `,"annotations":{"reloader.stakater.com/auto":"true"}`
	fill := func(element string, size int) string {
		return strings.TrimSuffix(strings.Repeat(element+",", size/(len(element)+1)), ",")
	}
	reviews := map[string]string{}
	for field, element := range map[string]string{
		"containers": `{}`, "initContainers": `{"name":"a"}`, "volumes": `{"name":"a"}`, "tolerations": `{}`, "imagePullSecrets": `{"name":"a"}`,
	} {
		reviews[field] = review(auto, `{"`+field+`":[`+fill(element, size)+`]}`)
		reviews["some "+field] = review(auto, `{"`+field+`":[`+fill(element, 30_000)+`]}`)
	}
	for name, list := range map[string]string{
		"envFrom": `"envFrom":[` + fill(`{"secretRef":{"name":"a"}}`, size), "empty envFrom": `"envFrom":[` + fill(`{}`, size),
		"some env": `"env":[` + fill(`{"valueFrom":{"secretKeyRef":{"name":"a","key":"b"}}}`, 500_000), "values": `"env":[` + fill(`{"name":"a","value":""}`, size),
		"half a MB": `"args":[` + fill(`""`, 500_000), "more than half a MB": `"args":[` + fill(`""`, size),
	} {
		reviews[name] = review(auto, `{"containers":[{"name":"a",`+list+`]}]}`)
	}
	reviews["nested arrays"] = review(auto, `{"containers":[`+strings.Repeat("[", size/2)+strings.Repeat("]", size/2)+`]}`)
	reviews["arrays of depth 9000"] = review(auto, `{"x":[`+fill(strings.Repeat("[", 9000)+strings.Repeat("]", 9000), size)+`]}`)
	reviews["managedFields"] = review(auto+`,"managedFields":[`+fill(`{"fieldsV1":{"f:a":{}}}`, size)+`]`, `{}`)
	reviews["annotations"] = review(`,"annotations":{`+fill(`"reloader.stakater.com/a":""`, size)+`}`, `{}`)
	reviews["some annotations"] = review(`,"annotations":{`+fill(`"reloader.stakater.com/a":""`, 200_000)+`}`, `{}`)
	reviews["annotations of others"] = review(`,"annotations":{`+fill(`"a":""`, size)+`}`, `{}`)
	reviews["labels"] = review(`,"labels":{`+fill(`"a":""`, size)+`}`, `{}`)
	reviews["escapes"] = review(`,"annotations":{"reloader.stakater.com/auto":"`+strings.Repeat(`\u0041`, size/6)+`"}`, `{}`)
	reviews["a list"] = review(`,"annotations":{"configmap.reloader.stakater.com/reload":"`+fill("a", 250_000)+`"}`, `{}`)
	return reviews
}

// TestTheWebhooksMemory runs the program with the chart's limit of 256 MiB and
// attacks it: one review takes 40 MB at most, and all at once stay under half of
// the limit, while another address has its answers.
func TestTheWebhooksMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it sends some hundred MB")
	}
	const (
		mostOfOne = 40
		mostOfAll = 128
	)
	v := startWebhook(t)
	attacker := v.client(t, "127.0.0.2")
	paths := []string{"/mutate-workload", "/validate-workload", "/validate-source"}
	reviews := hostileReviews()
	v.post(attacker, paths[0], "{}")
	idle := v.memory(t, "VmRSS")
	most, mostBy := 0, ""
	for name, body := range reviews {
		for _, path := range paths {
			require.NoError(t, v.forgetPeak())
			status := v.post(attacker, path, body)
			assert.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, status, name)
			if took := v.memory(t, "VmHWM") - idle; took > most {
				most, mostBy = took, name+" to "+path
			}
		}
	}
	t.Logf("idle: %d MB; one at a time: %d MB more, %s", idle, most, mostBy)
	assert.LessOrEqual(t, most, mostOfOne, mostBy)

	require.NoError(t, v.forgetPeak())
	var attack sync.WaitGroup
	var ended atomic.Bool
	for i := range 64 {
		attack.Go(func() {
			client := v.client(t, "127.0.0."+strconv.Itoa(2+i%3))
			for !ended.Load() {
				for _, body := range reviews {
					v.post(client, paths[i%3], body)
				}
			}
		})
	}
	polite := v.client(t, "127.0.0.9")
	const usual = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"apps","version":"v1","kind":"Deployment"},` +
		`"operation":"CREATE","namespace":"a","name":"a","object":{"metadata":{"name":"a"},"spec":{"template":{"spec":{"containers":[{"name":"a"}]}}}}}}`
	answered, slowest := 0, time.Duration(0)
	for begin := time.Now(); time.Since(begin) < 5*time.Second; {
		start := time.Now()
		if v.post(polite, paths[0], usual) == http.StatusOK {
			answered++
		} else {
			t.Error("no answer for who is polite")
		}
		slowest = max(slowest, time.Since(start))
	}
	ended.Store(true)
	attack.Wait()
	t.Logf("all at once: %d MB; %d answers meanwhile, the slowest after %s", v.memory(t, "VmHWM"), answered, slowest)
	assert.LessOrEqual(t, v.memory(t, "VmHWM"), mostOfAll)
	assert.Positive(t, answered)
}
