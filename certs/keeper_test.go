package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
)

const (
	serviceName = "hook.system.svc"
	deadline    = 10 * time.Second
	tick        = 2 * time.Millisecond
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is the part of a cluster that keepers see.
type world struct {
	secrets    *memory[*corev1.Secret]
	mutating   *memory[*admissionregistrationv1.MutatingWebhookConfiguration]
	validating *memory[*admissionregistrationv1.ValidatingWebhookConfiguration]
	clock      *clocktesting.FakeClock
	log        syncBuffer
	keepers    int
}

func newWorld(data map[string][]byte) *world {
	path := "/mutate"
	return &world{
		secrets: newMemory((*corev1.Secret).DeepCopy, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: "cert", Labels: map[string]string{"kept": "yes"}},
			Data:       data,
		}),
		mutating: newMemory((*admissionregistrationv1.MutatingWebhookConfiguration).DeepCopy, &admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "hook"},
			Webhooks: []admissionregistrationv1.MutatingWebhook{{
				Name: "mutate.example.com",
				ClientConfig: admissionregistrationv1.WebhookClientConfig{
					Service: &admissionregistrationv1.ServiceReference{Namespace: "system", Name: "hook", Path: &path},
				},
			}},
		}),
		validating: newMemory((*admissionregistrationv1.ValidatingWebhookConfiguration).DeepCopy, &admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "hook"},
			Webhooks: []admissionregistrationv1.ValidatingWebhook{
				{Name: "workload.example.com"}, {Name: "source.example.com"},
			},
		}),
		clock: clocktesting.NewFakeClock(noon),
	}
}

func (w *world) options() Options {
	return Options{
		Namespace:                "system",
		Secret:                   "cert",
		DNSNames:                 []string{serviceName, serviceName + ".cluster.local"},
		MutatingConfigurations:   []string{"hook"},
		ValidatingConfigurations: []string{"hook"},
		LeafLifetime:             90 * time.Hour,
		CALifetime:               900 * time.Hour,
		Clock:                    w.clock,
		Log:                      funcr.New(func(_, args string) { w.log.println(args) }, funcr.Options{Verbosity: 10}),
	}
}

func (w *world) client() Client {
	return Client{Secrets: secretsIn{w.secrets}, Mutating: mutatingIn{w.mutating}, Validating: validatingIn{w.validating}}
}

// run starts a keeper that ends with the test.
func (w *world) run(t *testing.T, client Client) *Keeper {
	t.Helper()
	return w.runWith(t, client, func(*Options) {})
}

func (w *world) runWith(t *testing.T, client Client, change func(*Options)) *Keeper {
	t.Helper()
	opts := w.options()
	change(&opts)
	k, err := New(client, opts)
	require.NoError(t, err)
	w.keepers++
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	return k
}

func (w *world) ready(t *testing.T, k *Keeper) {
	t.Helper()
	require.Eventually(t, func() bool { return k.Ready() == nil }, deadline, tick, "ready")
}

// step moves the clock once every keeper waits for it.
func (w *world) step(t *testing.T, d time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool { return w.clock.Waiters() == w.keepers }, deadline, tick)
	w.clock.Step(d)
}

// await lets a little time go by until the condition holds: a keeper that was
// just looking when a certificate expired takes what it sees for a failure, and
// tries again a second later.
func (w *world) await(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		w.clock.Step(100 * time.Millisecond)
		return condition()
	}, deadline, tick)
}

// published returns the bundle that the API server has for the mutating webhook.
func (w *world) published() []byte {
	return w.mutating.peek("hook").Webhooks[0].ClientConfig.CABundle
}

