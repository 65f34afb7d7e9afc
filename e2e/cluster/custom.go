package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster/binaries"
)

//go:embed deploymentconfigs.yaml
var deploymentConfigs string

// InstallRollouts installs the custom resources of Argo Rollouts and starts
// their controller. The first time ever, that builds it.
func (c *Cluster) InstallRollouts(ctx context.Context) error {
	o, module := binaries.Options{Log: c.options.Log}, binaries.ArgoRollouts()
	paths, err := binaries.Build(ctx, o, module)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.paths[RolloutsController] = paths[RolloutsController]
	c.mu.Unlock()
	source, err := module.Source(ctx, o, "github.com/argoproj/argo-rollouts")
	if err != nil {
		return err
	}
	if err := c.installCRDs(ctx, filepath.Join(source, "manifests", "crds"), "", "argoproj.io/v1alpha1", "rollouts"); err != nil {
		return err
	}
	return c.startComponent(ctx, RolloutsController, []string{
		"--kubeconfig=" + c.Kubeconfig(),
		"--leader-elect=false",
		"--qps=500",
		"--burst=1000",
		// It would listen on every address. There is no such port, which it
		// says in its log and does without.
		"--metricsPort=-1",
		"--healthzPort=-1",
	})
}

// InstallDeploymentConfigs installs a custom resource that stands in for
// OpenShift's DeploymentConfigs: the same group, kind and fields, without the
// controller.
func (c *Cluster) InstallDeploymentConfigs(ctx context.Context) error {
	return c.installCRDs(ctx, "-", deploymentConfigs, "apps.openshift.io/v1", "deploymentconfigs")
}

// installCRDs applies a kustomization, or a manifest for "-", and returns when
// the API that it brings is served.
func (c *Cluster) installCRDs(ctx context.Context, path, manifest, groupVersion, resource string) error {
	flag := "-k"
	if manifest != "" {
		flag = "-f"
	}
	if _, err := c.KubectlInput(ctx, manifest, "apply", "--server-side", flag, path); err != nil {
		return err
	}
	return c.awaitResource(ctx, groupVersion, resource)
}

// awaitResource returns when a resource is served.
func (c *Cluster) awaitResource(ctx context.Context, groupVersion, resource string) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.StartTimeout)
	defer cancel()
	return c.await(ctx, resource, func(context.Context) (bool, error) {
		list, err := c.client.Discovery().ServerResourcesForGroupVersion(groupVersion)
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource }) {
			return false, fmt.Errorf("%s are not served yet", resource)
		}
		return true, nil
	})
}
