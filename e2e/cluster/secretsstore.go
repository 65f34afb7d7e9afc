package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
)

// The CRDs of the Secrets Store CSI driver are those of its own module.
const (
	secretsStoreModule = "sigs.k8s.io/secrets-store-csi-driver@v1.5.3"
	secretsStoreSum    = "h1:SBsYaGmuQN9EIHwi32gaf0k94hyjjeaQ5eWeyqC0lWQ="
)

// InstallSecretsStore installs the custom resources of the Secrets Store CSI
// driver. The driver itself needs a kubelet: what it writes, tests write.
func (c *Cluster) InstallSecretsStore(ctx context.Context) error {
	download := exec.CommandContext(ctx, "go", "mod", "download", "-json", secretsStoreModule)
	download.Dir = c.Dir() // no module's
	out, err := download.Output()
	if err != nil {
		return fmt.Errorf("download %s: %w", secretsStoreModule, err)
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil {
		return fmt.Errorf("download %s: %w", secretsStoreModule, err)
	}
	if module.Sum != secretsStoreSum {
		return fmt.Errorf("download %s: checksum %s, want %s", secretsStoreModule, module.Sum, secretsStoreSum)
	}
	crds := filepath.Join(module.Dir, "config", "crd", "bases")
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", crds); err != nil {
		return err
	}
	for _, resource := range []string{"secretproviderclasses", "secretproviderclasspodstatuses"} {
		if err := c.awaitResource(ctx, "secrets-store.csi.x-k8s.io/v1", resource); err != nil {
			return err
		}
	}
	return nil
}
