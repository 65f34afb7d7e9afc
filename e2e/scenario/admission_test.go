package scenario

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
// default.
func TestWhatPeopleRead(t *testing.T) {
	given(t, nil)
	ns := newNamespace(t, "texts")
	tests := map[string]struct {
		manifest string
		want     string
	}{
		"nothing about what is right": {
			manifest: manifest("right", `reloader.stakater.com/auto: "true"`),
			want:     "deployment.apps/right created",
		},
		"nothing about what is not ours": {
			manifest: manifest("others", `example.com/auto: "yes"`),
			want:     "deployment.apps/others created",
		},
		"denied: a pause-period that is no duration": {
			manifest: manifest("pause", `deployment.reloader.stakater.com/pause-period: "soon", reloader.stakater.com/auto: "true"`),
			want:     deniedCreate + `deployment.reloader.stakater.com/pause-period "soon" is not a duration above zero: write one such as "5m"`,
		},
		"denied: an entry that does not compile": {
			manifest: manifest("entry", `configmap.reloader.stakater.com/reload: "a,["`),
			want:     deniedCreate + `configmap.reloader.stakater.com/reload: "[" is no regular expression and is skipped: correct it`,
		},
		"denied: two problems": {
			manifest: manifest("both", `configmap.reloader.stakater.com/reload: "a,b", configmaps.exclude.reloader.stakater.com/reload: b, deployment.reloader.stakater.com/pause-period: "-1s"`),
			want: deniedCreate + `2 problems with Reloader's annotations:
- configmap.reloader.stakater.com/reload names "b", which the exclude list of its kind excludes: remove one
- deployment.reloader.stakater.com/pause-period "-1s" is not a duration above zero: write one such as "5m"`,
		},
		"warned: auto and search": {
			manifest: manifest("search", `reloader.stakater.com/auto: "true", reloader.stakater.com/search: "true"`),
			want: `Warning: reloader.stakater.com/search does not restrict reloader.stakater.com/auto "true": remove one of them
deployment.apps/search created`,
		},
		"warned: a value that is no boolean": {
			manifest: manifest("value", `reloader.stakater.com/auto: "yes"`),
			want: `Warning: reloader.stakater.com/auto "yes" counts as false, for --auto-reload-all too: write "true" or "false"
deployment.apps/value created`,
		},
		"warned: a typo": {
			manifest: manifest("typo", `reloader.stakater.com/atuo: "true"`),
			want: `Warning: reloader.stakater.com/atuo is unknown: did you mean reloader.stakater.com/auto?
deployment.apps/typo created`,
		},
		"warned: auto without a reference": {
			manifest: manifest("alone", `secret.reloader.stakater.com/auto: "true"`),
			want: `Warning: secret.reloader.stakater.com/auto follows nothing, the template uses no Secret
deployment.apps/alone created`,
		},
		"warned: a workload's key on a source": {
			manifest: `{apiVersion: v1, kind: ConfigMap, metadata: {name: source, annotations: {reloader.stakater.com/auto: "true"}}}`,
			want: `Warning: reloader.stakater.com/auto does nothing on a ConfigMap: put it on the workload
configmap/source created`,
		},
		"nothing about a source that is right": {
			manifest: `{apiVersion: v1, kind: Secret, metadata: {name: source, annotations: {reloader.stakater.com/match: "true"}}}`,
			want:     "secret/source created",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			out, _ := apply(t, ns, tc.manifest)
			assert.Equal(t, tc.want, strings.TrimSpace(out))
		})
	}
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
