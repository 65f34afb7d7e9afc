package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/policy"
)

func TestHelpNamesTheSubcommandsAndTheFlags(t *testing.T) {
	tests := map[string]struct {
		args []string
		want []string
	}{
		"of the whole": {
			[]string{"--help"},
			[]string{"engine", "webhook", "lint", "version", "--reload-strategy", "--auto-reload-all", "--kubeconfig", "kubectl annotate"},
		},
		"of the engine":  {[]string{"engine", "--help"}, []string{"--reload-strategy", "--coalesce-window", "--log-format"}},
		"of the webhook": {[]string{"webhook", "--help"}, []string{"--admission", "--certificate-secret", "--auto-annotation"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			output, err := execute(t, tc.args...)
			require.NoError(t, err)
			for _, want := range tc.want {
				assert.Contains(t, output, want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	output, err := execute(t, "version")
	require.NoError(t, err)
	assert.Regexp(t, `^reloader dev \(go[^ ]+, \w+/\w+\)\n$`, output)
}

// A command line without a subcommand takes the engine's flags, all of them.
func TestTheRootIsTheEngine(t *testing.T) {
	root := newRootCommand()
	named, _, err := root.Find([]string{"engine"})
	require.NoError(t, err)
	assert.Equal(t, named.LocalNonPersistentFlags().FlagUsages(), root.LocalNonPersistentFlags().FlagUsages())
}

func TestReadiness(t *testing.T) {
	require.EqualError(t, ready(nil), "waiting for the API server")
	f := &clusterFlags{kubeconfig: kubeconfig(t, "https://127.0.0.1:1", "")}
	to, err := f.connect()
	require.NoError(t, err)
	e, err := engine.New(engine.Options{Config: to.config, Settings: policy.Settings{Keys: annotation.DefaultKeys()}, Reporter: silent{}})
	require.NoError(t, err)
	assert.EqualError(t, ready(e), "reading the cluster")
}

// silent tells nobody.
type silent struct{ engine.Reporter }