// handshake does what the API server does with this bundle.
func (w *world) handshake(t *testing.T, k *Keeper, bundle []byte) (*x509.Certificate, error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: k.GetCertificate, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() { _ = listener.Close() }()
	serving.Go(func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = conn.Read(nil) // the handshake
			_ = conn.Close()
		}
	})
	dialer := tls.Dialer{Config: &tls.Config{
		RootCAs: roots, ServerName: serviceName, Time: w.clock.Now, MinVersion: tls.VersionTLS12,
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	client, ok := conn.(*tls.Conn)
	require.True(t, ok)
	return client.ConnectionState().PeerCertificates[0], nil
}

func leafOf(t *testing.T, k *Keeper) *x509.Certificate {
	t.Helper()
	cert, err := k.GetCertificate(nil)
	require.NoError(t, err)
	return cert.Leaf
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) println(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.WriteString(s + "\n")
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestAnEmptySecretIsFilledServedAndPublished(t *testing.T) {
	w := newWorld(nil)
	k := w.run(t, w.client())
	w.ready(t, k)

	leaf, err := w.handshake(t, k, w.published())
	require.NoError(t, err)
	assert.Equal(t, w.options().DNSNames, leaf.DNSNames)
	assert.Equal(t, x509.KeyUsageDigitalSignature, leaf.KeyUsage)
	assert.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, leaf.ExtKeyUsage)
	assert.Equal(t, x509.ECDSA, leaf.PublicKeyAlgorithm)
	assert.True(t, leaf.NotBefore.Before(noon))
	assert.Equal(t, noon.Add(90*time.Hour), leaf.NotAfter)

	secret := w.secrets.peek("cert")
	assert.Equal(t, map[string]string{"kept": "yes"}, secret.Labels)
	for _, webhook := range w.validating.peek("hook").Webhooks {
		assert.Equal(t, secret.Data[KeyCA], webhook.ClientConfig.CABundle, webhook.Name)
	}
	mutating := w.mutating.peek("hook")
	assert.Equal(t, secret.Data[KeyCA], mutating.Webhooks[0].ClientConfig.CABundle)
	assert.Equal(t, "hook", mutating.Webhooks[0].ClientConfig.Service.Name, "the rest of the webhook stays")
	assert.Equal(t, []int{1, 1, 1}, []int{w.secrets.written(), w.mutating.written(), w.validating.written()})

	_, err = w.handshake(t, k, nil)
	assert.Error(t, err, "nobody trusts the certificate without the published CA")
}

func TestAValidPairIsTakenOver(t *testing.T) {
	w := newWorld(nil)
	w.ready(t, w.run(t, w.client()))
	before := w.secrets.peek("cert")

	second := w.run(t, w.client())
	w.ready(t, second)
	assert.Equal(t, before, w.secrets.peek("cert"))
	_, err := w.handshake(t, second, w.published())
	assert.NoError(t, err)
}

func TestRacingKeepersAgree(t *testing.T) {
	for range 20 {
		w := newWorld(nil)
		release := w.secrets.blockWrites() // all of them have read the empty Secret
		keepers := []*Keeper{w.run(t, w.client()), w.run(t, w.client()), w.run(t, w.client())}
		for _, k := range keepers {
			require.Eventually(t, func() bool { obj, _ := k.secret.get(); return obj != nil }, deadline, tick)
		}
		release()
		for _, k := range keepers {
			w.ready(t, k)
		}
		want := leafOf(t, keepers[0])
		for _, k := range keepers {
			got, err := w.handshake(t, k, w.published())
			require.NoError(t, err)
			require.True(t, want.Equal(got))
		}
		require.Equal(t, 1, w.secrets.written())
	}
}

func TestALeafIsRenewedAndServedWithoutARestart(t *testing.T) {
	w := newWorld(nil)
	k := w.run(t, w.client())
	other := w.run(t, w.client())
	w.ready(t, k)
	w.ready(t, other)
	first, bundle := leafOf(t, k), w.published()

	w.step(t, 61*time.Hour)
	for _, keeper := range []*Keeper{k, other} {
		require.Eventually(t, func() bool { return !leafOf(t, keeper).Equal(first) }, deadline, tick)
		w.ready(t, keeper)
		leaf, err := w.handshake(t, keeper, bundle)
		require.NoError(t, err, "the same CA signs it")
		assert.Equal(t, w.clock.Now().Add(90*time.Hour), leaf.NotAfter)
	}
	assert.Equal(t, bundle, w.published())
	assert.Equal(t, 2, w.secrets.written())
}

func TestANewCAIsPublishedBeforeItsLeafIsServed(t *testing.T) {
	w := newWorld(nil)
	k := w.run(t, w.client())
	w.ready(t, k)
	first, firstBundle := leafOf(t, k), w.published()

	// Nobody was there to renew the leaf until now, when the CA is due as well:
	// the leaf must still be valid for the overlap to matter.
	secret := w.secrets.peek("cert")
	ca, err := parseAuthority(secret.Data[KeyCA], secret.Data[KeyCAKey])
	require.NoError(t, err)
	w.step(t, 599*time.Hour)
	w.await(t, func() bool { return leafOf(t, k).NotAfter.After(w.clock.Now()) && k.Ready() == nil })
	beforeLast := leafOf(t, k)
	require.False(t, beforeLast.Equal(first))
	require.Equal(t, firstBundle, w.published())

	release := w.mutating.blockWrites()
	defer release()
	require.True(t, renewal(ca.cert).Before(w.clock.Now().Add(2*time.Hour)))
	w.step(t, 2*time.Hour)
	require.Eventually(t, func() bool { return w.secrets.written() == 3 }, deadline, tick)
	leaf, err := w.handshake(t, k, w.published())
	require.NoError(t, err)
	assert.True(t, leaf.Equal(beforeLast), "the old leaf is served until all trust the new CA")

	release()
	require.Eventually(t, func() bool { return len(parseCertificates(w.published())) == 2 }, deadline, tick)
	w.ready(t, k)
	w.step(t, maxSettle-time.Millisecond)
	require.True(t, leafOf(t, k).Equal(beforeLast), "API servers have time to hear of the new CA")
	require.Eventually(t, func() bool {
		w.clock.Step(time.Millisecond)
		return !leafOf(t, k).Equal(beforeLast)
	}, deadline, tick)
	w.ready(t, k)
	_, err = w.handshake(t, k, w.published())
	require.NoError(t, err)
	_, err = w.handshake(t, k, firstBundle)
	require.Error(t, err)

	w.step(t, 91*time.Hour) // the last leaf of the former CA has expired
	w.await(t, func() bool { return len(parseCertificates(w.published())) == 1 })
	w.ready(t, k)
	_, err = w.handshake(t, k, w.published())
	require.NoError(t, err)
}

func TestAnOverwrittenBundleIsPublishedAgain(t *testing.T) {
	w := newWorld(nil)
	k := w.run(t, w.client())
	w.ready(t, k)

	upgraded := w.validating.peek("hook")
	upgraded.Webhooks = append(upgraded.Webhooks, admissionregistrationv1.ValidatingWebhook{Name: "new.example.com"})
	upgraded.Webhooks[0].ClientConfig.CABundle = nil
	w.validating.put(upgraded)
	require.Eventually(t, func() bool {
		for _, webhook := range w.validating.peek("hook").Webhooks {
			if !bytes.Equal(webhook.ClientConfig.CABundle, w.published()) {
				return false
			}
		}
		return true
	}, deadline, tick)
	w.ready(t, k)
	assert.Len(t, w.validating.peek("hook").Webhooks, 3)
	assert.Equal(t, 2, w.validating.written())
	assert.Equal(t, 1, w.mutating.written())
}

func TestAFightOverABundleIsBounded(t *testing.T) {
	w := newWorld(nil)
	k := w.run(t, w.client())
	w.ready(t, k)
	for range 50 {
		other := w.mutating.peek("hook")
		other.Webhooks[0].ClientConfig.CABundle = []byte("mine")
		w.mutating.put(other)
		require.Eventually(t, func() bool {
			k.mu.RLock()
			defer k.mu.RUnlock()
			return k.trouble != nil || string(w.published()) != "mine"
		}, deadline, tick)
	}
	assert.LessOrEqual(t, w.mutating.written(), writeBurst)
	require.ErrorIs(t, k.Ready(), errTooManyWrites)

	require.Eventually(t, func() bool { // it goes on later
		w.clock.Step(time.Second)
		return k.Ready() == nil
	}, deadline, tick)
}

func TestAReplicaThatIsBehindNeverPublishesAnOlderCA(t *testing.T) {
	w := newWorld(nil)
	w.ready(t, w.run(t, w.client()))
	behind := w.client()
	behind.Secrets = deafSecretsIn{secretsIn{w.secrets}}
	k := w.run(t, behind)
	w.ready(t, k)

	// Another replica makes a new CA and publishes it; only the configurations
	// tell this one.
	secret := w.secrets.peek("cert")
	delete(secret.Data, KeyCA)
	data, _, err := renew(secret.Data, w.options(), w.clock.Now())
	require.NoError(t, err)
	secret.Data = data
	w.secrets.put(secret)
	require.Eventually(t, func() bool { return bytes.Equal(w.published(), data[KeyCA]) }, deadline, tick)
	require.Eventually(t, func() bool {
		_, err := w.handshake(t, k, data[KeyCA])
		return err == nil
	}, deadline, tick)
	w.ready(t, k)
	assert.Equal(t, 2, w.mutating.written(), "it took the newer one, without a fight")
}

func TestADamagedSecretIsMadeGood(t *testing.T) {
	good, _, err := renew(nil, newWorld(nil).options(), noon)
	require.NoError(t, err)
	other, _, err := renew(nil, newWorld(nil).options(), noon)
	require.NoError(t, err)
	with := func(changes map[string][]byte) map[string][]byte {
		data := map[string][]byte{}
		for _, from := range []map[string][]byte{good, changes} {
			maps.Copy(data, from)
		}
		return data
	}

	tests := map[string]struct {
		data       map[string][]byte
		wantSameCA bool
	}{
		"certificate is garbage":               {data: with(map[string][]byte{KeyCertificate: []byte("x")}), wantSameCA: true},
		"certificate is cut in half":           {data: with(map[string][]byte{KeyCertificate: good[KeyCertificate][:200]}), wantSameCA: true},
		"certificate is missing":               {data: with(map[string][]byte{KeyCertificate: nil}), wantSameCA: true},
		"key is of another certificate":        {data: with(map[string][]byte{KeyPrivateKey: other[KeyPrivateKey]}), wantSameCA: true},
		"certificate is of another CA":         {data: with(map[string][]byte{KeyCertificate: other[KeyCertificate], KeyPrivateKey: other[KeyPrivateKey]}), wantSameCA: true},
		"CA is missing":                        {data: with(map[string][]byte{KeyCA: nil})},
		"CA is garbage":                        {data: with(map[string][]byte{KeyCA: []byte("-----BEGIN CERTIFICATE-----")})},
		"CA key is garbage":                    {data: with(map[string][]byte{KeyCAKey: []byte("x")})},
		"CA key is of another CA":              {data: with(map[string][]byte{KeyCAKey: other[KeyCAKey]})},
		"CA key is a serving key and no CA":    {data: with(map[string][]byte{KeyCA: good[KeyCertificate], KeyCAKey: good[KeyPrivateKey]})},
		"only the CA key is left, as garbage":  {data: map[string][]byte{KeyCAKey: {0}}},
		"all keys are there and all are empty": {data: map[string][]byte{KeyCertificate: {}, KeyPrivateKey: {}, KeyCA: {}, KeyCAKey: {}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(tc.data)
			k := w.run(t, w.client())
			w.ready(t, k)
			_, err := w.handshake(t, k, w.published())
			require.NoError(t, err)
			assert.Equal(t, tc.wantSameCA, bytes.Equal(good[KeyCA], w.published()))
			assert.Equal(t, 1, w.secrets.written())
		})
	}
}

func TestABroughtSecretIsServedAndNeverWritten(t *testing.T) {
	made, _, err := renew(nil, newWorld(nil).options(), noon)
	require.NoError(t, err)
	newer, _, err := renew(nil, newWorld(nil).options(), noon)
	require.NoError(t, err)
	for _, data := range []map[string][]byte{made, newer} {
		delete(data, KeyCAKey)
	}

	w := newWorld(made)
	k := w.run(t, w.client())
	w.ready(t, k)
	_, err = w.handshake(t, k, made[KeyCA])
	require.NoError(t, err)
	assert.Equal(t, made[KeyCA], w.published())

	secret := w.secrets.peek("cert")
	secret.Data = newer
	w.secrets.put(secret)
	require.Eventually(t, func() bool { return bytes.Equal(newer[KeyCA], w.published()) }, deadline, tick)
	w.ready(t, k)
	_, err = w.handshake(t, k, newer[KeyCA])
	require.NoError(t, err)

	// What cannot be verified is not taken.
	secret = w.secrets.peek("cert")
	secret.Data = map[string][]byte{KeyCertificate: []byte("x"), KeyPrivateKey: []byte("y"), KeyCA: newer[KeyCA]}
	w.secrets.put(secret)
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "secret system/cert: read tls.crt and tls.key") }, deadline, tick)
	require.NoError(t, k.Ready(), "the pair before it is valid still")

	w.step(t, 91*time.Hour)
	require.ErrorContains(t, k.Ready(), "certificate expired")
	assert.Zero(t, w.secrets.written())
}

