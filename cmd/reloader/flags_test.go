package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/klog/v2"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

// kubeconfig writes one of a server that nobody talks to, and returns its path.
func kubeconfig(t *testing.T, host, namespace string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, []byte(`
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "`+host+`"}}]
users: [{name: u, user: {}}]
contexts: [{name: x, context: {cluster: c, user: u, namespace: "`+namespace+`"}}]
current-context: x
`), 0o600))
	return path
}

// execute runs the command line and returns what it printed.
func execute(t *testing.T, args ...string) (output string, err error) {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err = root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestAValueThatCannotBeUsedStopsTheStartWithOneLine(t *testing.T) {
	tests := map[string]struct {
		args []string
		// want are what the line names.
		want []string
	}{
		"a boolean that is none":              {[]string{"--auto-reload-all=maybe"}, []string{"--auto-reload-all"}},
		"an unknown kind to ignore":           {[]string{"--resources-to-ignore=pods"}, []string{"--resources-to-ignore", "pods", "configmaps or secrets"}},
		"both kinds to ignore":                {[]string{"--resources-to-ignore=configMaps,secrets"}, []string{"--resources-to-ignore"}},
		"both kinds to ignore, one by one":    {[]string{"--resources-to-ignore=secrets", "--resources-to-ignore=configmaps"}, []string{"--resources-to-ignore"}},
		"an annotation without a name":        {[]string{"--auto-annotation="}, []string{"--auto-annotation"}},
		"one name for two annotations":        {[]string{"--auto-annotation=a", "--ignore-annotation=a"}, []string{"--auto-annotation"}},
		"the name of another's default":       {[]string{"--secret-annotation=reloader.stakater.com/auto"}, []string{"--secret-annotation"}},
		"a namespace that cannot be":          {[]string{"--namespaces=shop,Not_A_Name"}, []string{"--namespaces=Not_A_Name", "comma list"}},
		"a namespace to ignore that can't be": {[]string{"--namespaces-to-ignore=kube-*"}, []string{"--namespaces-to-ignore=kube-*"}},
		"a namespace both listed and ignored": {[]string{"--namespaces=a,shop", "--namespaces-to-ignore=shop"}, []string{"--namespaces", "shop is both listed and ignored"}},
		"namespaces both listed and selected": {[]string{"--namespaces=a", "--namespace-selector=a=b"}, []string{"--namespaces", "use one of the two"}},
		"all of these at once":                {[]string{"--namespaces=a,b", "--namespaces-to-ignore=a,b", "--namespace-selector=a=b"}, []string{"a is both", "b is both", "selected"}},
		"a selector that is none":             {[]string{"--namespace-selector=a=b,no such(label"}, []string{"--namespace-selector", `"no such(label"`, "k in (a,b)"}},
		"a source selector that is none":      {[]string{"--resource-label-selector=a in b"}, []string{"--resource-label-selector", `"a in b"`}},
		"an unknown kind of workload":         {[]string{"--ignored-workload-types=pods"}, []string{"--ignored-workload-types=pods", "jobs, cronjobs or deploymentconfigs"}},
		"Argo Rollouts, perhaps":              {[]string{"--is-Argo-Rollouts=perhaps"}, []string{"--is-Argo-Rollouts", "perhaps"}},
		"an unknown strategy":                 {[]string{"--reload-strategy=hope"}, []string{"--reload-strategy", "hope", "env-vars or annotations"}},
		"a negative window":                   {[]string{"--coalesce-window=-1s"}, []string{"--coalesce-window", "-1s"}},
		"a window without a unit":             {[]string{"--coalesce-window=1"}, []string{"--coalesce-window"}},
		"no time between two passes":          {[]string{"--verify-interval=0"}, []string{"--verify-interval"}},
		"an unknown log format":               {[]string{"--log-format=xml"}, []string{"--log-format", "xml"}},
		"an unknown log level":                {[]string{"--log-level=loud"}, []string{"--log-level", "loud"}},
		"an empty log level":                  {[]string{"--log-level="}, []string{"--log-level"}},
		"a kubeconfig that is not there":      {[]string{"--kubeconfig=/nowhere/config"}, []string{"--kubeconfig", "/nowhere/config"}},
		"an address without a port":           {[]string{"--listen-address=localhost"}, []string{"--listen-address"}},
		"an unknown flag":                     {[]string{"--hope"}, []string{"--hope"}},
		"an argument":                         {[]string{"hope"}, []string{"hope"}},
		"webhook: an unknown admission mode":  {[]string{"webhook", "--admission=hope"}, []string{"--admission", "hope"}},
		"webhook: an address without a port":  {[]string{"webhook", "--metrics-address=127.0.0.1:0", "--listen-address=localhost"}, []string{"--listen-address", "localhost"}},
		"webhook: a port that is too high":    {[]string{"webhook", "--metrics-address=127.0.0.1:0", "--listen-address=:70000"}, []string{"--listen-address", "70000"}},
		"webhook: a port that is none":        {[]string{"webhook", "--metrics-address=127.0.0.1:0", "--listen-address=:nothing"}, []string{"--listen-address", "nothing"}},
		"webhook: an unknown kind to ignore":  {[]string{"webhook", "--resources-to-ignore=pods"}, []string{"--resources-to-ignore"}},
		"webhook: metrics without a port":     {[]string{"webhook", "--listen-address=127.0.0.1:0", "--metrics-address=localhost"}, []string{"--metrics-address"}},
		"webhook: an unknown log level":       {[]string{"webhook", "--log-level=loud"}, []string{"--log-level"}},
		"engine, named: an unknown strategy":  {[]string{"engine", "--reload-strategy=hope"}, []string{"--reload-strategy"}},
		"engine, named: an unknown log level": {[]string{"engine", "--log-level=loud"}, []string{"--log-level"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", kubeconfig(t, "https://127.0.0.1:1", ""))
			output, err := execute(t, tc.args...)
			require.Error(t, err)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "\n")
			assert.Empty(t, output, "main prints the error, once")
		})
	}
}

