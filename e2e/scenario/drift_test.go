package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
)

// unchanged is what a GitOps tool applies: no replicas, as with an autoscaler.
const unchanged = `
apiVersion: apps/v1
kind: %s
metadata:
  name: app
  namespace: %s
  annotations: {reloader.stakater.com/auto: "true"}
spec:%s
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - name: app
        image: registry.example/app:1
        envFrom: [{configMapRef: {name: settings}}]
`

// TestADiffOfAnUnchangedManifestIsEmpty asks what GitOps tools and gates ask: a
// server-side dry run must differ in nothing, the record included.
func TestADiffOfAnUnchangedManifestIsEmpty(t *testing.T) {
	given(t, nil)
	for _, k := range []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet} {
		t.Run(string(k), func(t *testing.T) {
			ns := newNamespace(t, "drift")
			setConfigMap(t, ns, "settings", "1")
			service := ""
			if k == reloader.StatefulSet {
				service = "\n  serviceName: app"
			}
			file := filepath.Join(t.TempDir(), "app.yaml")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, unchanged, k, ns, service), 0o600))
			kubectl := func(command string) {
				t.Helper()
				require.EventuallyWithT(t, func(t *assert.CollectT) {
					// A controller may write the status in between; drift stays.
					out, err := shared.Kubectl(context.Background(), command, "--server-side", "--field-manager=flux", "-f", file)
					assert.NoError(t, err, "%s", out)
				}, soon, often)
			}
			w := reloader.Workload{Kind: k, Namespace: ns, Name: "app"}
			kubectl("apply")
			require.Len(t, recordOf(t, read(t, w)).References, 1)
			kubectl("diff") // after the creation
			kubectl("apply")
			kubectl("diff")
			if k != reloader.DaemonSet {
				patch(t, w, types.MergePatchType, `{"spec":{"replicas":3}}`, "scale")
				kubectl("diff")
				kubectl("apply")
				kubectl("diff")
			}
			before := read(t, w).Meta.Generation
			setConfigMap(t, ns, "settings", "2")
			require.Eventually(t, func() bool { return read(t, w).Meta.Generation > before }, soon, often)
			kubectl("diff") // after a reload
			patch(t, w, types.MergePatchType, `{"metadata":{"labels":{"note":"new"}}}`)
			kubectl("diff")
		})
	}
}
