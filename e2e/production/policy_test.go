package production

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

// TestTheAdmissionPolicySaysWhatTheWebhookSays installs the product without the
// webhook: everything works, and the API server itself tells about mistakes, in
// the words of package policy.
func TestTheAdmissionPolicySaysWhatTheWebhookSays(t *testing.T) {
	keys := annotation.DefaultKeys()
	tests := map[string]struct {
		kind        reloader.WorkloadKind
		annotations map[string]string
		// fine is true if nothing is to be said.
		fine bool
	}{
		"a pause-period that is no duration":        {annotations: map[string]string{keys.Auto: "true", keys.PausePeriod: "soon"}},
		"a pause-period of nothing":                 {annotations: map[string]string{keys.Auto: "true", keys.PausePeriod: "0s"}},
		"a pause-period below zero":                 {annotations: map[string]string{keys.Auto: "true", keys.PausePeriod: "-5m"}},
		"a pause-period without a unit":             {annotations: map[string]string{keys.Auto: "true", keys.PausePeriod: "5"}},
		"a pause-period":                            {annotations: map[string]string{keys.Auto: "true", keys.PausePeriod: "1h5m.5s"}, fine: true},
		"a ConfigMap that is named and excluded":    {annotations: map[string]string{keys.ConfigMapNamed: "a, b", keys.ConfigMapExclude: "c,b"}},
		"a Secret that is named and excluded":       {annotations: map[string]string{keys.SecretNamed: "a", keys.SecretExclude: " a"}},
		"an expression, and a name that it matches": {annotations: map[string]string{keys.ConfigMapNamed: "a.*", keys.ConfigMapExclude: "ab"}, fine: true},
		"auto with search":                          {annotations: map[string]string{keys.Auto: "true", keys.Search: "true"}},
		"an auto that is neither true nor false":    {annotations: map[string]string{keys.Auto: "yes"}},
		"an auto without a value":                   {annotations: map[string]string{keys.Auto: "", keys.ConfigMapNamed: "a"}},
		"a typed auto that is neither":              {annotations: map[string]string{keys.SecretAuto: "on"}},
		"a search that does nothing":                {annotations: map[string]string{keys.Search: "1", keys.ConfigMapNamed: "a"}},
		"a pause-period on a StatefulSet":           {kind: reloader.StatefulSet, annotations: map[string]string{keys.Auto: "true", keys.PausePeriod: "5m"}},
		"a strategy on a Deployment":                {annotations: map[string]string{keys.Auto: "true", keys.RolloutStrategy: "restart"}},
		"an opt-in":                                 {annotations: map[string]string{keys.Auto: "true"}, fine: true},
		"nothing":                                   {fine: true},
	}
	for _, mode := range []string{"default", "strict", "warn"} {
		t.Run(mode, func(t *testing.T) {
			installed(t, install.ChartOptions{Values: map[string]any{"webhook": map[string]any{
				"enabled": false, "mode": mode, "admissionPolicy": map[string]any{"enabled": true},
			}}})
			awaitPolicies(t, mode)
			for name, tc := range tests {
				t.Run(name, func(t *testing.T) {
					app := fixture.App{
						Kind: tc.kind, Namespace: "default", Name: "judged", Annotations: tc.annotations,
						ConfigMaps: []string{"used"}, Secrets: []string{"used"},
					}
					output, err := shared.KubectlInput(t.Context(), manifest(t, app), "create", "--dry-run=server", "-f", "-")

					severity, message := verdict(app)
					if tc.fine {
						require.NoError(t, err)
						assert.NotContains(t, output, "reloader-webhook")
						return
					}
					require.NotEmpty(t, message, "package policy has a word for it")
					assert.Contains(t, output, message)
					denied := mode == "strict" || mode == "default" && severity == reloader.Broken
					assert.Equal(t, denied, err != nil, output)
				})
			}
		})
	}
	t.Run("old mistakes are left alone", func(t *testing.T) {
		app := fixture.App{Namespace: "default", Name: "old", Annotations: map[string]string{keys.Auto: "true", keys.PausePeriod: "soon"}}
		_, err := shared.KubectlInput(t.Context(), manifest(t, app), "apply", "-f", "-")
		require.NoError(t, err, "mode warn lets it in")
		installed(t, install.ChartOptions{Values: map[string]any{"webhook": map[string]any{
			"enabled": false, "mode": "strict", "admissionPolicy": map[string]any{"enabled": true},
		}}})
		awaitPolicies(t, "strict")
		_, err = shared.Kubectl(t.Context(), "label", "deployment", "old", "a=b")
		require.NoError(t, err)
		_, err = shared.Kubectl(t.Context(), "annotate", "deployment", "old", "--overwrite", keys.PausePeriod+"=later")
		require.ErrorContains(t, err, "is not a duration above zero")
		_, err = shared.Kubectl(t.Context(), "delete", "deployment", "old")
		require.NoError(t, err)
	})
	helm(t, "uninstall", "reloader", "--wait")
	requireNothingLeft(t)
}

// verdict is the worst problem that package policy finds, without those that
// need more than annotations.
func verdict(app fixture.App) (reloader.Severity, string) {
	for _, p := range policy.Judge(policy.Subject{
		Kind: app.Workload().Kind, Annotations: app.Annotations, References: []reloader.Reference{
			{Kind: reloader.ConfigMap, Name: "used", Container: "app", How: reloader.HowEnvFrom},
			{Kind: reloader.Secret, Name: "used", Container: "app", How: reloader.HowEnvFrom},
		},
	}, policy.Settings{Keys: annotation.DefaultKeys()}) {
		return p.Severity, p.Message
	}
	return reloader.Notice, ""
}

func manifest(t *testing.T, app fixture.App) string {
	t.Helper()
	kind := app.Workload().Kind
	var annotations strings.Builder
	for key, value := range app.Annotations {
		fmt.Fprintf(&annotations, "    %s: %q\n", key, value)
	}
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: %s
metadata:
  namespace: %s
  name: %s
  annotations:
%s
spec:
  replicas: 0
  selector: {matchLabels: {app: %[3]s}}
  template:
    metadata: {labels: {app: %[3]s}}
    spec:
      containers:
      - name: app
        image: registry.example/app:1
        envFrom: [{configMapRef: {name: used}}, {secretRef: {name: used}}]
`, kind, app.Namespace, app.Name, annotations.String())
}

// awaitPolicies waits until the API server goes by the policies of that mode,
// which it hears of a little later than it stores them.
func awaitPolicies(t *testing.T, mode string) {
	t.Helper()
	keys := annotation.DefaultKeys()
	broken := manifest(t, fixture.App{Namespace: "default", Name: "probe", Annotations: map[string]string{keys.Auto: "true", keys.PausePeriod: "soon"}})
	doubtful := manifest(t, fixture.App{Namespace: "default", Name: "probe", Annotations: map[string]string{keys.Auto: "maybe"}})
	require.Eventually(t, func() bool {
		said, brokenErr := shared.KubectlInput(t.Context(), broken, "create", "--dry-run=server", "-f", "-")
		also, doubtfulErr := shared.KubectlInput(t.Context(), doubtful, "create", "--dry-run=server", "-f", "-")
		return strings.Contains(said, "not a duration") && strings.Contains(also, "counts as false") &&
			(brokenErr != nil) == (mode != "warn") && (doubtfulErr != nil) == (mode == "strict")
	}, soon, often)
}