func TestSettings(t *testing.T) {
	defaults := policy.Settings{Keys: annotation.DefaultKeys()}
	with := func(change func(*policy.Settings)) policy.Settings {
		s := defaults
		change(&s)
		return s
	}
	tests := map[string]struct {
		args []string
		want policy.Settings
	}{
		"none": {nil, defaults},
		"everything reloads": {
			[]string{"--auto-reload-all"}, with(func(s *policy.Settings) { s.AutoReloadAll = true }),
		},
		"all references are followed": {
			[]string{"--follow-all-references=true"}, with(func(s *policy.Settings) { s.FollowAll = true }),
		},
		"SecretProviderClasses are watched": {
			[]string{"--enable-csi-integration"}, with(func(s *policy.Settings) { s.CSI = true }),
		},
		"SecretProviderClasses are not, in so many words": {[]string{"--enable-csi-integration=False"}, defaults},
		"ConfigMaps are ignored, in any case": {
			[]string{"--resources-to-ignore=configMaps"}, with(func(s *policy.Settings) { s.IgnoreConfigMaps = true }),
		},
		"Secrets are ignored, with space around": {
			[]string{"--resources-to-ignore", " SECRETS "}, with(func(s *policy.Settings) { s.IgnoreSecrets = true }),
		},
		"nothing is ignored": {[]string{"--resources-to-ignore="}, defaults},
		"every annotation has another name": {
			[]string{
				"--auto-annotation=a", "--configmap-auto-annotation=b", "--secret-auto-annotation=c",
				"--configmap-annotation=d", "--secret-annotation=e", "--auto-search-annotation=f",
				"--search-match-annotation=g", "--ignore-annotation=h",
				"--pause-deployment-annotation=i", "--pause-deployment-time-annotation=j",
			},
			with(func(s *policy.Settings) {
				k := &s.Keys
				k.Auto, k.ConfigMapAuto, k.SecretAuto = "a", "b", "c"
				k.ConfigMapNamed, k.SecretNamed, k.Search = "d", "e", "f"
				k.Match, k.Ignore, k.PausePeriod, k.PausedAt = "g", "h", "i", "j"
			}),
		},
		"two annotations have changed places": {
			[]string{"--auto-annotation=reloader.stakater.com/search", "--auto-search-annotation=reloader.stakater.com/auto"},
			with(func(s *policy.Settings) { s.Keys.Auto, s.Keys.Search = s.Keys.Search, s.Keys.Auto }),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f, flags := new(settingsFlags), pflag.NewFlagSet("test", pflag.ContinueOnError)
			f.bind(flags)
			require.NoError(t, flags.Parse(tc.args))
			got, err := f.parse()
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestLogLevels(t *testing.T) {
	// The logger of the libraries is a global of theirs.
	t.Cleanup(klog.ClearLogger)
	levels := []string{"V(2)", "V(1)", "V(0)", "error"}
	tests := map[string]struct {
		level string
		want  []string
	}{
		"trace":                      {"trace", levels},
		"debug":                      {"debug", levels[1:]},
		"info":                       {"info", levels[2:]},
		"warning, as zerolog has it": {"warn", levels[3:]},
		"warning, as users have it":  {"warning", levels[3:]},
		"warning, in any case":       {"WARNING", levels[3:]},
		"info, in any case":          {"Info", levels[2:]},
		"error":                      {"error", levels[3:]},
		"fatal":                      {"fatal", nil},
		"panic":                      {"panic", nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, format := range []string{"", "json"} {
				var out bytes.Buffer
				log, err := (&logFlags{format: format, level: tc.level}).logger(&out)
				require.NoError(t, err)
				log.V(2).Info("V(2)")
				log.V(1).Info("V(1)")
				log.Info("V(0)")
				log.Error(nil, "error")
				var got []string
				for _, level := range levels {
					if strings.Contains(out.String(), level) {
						got = append(got, level)
					}
				}
				assert.Equal(t, tc.want, got)
				assert.Equal(t, format == "json" && got != nil, strings.HasPrefix(out.String(), "{"))
			}
		})
	}
	assert.Equal(t, zerolog.TraceLevel, zerolog.GlobalLevel(), "no global is set by a flag")
}

func TestLogMessagesAreOneLine(t *testing.T) {
	t.Cleanup(klog.ClearLogger)
	for _, format := range []string{"", "json"} {
		var out bytes.Buffer
		log, err := (&logFlags{format: format, level: "info"}).logger(&out)
		require.NoError(t, err)
		const text = "x\n2026-11-26T00:00:00.000Z INF reloaded \x1b[31m\u009b%s"
		log.Info(text, "name", text)
		log.Error(errors.New(text), text)
		klog.Errorf("read %s", text)
		assert.Equal(t, 3, strings.Count(out.String(), "\n"), out.String())
		assert.NotContains(t, out.String(), "\x1b")
		if format == "" {
			assert.NotContains(t, out.String(), "\u009b")
		}
	}
}
