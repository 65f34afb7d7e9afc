package certs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRenew(t *testing.T) {
	o := newWorld(nil).options()
	first, _, err := renew(nil, o, noon)
	require.NoError(t, err)
	renamed := o
	renamed.DNSNames = []string{"other.system.svc"}

	tests := map[string]struct {
		options    Options
		after      time.Duration
		wantReason string
		wantCAs    int
	}{
		"nothing to do for a new one":     {options: o, after: 0},
		"nothing to do for long":          {options: o, after: 59 * time.Hour},
		"the leaf is due":                 {options: o, after: 60 * time.Hour, wantReason: "two thirds of its life are over", wantCAs: 1},
		"the leaf has expired":            {options: o, after: 599 * time.Hour, wantReason: "x509: certificate has expired or is not yet valid", wantCAs: 1},
		"the CA is due":                   {options: o, after: 600 * time.Hour, wantReason: "two thirds of the CA's life are over", wantCAs: 2},
		"the CA has expired":              {options: o, after: 901 * time.Hour, wantReason: "two thirds of the CA's life are over", wantCAs: 1},
		"the clock was ahead when made":   {options: o, after: -time.Hour, wantReason: "CA is not valid yet", wantCAs: 2},
		"the Service has another name":    {options: renamed, after: 0, wantReason: "not other.system.svc", wantCAs: 1},
		"a clock that is a little behind": {options: o, after: -time.Minute},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			now := noon.Add(tc.after)
			data, reason, err := renew(first, tc.options, now)
			require.NoError(t, err)
			if tc.wantReason == "" {
				assert.Empty(t, reason)
				assert.Nil(t, data)
				return
			}
			assert.Contains(t, reason, tc.wantReason)
			assert.Len(t, parseCertificates(data[KeyCA]), tc.wantCAs)
			for _, dnsName := range tc.options.DNSNames {
				_, err = parsePair(data, dnsName, now)
				require.NoError(t, err)
			}
			again, _, err := renew(data, tc.options, now)
			require.NoError(t, err)
			assert.Nil(t, again, "what renew makes is good")
		})
	}
}

func TestABundleIsBounded(t *testing.T) {
	o := newWorld(nil).options()
	var data map[string][]byte
	for i := range 10 {
		next, _, err := renew(data, o, noon.Add(time.Duration(i)*time.Minute))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(parseCertificates(next[KeyCA])), maxAuthorities)
		next[KeyCAKey] = []byte("lost")
		data = next
	}
}

func TestShortLivesWork(t *testing.T) {
	o := newWorld(nil).options()
	o.LeafLifetime, o.CALifetime = 9*time.Second, 60*time.Second
	require.NoError(t, o.Validate())
	data, _, err := renew(nil, o, noon)
	require.NoError(t, err)
	p, err := parsePair(data, serviceName, noon)
	require.NoError(t, err)
	at, err := due(data, p.cert.Leaf, o.LeafLifetime)
	require.NoError(t, err)
	assert.WithinRange(t, at, noon.Add(4*time.Second), noon.Add(7*time.Second))
}

func TestAFormerCAIsDroppedWhenItsLastLeafHasExpired(t *testing.T) {
	tests := map[string]struct{ leaf, ca time.Duration }{
		"short lives": {leaf: 9 * time.Second, ca: 60 * time.Second},
		"long lives":  {leaf: DefaultLeafLifetime, ca: DefaultCALifetime},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := newWorld(nil).options()
			o.LeafLifetime, o.CALifetime = tc.leaf, tc.ca
			data, _, err := renew(nil, o, noon)
			require.NoError(t, err)
			made := renewal(parseCertificates(data[KeyCA])[0])
			data, _, err = renew(data, o, made)
			require.NoError(t, err)
			bundle := parseCertificates(data[KeyCA])
			require.Len(t, bundle, 2)

			assert.Len(t, stillTrusted(bundle, tc.leaf, made.Add(tc.leaf)), 2)
			assert.Len(t, stillTrusted(bundle, tc.leaf, made.Add(tc.leaf+2*time.Second)), 1)
		})
	}
}

