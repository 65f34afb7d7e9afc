package main

import (
	"runtime"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader/report"
)

func TestWhoCannotBeToldStopsTheStartWithOneLine(t *testing.T) {
	tests := map[string]struct {
		args        []string
		environment map[string]string
		want        string
	}{
		"a webhook without a scheme": {
			args: []string{"--webhook-url=hunter2.example/path"},
			want: "--webhook-url: the URL does not begin with http:// or https://",
		},
		"a webhook without a host": {
			args: []string{"--webhook-url=http:///hunter2"},
			want: "--webhook-url: the URL names no host: write one such as http://HOST/PATH",
		},
		"a webhook that is no URL": {
			args: []string{"--webhook-url=https://user:hunter2#@host:1"},
			want: "--webhook-url: the URL cannot be read: write one such as https://HOST/PATH",
		},
		"profiles at no address": {
			args: []string{"--enable-pprof", "--pprof-addr=localhost"},
			want: "--pprof-addr: ",
		},
		"alerts without a receiver": {
			environment: map[string]string{"ALERT_ON_RELOAD": "true"},
			want:        "ALERT_ON_RELOAD is true, but ALERT_WEBHOOK_URL is not set: set it, or leave out ALERT_ON_RELOAD",
		},
		"alerts to what is no URL": {
			environment: map[string]string{"ALERT_ON_RELOAD": "true", "ALERT_WEBHOOK_URL": "hunter2"},
			want:        "ALERT_WEBHOOK_URL, ALERT_WEBHOOK_PROXY: the URL does not begin with http:// or https://",
		},
		"alerts to an unknown sink": {
			environment: map[string]string{"ALERT_ON_RELOAD": "true", "ALERT_WEBHOOK_URL": "https://a/hunter2", "ALERT_SINK": "pigeon"},
			want:        `ALERT_SINK: "pigeon" is unknown: use slack, teams, gchat or webhook`,
		},
		"a log level that only the library knows": {
			args: []string{"--log-level=disabled"},
			want: "--log-level=disabled: use trace, debug, info, warning, error, fatal or panic",
		},
		"a log level by number": {
			args: []string{"--log-level=1"},
			want: "--log-level=1: use trace, debug, info, warning, error, fatal or panic",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", kubeconfig(t, "https://127.0.0.1:1", ""))
			for name, value := range tc.environment {
				t.Setenv(name, value)
			}
			output, err := execute(t, tc.args...)
			require.ErrorContains(t, err, tc.want)
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Empty(t, output, "main prints the error, once")
		})
	}
}

func TestAlertSettingsThatAreNotInUseStopNothing(t *testing.T) {
	t.Setenv("ALERT_WEBHOOK_URL", "nonsense")
	t.Setenv("ALERT_SINK", "pigeon")
	o, err := new(reportFlags).open(t.Context())
	require.NoError(t, err)
	defer o.close()
	assert.Nil(t, o.alerts)
	to, finish, err := o.alerter(t.Context(), nil, logr.Discard())
	require.NoError(t, err)
	assert.Nil(t, to)
	finish()
	require.NoError(t, o.serveProfiles(t.Context()))
}

func TestPublishedOptionsHoldNoSecrets(t *testing.T) {
	f := new(reportFlags)
	flags := pflag.NewFlagSet("reloader", pflag.ContinueOnError)
	f.bind(flags)
	flags.Bool("help", false, "")
	require.NoError(t, flags.Parse([]string{"--webhook-url=https://user:hunter2@hooks.example:8443/hunter2?token=hunter2", "--enable-pprof=false"}))
	o, err := f.open(t.Context())
	require.NoError(t, err)
	defer o.close()
	assert.Equal(t, map[string]string{
		"webhook-url": "https://hooks.example:8443", "enable-pprof": "false", "pprof-addr": "127.0.0.1:6060",
	}, options(flags, o))
	b := build()
	assert.Equal(t, []string{"dev", "dev", runtime.Version()}, []string{b.Version, b.ReleaseVersion, b.GoVersion})
}

func TestReloadsAreCountedByNamespaceWhenAskedFor(t *testing.T) {
	for value, want := range map[string]bool{"enabled": true, "true": false, "": false} {
		t.Setenv("METRICS_COUNT_BY_NAMESPACE", value)
		registry := prometheus.NewRegistry()
		m, err := newMetrics(registry)
		require.NoError(t, err)
		report.New(m, nil, nil).Reloaded(report.Reload{})
		families, err := registry.Gather()
		require.NoError(t, err)
		found := false
		for _, f := range families {
			found = found || strings.HasSuffix(f.GetName(), "_by_namespace")
		}
		assert.Equal(t, want, found, value)
	}
}
