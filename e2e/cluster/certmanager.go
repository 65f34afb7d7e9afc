package cluster

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s-reloader/e2e/cluster/binaries"
)

// CertManager is the name of cert-manager as a component, for Signal.
const CertManager = "cert-manager"

// StartCertManager builds cert-manager if the cache lacks it, installs its
// CustomResourceDefinitions and starts its controllers and its injector. It
// returns when the API server serves Certificates. Not at the same time as other
// methods.
func (c *Cluster) StartCertManager(ctx context.Context) error {
	paths, err := binaries.Build(ctx, binaries.Options{Log: c.options.Log}, binaries.CertManager())
	if err != nil {
		return err
	}
	maps.Copy(c.paths, paths)
	definitions, err := certManagerDefinitions(ctx)
	if err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", definitions); err != nil {
		return err
	}
	err = c.awaitComponent(ctx, APIServer, "Certificates to be served", func(ctx context.Context) (bool, error) {
		for _, resource := range []string{"certificates", "certificaterequests", "issuers", "clusterissuers"} {
			err := c.client.Discovery().RESTClient().Get().AbsPath("/apis/cert-manager.io/v1/" + resource).Do(ctx).Error()
			if err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return c.startComponent(ctx, CertManager, []string{"--kubeconfig=" + c.Kubeconfig()})
}

// certManagerDefinitions is a folder of cert-manager's module.
func certManagerDefinitions(ctx context.Context) (string, error) {
	root, err := binaries.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, binaries.CertManager().Dir)
	list := exec.CommandContext(ctx, "go", "list", "-C", dir, "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager")
	out, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("find cert-manager's module: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "deploy", "crds"), nil
}