func TestAShorterLifeTakesEffectAtOnce(t *testing.T) {
	o := newWorld(nil).options()
	data, _, err := renew(nil, o, noon)
	require.NoError(t, err)
	ca := data[KeyCA]
	for _, longer := range []time.Duration{1, 2} {
		o.LeafLifetime *= longer
		next, _, err := renew(data, o, noon)
		require.NoError(t, err)
		assert.Nil(t, next, "a longer one does when it is renewed")
	}

	o.LeafLifetime /= 4
	data, reason, err := renew(data, o, noon)
	require.NoError(t, err)
	assert.Equal(t, "it is made for longer than it may be", reason)
	assert.Equal(t, ca, data[KeyCA])

	o.CALifetime /= 2
	data, reason, err = renew(data, o, noon)
	require.NoError(t, err)
	assert.Equal(t, "the CA is made for longer than it may be", reason)
	assert.Len(t, parseCertificates(data[KeyCA]), 2, "the former one is trusted on")
	next, reason, err := renew(data, o, noon)
	require.NoError(t, err)
	assert.Nil(t, next, reason)
}

func TestOptionsValidate(t *testing.T) {
	tests := map[string]struct {
		change func(*Options)
		want   []string
	}{
		"all is well":      {change: func(*Options) {}},
		"defaults do":      {change: func(o *Options) { o.LeafLifetime, o.CALifetime = 0, 0 }},
		"a long leaf":      {change: func(o *Options) { o.LeafLifetime, o.CALifetime = 10*365*24*time.Hour, 0 }},
		"nothing":          {change: func(o *Options) { *o = Options{} }, want: []string{"certificate namespace", "certificate secret", "no DNS name"}},
		"a bad DNS name":   {change: func(o *Options) { o.DNSNames = []string{"a b"} }, want: []string{`certificate DNS name "a b"`}},
		"a short-lived CA": {change: func(o *Options) { o.CALifetime = o.LeafLifetime }, want: []string{"CA lifetime"}},
		"no life at all":   {change: func(o *Options) { o.LeafLifetime = -1 }, want: []string{"certificate lifetime"}},
		"too short a life": {change: func(o *Options) { o.LeafLifetime = time.Second }, want: []string{"certificate lifetime 1s: less than 5s"}},
		"bad names of configurations": {
			change: func(o *Options) { o.MutatingConfigurations, o.ValidatingConfigurations = []string{"A"}, []string{""} },
			want:   []string{`webhook configuration "A"`, `webhook configuration ""`},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := newWorld(nil).options()
			tc.change(&o)
			err := o.Validate()
			if tc.want == nil {
				require.NoError(t, err)
			}
			for _, want := range tc.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

// FuzzRenew holds that whatever a Secret of ours contains, what is made of it
// can be served and verified, and needs nothing more to be done.
func FuzzRenew(f *testing.F) {
	o := newWorld(nil).options()
	good, _, err := renew(nil, o, noon)
	require.NoError(f, err)
	f.Add(good[KeyCertificate], good[KeyPrivateKey], good[KeyCA], good[KeyCAKey], int64(0))
	f.Add(good[KeyCertificate], good[KeyPrivateKey], good[KeyCA], good[KeyCAKey], int64(700*time.Hour))
	f.Add(good[KeyCertificate], good[KeyCAKey], good[KeyCertificate], good[KeyPrivateKey], int64(0))
	f.Add([]byte(nil), []byte("x"), good[KeyCA][:100], []byte("-----BEGIN PRIVATE KEY-----"), int64(-1))
	f.Fuzz(func(t *testing.T, cert, key, ca, caKey []byte, after int64) {
		data := map[string][]byte{KeyCertificate: cert, KeyPrivateKey: key, KeyCA: ca, KeyCAKey: caKey, "other": []byte("kept")}
		now := noon.Add(time.Duration(after) % (100 * 365 * 24 * time.Hour))
		next, _, err := renew(data, o, now)
		require.NoError(t, err)
		if next == nil {
			next = data
		}
		assert.Equal(t, []byte("kept"), next["other"])
		p, err := parsePair(next, o.DNSNames[0], now)
		require.NoError(t, err)
		at, err := due(next, p.cert.Leaf, o.LeafLifetime)
		require.NoError(t, err)
		assert.True(t, at.After(now), "there is time until it has to be looked at again")
		again, reason, err := renew(next, o, now)
		require.NoError(t, err)
		assert.Nil(t, again, reason)
	})
}
