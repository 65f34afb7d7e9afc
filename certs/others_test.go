package certs

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// brought returns a pair of a CA that is nobody's here, and that CA.
func brought(t *testing.T, w *world) (data map[string][]byte, ca []byte) {
	t.Helper()
	data, _, err := renew(nil, w.options(), w.clock.Now())
	require.NoError(t, err)
	delete(data, KeyCAKey)
	return data, data[KeyCA]
}

// inject does what cert-manager's injector does with all configurations.
func (w *world) inject(bundle []byte) {
	mutating := w.mutating.peek("hook")
	for i := range mutating.Webhooks {
		mutating.Webhooks[i].ClientConfig.CABundle = bundle
	}
	w.mutating.put(mutating)
	validating := w.validating.peek("hook")
	for i := range validating.Webhooks {
		validating.Webhooks[i].ClientConfig.CABundle = bundle
	}
	w.validating.put(validating)
}

// runForOthers starts a keeper that keeps nothing itself.
func (w *world) runForOthers(t *testing.T) *Keeper {
	t.Helper()
	return w.runWith(t, w.client(), func(o *Options) { o.FilledByOthers, o.PublishedByOthers = true, true })
}

func (w *world) fill(data map[string][]byte) {
	w.secrets.put(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "system", Name: "cert", Annotations: map[string]string{certmanagerv1.CertificateNameKey: "hook"},
		},
		Data: data,
	})
}

func TestCertManagersAnnotation(t *testing.T) {
	assert.Equal(t, certmanagerv1.CertificateNameKey, certificateName)
}

func TestASecretThatOthersFillIsAwaited(t *testing.T) {
	tests := map[string]struct {
		given func(w *world)
		want  string
	}{
		"it does not exist": {given: func(w *world) { w.secrets.remove("cert") }, want: "read secret system/cert"},
		"it is empty":       {given: func(*world) {}, want: "secret system/cert: tls.crt and tls.key are missing: waiting for the controller that fills it"},
		"cert-manager has not issued it": {
			given: func(w *world) { w.fill(nil) },
			want:  "secret system/cert: cert-manager has not issued it yet: see kubectl describe certificate -n system hook",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(nil)
			tc.given(w)
			k := w.runForOthers(t)
			require.Eventually(t, func() bool {
				err := k.Ready()
				return err != nil && strings.Contains(err.Error(), tc.want)
			}, deadline, tick, tc.want)

			data, ca := brought(t, w)
			w.fill(data)
			require.Eventually(t, func() bool {
				err := k.Ready()
				return err != nil && strings.Contains(err.Error(), "does not trust the certificate")
			}, deadline, tick)
			w.inject(ca)
			w.ready(t, k)
			_, err := w.handshake(t, k, w.published())
			require.NoError(t, err)
			assert.Equal(t, []int{0, 0, 0}, []int{w.secrets.written(), w.mutating.written(), w.validating.written()})
		})
	}
}

// TestAChangeOfIssuerLeavesNoMomentWithoutTrust goes through what cert-manager
// does: it replaces the pair at once, and its injector adds the new CA later.
func TestAChangeOfIssuerLeavesNoMomentWithoutTrust(t *testing.T) {
	tests := map[string]struct {
		injected   func(before, after []byte) []byte
		wantAtOnce bool
	}{
		"the injector keeps the former CA":    {injected: func(before, after []byte) []byte { return append(bytes.Clone(after), before...) }},
		"the injector replaces the former CA": {injected: func(_, after []byte) []byte { return after }, wantAtOnce: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(nil)
			k := w.runForOthers(t)
			first, firstCA := brought(t, w)
			w.fill(first)
			w.inject(firstCA)
			w.ready(t, k)
			leaf := leafOf(t, k)

			second, secondCA := brought(t, w)
			w.fill(second)
			require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "certificate not served yet") }, deadline, tick)
			require.True(t, leafOf(t, k).Equal(leaf), "nobody trusts the new one yet")
			w.ready(t, k)

			w.inject(tc.injected(firstCA, secondCA))
			if tc.wantAtOnce {
				require.Eventually(t, func() bool { return !leafOf(t, k).Equal(leaf) }, deadline, tick)
			} else {
				w.ready(t, k)
				require.True(t, leafOf(t, k).Equal(leaf), "it is trusted still, and API servers may not have heard of the new one")
				require.Eventually(t, func() bool {
					w.clock.Step(time.Second)
					return !leafOf(t, k).Equal(leaf)
				}, deadline, tick)
			}
			w.ready(t, k)
			served, err := w.handshake(t, k, w.published())
			require.NoError(t, err)
			want, err := x509.ParseCertificate(parseCertificates(second[KeyCertificate])[0].Raw)
			require.NoError(t, err)
			assert.True(t, served.Equal(want))
		})
	}
}

func TestTheNewCertificateIsServedWhenTheFormerHasExpired(t *testing.T) {
	w := newWorld(nil)
	k := w.runForOthers(t)
	first, firstCA := brought(t, w)
	w.fill(first)
	w.inject(firstCA)
	w.ready(t, k)
	leaf := leafOf(t, k)

	w.step(t, 80*time.Hour)
	second, secondCA := brought(t, w)
	w.fill(second)
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "certificate not served yet") }, deadline, tick)
	w.step(t, 11*time.Hour)
	require.Eventually(t, func() bool { return !leafOf(t, k).Equal(leaf) }, deadline, tick)
	require.ErrorContains(t, k.Ready(), "does not trust the certificate")
	w.inject(secondCA)
	w.ready(t, k)
}

func TestWhatCertManagerFillsIsNeverWritten(t *testing.T) {
	w := newWorld(nil)
	data, _ := brought(t, w)
	data[KeyCAKey] = []byte("left over from the time before cert-manager")
	w.fill(data)
	k := w.run(t, w.client())
	w.ready(t, k)
	w.step(t, 80*time.Hour)
	require.Eventually(t, func() bool { return w.clock.Waiters() == 1 }, deadline, tick)
	assert.Zero(t, w.secrets.written(), "it is cert-manager's to renew")
	assert.Equal(t, data[KeyCA], w.published())
}