func TestABroughtSecretWithoutACALeavesTheConfigurationsAlone(t *testing.T) {
	made, _, err := renew(nil, newWorld(nil).options(), noon)
	require.NoError(t, err)
	w := newWorld(map[string][]byte{KeyCertificate: made[KeyCertificate], KeyPrivateKey: made[KeyPrivateKey]})
	k := w.run(t, w.client())
	w.ready(t, k)
	_, err = w.handshake(t, k, made[KeyCA])
	require.NoError(t, err)
	assert.Empty(t, w.published())
}

func TestReadyTellsWhatIsMissing(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "cert", nil)
	tests := map[string]struct {
		given   func(w *world)
		want    string
		restore func(w *world)
	}{
		"no Secret": {
			given: func(w *world) { w.secrets.remove("cert") },
			want:  "no certificate yet: read secret system/cert",
			restore: func(w *world) {
				w.secrets.put(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: "cert"}})
			},
		},
		"no right to write it": {
			given:   func(w *world) { w.secrets.refuseWrites(forbidden) },
			want:    "no certificate yet: write secret system/cert",
			restore: func(w *world) { w.secrets.refuseWrites(nil) },
		},
		"no configuration": {
			given: func(w *world) { w.validating.remove("hook") },
			want:  "ValidatingWebhookConfiguration hook: not found",
			restore: func(w *world) {
				w.validating.put(&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "hook"}})
			},
		},
		"no right to write the configuration": {
			given:   func(w *world) { w.mutating.refuseWrites(forbidden) },
			want:    "MutatingWebhookConfiguration hook: webhook mutate.example.com does not trust the certificate",
			restore: func(w *world) { w.mutating.refuseWrites(nil) },
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(nil)
			tc.given(w)
			k := w.run(t, w.client())
			require.Eventually(t, func() bool {
				err := k.Ready()
				return err != nil && strings.Contains(err.Error(), tc.want)
			}, deadline, tick, tc.want)
			tc.restore(w)
			require.Eventually(t, func() bool {
				w.clock.Step(time.Second)
				return k.Ready() == nil
			}, deadline, tick)
		})
	}
}

