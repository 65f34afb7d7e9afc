package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnEngineInAPodKeepsWhatItKnows(t *testing.T) {
	tests := map[string]struct {
		pod                     bool
		deployment              string
		args                    []string
		wantKey, wantCheckpoint string
		wantErr                 string
	}{
		"in a pod, under default names":         {pod: true, wantKey: "reloader-fingerprint-key", wantCheckpoint: "reloader-checkpoint"},
		"in a pod, under the Deployment's name": {pod: true, deployment: "my", wantKey: "my-fingerprint-key", wantCheckpoint: "my-checkpoint"},
		"under no name that cannot be":          {pod: true, deployment: "a/b", wantKey: "reloader-fingerprint-key", wantCheckpoint: "reloader-checkpoint"},
		"under names that are not too long":     {pod: true, deployment: strings.Repeat("a", 238), wantKey: "reloader-fingerprint-key", wantCheckpoint: "reloader-checkpoint"},
		"under names as long as can be": {
			pod: true, deployment: strings.Repeat("a", 237),
			wantKey: strings.Repeat("a", 237) + "-fingerprint-key", wantCheckpoint: strings.Repeat("a", 237) + "-checkpoint",
		},
		"under the names that flags give":         {pod: true, args: []string{"--fingerprint-key-secret=k", "--checkpoint=c"}, wantKey: "k", wantCheckpoint: "c"},
		"no checkpoint, if the flag says so":      {pod: true, args: []string{"--checkpoint="}, wantKey: "reloader-fingerprint-key"},
		"nothing, if there is to be no key":       {pod: true, args: []string{"--fingerprint-key-secret="}},
		"nothing outside of a pod":                {deployment: "my"},
		"no checkpoint without a key that lasts":  {args: []string{"--checkpoint=c"}, wantErr: "name that Secret, too"},
		"not in a pod either, if it shall not be": {pod: true, args: []string{"--checkpoint=c", "--fingerprint-key-secret="}, wantErr: "name that Secret, too"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("RELOADER_DEPLOYMENT_NAME", tc.deployment)
			f := new(engineFlags)
			flags := pflag.NewFlagSet("engine", pflag.ContinueOnError)
			flags.StringVar(&f.keySecret, keySecretFlag, "", "")
			flags.StringVar(&f.checkpoint, checkpointFlag, "", "")
			require.NoError(t, flags.Parse(tc.args))
			err := f.nameState(connection{pod: tc.pod}, flags)
			if tc.wantErr != "" {
				require.ErrorContains(t, err, tc.wantErr)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.wantKey, f.keySecret)
			assert.Equal(t, tc.wantCheckpoint, f.checkpoint)
		})
	}
}

// Reloader 1 takes some of these as text, of which only true switches them on.
// However it is started, so is this: a start that comes to the kubeconfig has
// taken all that stands before.
func TestSwitchesOfTheEngine(t *testing.T) {
	for _, flag := range []string{"--reload-on-create", "--reload-on-delete", "--sync-after-restart", "--enable-csi-integration"} {
		for _, value := range []string{"", "=true", "=True", "=1", "=false"} {
			_, err := execute(t, flag+value, "--kubeconfig=/nowhere/config")
			require.ErrorContains(t, err, "/nowhere/config", flag+value)
		}
		_, err := execute(t, flag+"=maybe", "--kubeconfig=/nowhere/config")
		require.ErrorContains(t, err, flag)
	}
}

// An engine in a pod has a checkpoint without being asked for one.
func TestWhetherSyncAfterRestartDoesSomething(t *testing.T) {
	tests := map[string]struct {
		namespace string // set in pods
		args      []string
		wantHint  bool
	}{
		"in a pod":                       {namespace: "reloader", args: []string{"--reload-on-create"}},
		"in a pod, without a checkpoint": {namespace: "reloader", args: []string{"--reload-on-create", "--checkpoint="}, wantHint: true},
		"in a pod, without creations":    {namespace: "reloader", wantHint: true},
		"outside of one":                 {args: []string{"--reload-on-create"}, wantHint: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("RELOADER_NAMESPACE", tc.namespace)
			t.Setenv("POD_NAMESPACE", "")
			out, err := execute(t, append(tc.args, "--sync-after-restart",
				"--kubeconfig="+kubeconfig(t, "https://127.0.0.1:1", "a"), "--listen-address=127.0.0.1:no-port")...)
			require.ErrorContains(t, err, "--listen-address", "it ends before it reaches out")
			assert.Equal(t, tc.wantHint, strings.Contains(out, "--sync-after-restart does nothing"), out)
		})
	}
}
