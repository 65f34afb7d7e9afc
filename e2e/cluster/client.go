package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"k8s-reloader/e2e/cluster/podrunner"
)

// Dir is the state folder.
func (c *Cluster) Dir() string { return c.dir }

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.userKubeconfig(adminUser) }

// Program is the path of one of the tools that the cluster was built with:
// kubectl, helm, or a component.
func (c *Cluster) Program(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paths[name]
}

// RESTConfig is the administrator's, without a limit on requests. Each call
// returns a new one.
func (c *Cluster) RESTConfig() *rest.Config { return c.config(adminUser) }

// Client is the administrator's.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// Pods runs the pods of Options.Images; nil without any.
func (c *Cluster) Pods() *podrunner.Runner { return c.pods }

// Kubectl runs kubectl as administrator and returns what it printed, standard
// output and error together. An error repeats the output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.KubectlInput(ctx, "", args...)
}

// KubectlInput is Kubectl with a standard input, as for `apply -f -`.
func (c *Cluster) KubectlInput(ctx context.Context, stdin string, args ...string) (string, error) {
	return c.command(ctx, "kubectl", stdin, args)
}

// Helm runs helm as administrator, like Kubectl. Its cache, configuration and
// data are the cluster's own, not the user's.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	return c.command(ctx, "helm", "", args)
}

func (c *Cluster) command(ctx context.Context, name, stdin string, args []string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Program(name), args...)
	cmd.Env = c.env()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// env lets no program reach another cluster or the user's own settings.
func (c *Cluster) env() []string {
	return append(os.Environ(),
		"KUBECONFIG="+c.Kubeconfig(),
		"KUBECACHEDIR="+c.file("kubectl-cache"),
		"HELM_CACHE_HOME="+c.file("helm/cache"),
		"HELM_CONFIG_HOME="+c.file("helm/config"),
		"HELM_DATA_HOME="+c.file("helm/data"),
		"HELM_NAMESPACE=", "HELM_KUBECONTEXT=", "HELM_DRIVER=",
	)
}

func (c *Cluster) config(user string) *rest.Config {
	return &rest.Config{
		Host:            c.server(),
		BearerToken:     c.identity.tokens[user],
		TLSClientConfig: rest.TLSClientConfig{CAData: c.identity.caPEM},
		QPS:             -1,
		// Who wants to see warnings asks kubectl.
		WarningHandler: rest.NoWarnings{},
	}
}

// ServiceAccountConfig is a configuration with a token of a ServiceAccount,
// valid for a day, without a limit on requests.
func (c *Cluster) ServiceAccountConfig(ctx context.Context, namespace, name string) (*rest.Config, error) {
	seconds := int64(24 * 60 * 60)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("request a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	config := c.RESTConfig()
	config.BearerToken = answer.Status.Token
	return config, nil
}

// ServiceAccountKubeconfig writes such a configuration as a kubeconfig into
// the state folder and returns its path.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	config, err := c.ServiceAccountConfig(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	path := c.file("serviceaccount-" + namespace + "-" + name + ".kubeconfig")
	return path, writeKubeconfig(path, c.server(), c.identity.caPEM, name, namespace, config.BearerToken)
}

// WaitForDeployment returns when a Deployment's rollout is complete: all its
// replicas are of the newest template and available, and no others are left.
// Without a deadline in ctx it waits for Options.StartTimeout at most.
func (c *Cluster) WaitForDeployment(ctx context.Context, namespace, name string) error {
	if _, ok := ctx.Deadline(); !ok {
		limited, cancel := context.WithTimeout(ctx, c.options.StartTimeout)
		defer cancel()
		ctx = limited
	}
	var last appsv1.DeploymentStatus
	err := c.await(ctx, fmt.Sprintf("Deployment %s/%s", namespace, name), func(ctx context.Context) (bool, error) {
		deployment, err := c.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		last = deployment.Status
		return deploymentComplete(deployment), nil
	})
	if err != nil {
		return fmt.Errorf("%w (updated %d, available %d, replicas %d)", err, last.UpdatedReplicas, last.AvailableReplicas, last.Replicas)
	}
	return nil
}

func deploymentComplete(d *appsv1.Deployment) bool {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	return s.ObservedGeneration >= d.Generation &&
		s.UpdatedReplicas == want && s.AvailableReplicas == want && s.Replicas == want
}

func (c *Cluster) userKubeconfig(user string) string {
	if user == adminUser {
		return c.file("kubeconfig")
	}
	return c.file(strings.TrimPrefix(user, "system:") + ".kubeconfig")
}
