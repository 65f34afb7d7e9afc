package main

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheWebhookRefusesFlagsThatCannotBeUsed(t *testing.T) {
	to := "--kubeconfig=" + kubeconfig(t, "https://127.0.0.1:1", "")
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	tests := map[string]struct {
		args []string
		want string
	}{
		"a version of TLS that is out of date":     {[]string{"--tls-min-version=1.1"}, "--tls-min-version=1.1: use 1.2 or 1.3"},
		"a delay below zero":                       {[]string{"--shutdown-delay=-1s"}, "--shutdown-delay=-1s: use a positive duration, or 0 to end at once"},
		"a certificate that expires while renewed": {[]string{"--certificate-validity=1s"}, "certificate lifetime 1s: less than 5s"},
		"a CA that expires before its certificate": {[]string{"--certificate-validity=1h", "--ca-validity=2h"}, "CA lifetime 2h0m0s: less than three times"},
		"an address that is taken":                 {[]string{"--listen-address=" + taken.Addr().String(), "--metrics-address=127.0.0.1:0"}, "--listen-address: listen tcp"},
		"an address that is none":                  {[]string{"--listen-address=localhost"}, "--listen-address: listen tcp: address localhost: missing port"},
		"a CA that is not there":                   {[]string{"--client-ca=/does/not/exist"}, "--client-ca: open /does/not/exist"},
		"a CA that is none":                        {[]string{"--client-ca=webhook_test.go"}, "--client-ca=webhook_test.go: no certificate in it: it has to be PEM"},
		"a Service that cannot exist":              {[]string{"--service=a.b"}, "--service=a.b: no Service can have that name"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := execute(t, append([]string{"webhook", to, "--metrics-address=127.0.0.1:0"}, tc.args...)...)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestServing(t *testing.T) {
	f := webhookFlags{tlsMinVersion: "1.2", shutdownDelay: 0}
	version, linger, err := f.serving()
	require.NoError(t, err)
	assert.Equal(t, uint16(tls.VersionTLS12), version)
	assert.Negative(t, linger, "zero ends at once")

	f = webhookFlags{tlsMinVersion: "1.3", shutdownDelay: time.Minute}
	version, linger, err = f.serving()
	require.NoError(t, err)
	assert.Equal(t, uint16(tls.VersionTLS13), version)
	assert.Equal(t, time.Minute, linger)
}

func TestGiven(t *testing.T) {
	assert.Empty(t, given(""))
	assert.Equal(t, []string{"a"}, given("a"))
}