func TestNothingToServeIsAnError(t *testing.T) {
	k, err := New(newWorld(nil).client(), newWorld(nil).options())
	require.NoError(t, err)
	_, err = k.GetCertificate(nil)
	require.ErrorIs(t, err, errNoCertificate)
	assert.ErrorIs(t, k.Ready(), errNoCertificate)
}

func TestNoKeyIsEverLogged(t *testing.T) {
	w := newWorld(map[string][]byte{KeyCAKey: []byte("PRIVATE garbage")})
	k := w.run(t, w.client())
	w.ready(t, k)
	w.step(t, 61*time.Hour)
	require.Eventually(t, func() bool { return w.secrets.written() == 2 }, deadline, tick)
	require.Eventually(t, func() bool { return strings.Count(w.log.String(), "certificate served") == 2 }, deadline, tick)

	logged := w.log.String()
	assert.NotContains(t, logged, "PRIVATE")
	for _, key := range []string{KeyPrivateKey, KeyCAKey} {
		for line := range strings.Lines(string(w.secrets.peek("cert").Data[key])) {
			assert.NotContains(t, logged, strings.TrimSpace(line))
		}
	}
}

func TestAPanicIsAFailureOfTheStep(t *testing.T) {
	w := newWorld(nil)
	k, err := New(w.client(), w.options())
	require.NoError(t, err)
	k.secret = nil
	_, err = k.guardedStep(t.Context())
	require.ErrorContains(t, err, "panic: ")
}
