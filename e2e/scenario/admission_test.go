package scenario

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// manifest is a Deployment without replicas that uses the ConfigMap settings.
func manifest(name, annotations string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
  annotations: {%[2]s}
spec:
  replicas: 0
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: app
        image: registry.example/app:1
        envFrom: [{configMapRef: {name: settings}}]
`, name, annotations)
}

// What kubectl puts before a denial.
const (
	deniedCreate = `Error from server (Forbidden): error when creating "STDIN": admission webhook "validate-workload.reloader.stakater.com" denied the request: `
	deniedPatch  = `admission webhook "validate-workload.reloader.stakater.com" denied the request: `
)

// TestWhatPeopleRead holds kubectl's whole output, in the mode that is the
// default. Lint says the same about the same objects.
func TestWhatPeopleRead(t *testing.T) {
	require.NoError(t, shared.InstallRollouts(t.Context()))
	require.NoError(t, shared.InstallSecretsStore(t.Context()))
	given(t, nil)
	ns := newNamespace(t, "texts")
	cases, err := fixture.AdmissionCases()
	require.NoError(t, err)
	for i, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			name := fmt.Sprintf("case-%d", i)
			manifest, err := tc.Manifest(name)
			require.NoError(t, err)
			out, ok := apply(t, ns, manifest)
			assert.Equal(t, len(tc.Denied) == 0, ok)
			var want strings.Builder
			if !tc.Unasked {
				for _, warning := range tc.Warnings {
					want.WriteString("Warning: " + warning + "\n")
				}
			}
			switch len(tc.Denied) {
			case 0:
				want.WriteString(resource(tc.Kind) + "/" + name + " created")
			case 1:
				want.WriteString(deniedCreate + tc.Denied[0])
			default:
				fmt.Fprintf(&want, "%s%d problems with Reloader's annotations:\n- %s",
					deniedCreate, len(tc.Denied), strings.Join(tc.Denied, "\n- "))
			}
			assert.Equal(t, want.String(), strings.TrimSpace(out))
		})
	}
}

// resource is how kubectl names a kind.
func resource(name string) string {
	lower := strings.ToLower(name)
	if k, ok := kind.BuiltIn().ByName(reloader.WorkloadKind(name)); ok {
		return lower + "." + k.Resource.Group
	}
	if name == string(reloader.SecretProviderClass) {
		return lower + ".secrets-store.csi.x-k8s.io"
	}
	return lower
}

// TestModes applies the same three manifests in every mode.
func TestModes(t *testing.T) {
	tests := []struct {
		mode string
		// Whether what is broken or doubtful is denied, and whether there is a
		// warning about what is broken, doubtful or merely noted.
		deniesBroken, deniesDoubtful              bool
		warnsBroken, warnsDoubtful, warnsOfNotice bool
	}{
		{mode: "off"},
		{mode: "warn", warnsBroken: true, warnsDoubtful: true, warnsOfNotice: true},
		{mode: "strict", deniesBroken: true, deniesDoubtful: true, warnsOfNotice: true},
		{mode: "default", deniesBroken: true, warnsDoubtful: true, warnsOfNotice: true},
	}
	for _, tc := range tests {
		t.Run(tc.mode, func(t *testing.T) {
			given(t, values{"webhook.mode": tc.mode})
			ns := newNamespace(t, "mode-"+tc.mode)
			check := func(name, annotations string, denies, warns bool) {
				t.Helper()
				out, ok := apply(t, ns, manifest(name, annotations))
				assert.Equal(t, !denies, ok, out)
				assert.Equal(t, denies, strings.HasPrefix(out, deniedCreate), out)
				assert.Equal(t, warns, strings.HasPrefix(out, "Warning: "), out)
			}
			check("broken", `reloader.stakater.com/auto: "true", deployment.reloader.stakater.com/pause-period: soon`, tc.deniesBroken, tc.warnsBroken)
			check("doubtful", `reloader.stakater.com/auto: "true", reloader.stakater.com/search: "true"`, tc.deniesDoubtful, tc.warnsDoubtful)
			check("noted", `secret.reloader.stakater.com/auto: "true"`, false, tc.warnsOfNotice)
			out, err := shared.Kubectl(t.Context(), "get", "deployment", "noted", "-n", ns, "-o", "jsonpath={.metadata.annotations}")
			require.NoError(t, err)
			assert.Contains(t, out, keys().Index, "the record is written in every mode")
		})
	}
}

func TestAnOldProblemIsNotDenied(t *testing.T) {
	given(t, values{"webhook.mode": "off"})
	ns := newNamespace(t, "old-problem")
	broken := `reloader.stakater.com/auto: "true", deployment.reloader.stakater.com/pause-period: soon`
	out, ok := apply(t, ns, manifest("old", broken))
	require.True(t, ok, out)

	given(t, values{"webhook.mode": "strict"})

	kubectl := func(args ...string) (string, bool) {
		out, err := shared.Kubectl(t.Context(), append(args, "-n", ns)...)
		return strings.TrimSpace(out), err == nil
	}
	out, ok = kubectl("label", "deployment", "old", "team=web")
	assert.True(t, ok, out)
	assert.Equal(t, "deployment.apps/old labeled", out, "no word about what was there before")
	out, ok = kubectl("set", "image", "deployment/old", "app=registry.example/app:2")
	assert.True(t, ok, out)
	out, ok = kubectl("scale", "deployment", "old", "--replicas=1")
	assert.True(t, ok, out)
	out, ok = kubectl("annotate", "deployment", "old", "configmap.reloader.stakater.com/reload=[")
	assert.False(t, ok, out)
	assert.Contains(t, out, deniedPatch)
	assert.NotContains(t, out, "pause-period", "the denial tells what the request brings in")
	out, ok = kubectl("annotate", "--overwrite", "deployment", "old", "deployment.reloader.stakater.com/pause-period=later")
	assert.False(t, ok, out)
	assert.Contains(t, out, `pause-period "later" is not a duration`)
	out, ok = kubectl("annotate", "--overwrite", "deployment", "old", "deployment.reloader.stakater.com/pause-period=5m")
	assert.True(t, ok, out)
	out, ok = kubectl("delete", "deployment", "old")
	assert.True(t, ok, out)
}
