package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func TestTheAPIServerIsLookedForInOrder(t *testing.T) {
	type places struct{ flag, variable, home string }
	tests := map[string]struct {
		in            func(t *testing.T) places
		inPod         bool
		wantHost      string
		wantNamespace string
		wantError     []string
	}{
		"--kubeconfig comes first": {
			in: func(t *testing.T) places {
				return places{kubeconfig(t, "https://flag", "a"), kubeconfig(t, "https://variable", "b"), kubeconfig(t, "https://home", "c")}
			},
			inPod: true, wantHost: "https://flag", wantNamespace: "a",
		},
		"then KUBECONFIG": {
			in: func(t *testing.T) places {
				return places{"", kubeconfig(t, "https://variable", "b"), kubeconfig(t, "https://home", "c")}
			},
			inPod: true, wantHost: "https://variable", wantNamespace: "b",
		},
		"then the pod": {
			in:    func(t *testing.T) places { return places{home: kubeconfig(t, "https://home", "c")} },
			inPod: true, wantError: []string{"the pod's ServiceAccount: "},
		},
		"then ~/.kube/config": {
			in:       func(t *testing.T) places { return places{home: kubeconfig(t, "https://home", "c")} },
			wantHost: "https://home", wantNamespace: "c",
		},
		"without a namespace it is the default one": {
			in:       func(t *testing.T) places { return places{flag: kubeconfig(t, "https://flag", "")} },
			wantHost: "https://flag", wantNamespace: "default",
		},
		"nowhere, and all places are named": {
			in: func(t *testing.T) places { return places{home: filepath.Join(t.TempDir(), "config")} },
			wantError: []string{
				"no configuration of the API server", "--kubeconfig (not set)", "$KUBECONFIG (not set)", "the pod's ServiceAccount", "config",
			},
		},
		"--kubeconfig is not there, although others are": {
			in: func(t *testing.T) places {
				return places{"/nowhere/flag", kubeconfig(t, "https://variable", "b"), kubeconfig(t, "https://home", "c")}
			},
			wantError: []string{"--kubeconfig=/nowhere/flag: "},
		},
		"KUBECONFIG is not there, although others are": {
			in: func(t *testing.T) places {
				return places{variable: "/nowhere/variable", home: kubeconfig(t, "https://home", "c")}
			},
			wantError: []string{"$KUBECONFIG (/nowhere/variable)"},
		},
		"--kubeconfig is something else": {
			in:        func(*testing.T) places { return places{flag: "cluster_test.go"} },
			wantError: []string{"--kubeconfig=cluster_test.go: "},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			looked := tc.in(t)
			t.Setenv("KUBECONFIG", looked.variable)
			t.Setenv("POD_NAMESPACE", "")
			t.Setenv("RELOADER_NAMESPACE", "")
			t.Setenv("KUBERNETES_SERVICE_PORT", "443")
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			if tc.inPod {
				t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
			}
			atHome := clientcmd.RecommendedHomeFile
			clientcmd.RecommendedHomeFile = looked.home
			t.Cleanup(func() { clientcmd.RecommendedHomeFile = atHome })

			got, err := (&clusterFlags{kubeconfig: looked.flag}).connect()
			if tc.wantError != nil {
				require.Error(t, err)
				for _, want := range tc.wantError {
					require.ErrorContains(t, err, want)
				}
				assert.NotContains(t, err.Error(), "\n")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.wantHost, got.config.Host)
			assert.Equal(t, tc.wantNamespace, got.namespace)
			assert.InDelta(t, -1, got.config.QPS, 0)
			assert.Equal(t, "reloader/dev", got.config.UserAgent)
		})
	}
}

func TestTheNamespaceOfOurOwnObjects(t *testing.T) {
	tests := map[string]struct{ pod, reloader, want string }{
		"POD_NAMESPACE comes first": {"pod", "reloader", "pod"},
		"then RELOADER_NAMESPACE":   {"", "reloader", "reloader"},
		"then the kubeconfig's":     {"", "", "kubeconfig"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("POD_NAMESPACE", tc.pod)
			t.Setenv("RELOADER_NAMESPACE", tc.reloader)
			got, err := (&clusterFlags{kubeconfig: kubeconfig(t, "https://flag", "kubeconfig")}).connect()
			require.NoError(t, err)
			assert.Equal(t, tc.want, got.namespace)
		})
	}
}

func TestServerHidesAPassword(t *testing.T) {
	for host, want := range map[string]string{
		"https://127.0.0.1:6443":           "https://127.0.0.1:6443",
		"https://me:secret@127.0.0.1:6443": "https://me:xxxxx@127.0.0.1:6443",
		"https://me:secret@[":              "an address that cannot be parsed",
		"127.0.0.1:6443":                   "127.0.0.1:6443",
	} {
		assert.Equal(t, want, connection{config: &rest.Config{Host: host}}.server())
	}
}
