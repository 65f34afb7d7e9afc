package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterFlags say how to reach the API server.
type clusterFlags struct {
	kubeconfig string
}

func (f *clusterFlags) bind(flags *pflag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "",
		"file that says how to reach the API server (default: $KUBECONFIG, the pod's ServiceAccount, ~/.kube/config)")
}

// connection is the API server, and the namespace for our own objects.
type connection struct {
	config    *rest.Config
	namespace string
	// pod is true if this process runs in a pod of the cluster.
	pod bool
}

// connect finds the API server without talking to it: --kubeconfig, then
// KUBECONFIG, then the pod's own ServiceAccount, then ~/.kube/config.
func (f *clusterFlags) connect() (connection, error) {
	if f.kubeconfig == "" && os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		config, err := rest.InClusterConfig()
		if err == nil {
			to := f.connection(config, podNamespace())
			to.pod = true
			return to, nil
		}
		if !errors.Is(err, rest.ErrNotInCluster) {
			return connection{}, fmt.Errorf("the pod's ServiceAccount: %w", err)
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil)
	config, err := loader.ClientConfig()
	if err != nil && f.kubeconfig != "" {
		return connection{}, fmt.Errorf("--kubeconfig=%s: %w", f.kubeconfig, err)
	}
	if clientcmd.IsEmptyConfig(err) || os.IsNotExist(err) {
		return connection{}, fmt.Errorf("no configuration of the API server: tried --kubeconfig (not set), $KUBECONFIG (%s), the pod's ServiceAccount (not in a pod) and %s",
			orUnset(os.Getenv(clientcmd.RecommendedConfigPathEnvVar)), clientcmd.RecommendedHomeFile)
	}
	if err != nil {
		return connection{}, fmt.Errorf("read the kubeconfig: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return connection{}, fmt.Errorf("read the kubeconfig: %w", err)
	}
	return f.connection(config, namespace), nil
}

func (f *clusterFlags) connection(config *rest.Config, namespace string) connection {
	pod := false
	for _, variable := range []string{"RELOADER_NAMESPACE", "POD_NAMESPACE"} {
		if set := os.Getenv(variable); set != "" {
			// Only manifests of pods set them.
			namespace, pod = set, true
		}
	}
	// Fairness among clients is the API server's job.
	config.QPS = -1
	config.UserAgent = "reloader/" + version
	return connection{config: config, namespace: namespace, pod: pod}
}

// server is the API server's address for the log: without a password that the
// kubeconfig may have put into it.
func (c connection) server() string {
	if !strings.Contains(c.config.Host, "@") {
		return c.config.Host // may be HOST:PORT, which is no URL
	}
	address, err := url.Parse(c.config.Host)
	if err != nil {
		return "an address that cannot be parsed"
	}
	return address.Redacted()
}

// podNamespace is the namespace that the pod's ServiceAccount is in.
func podNamespace() string {
	name, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		// InClusterConfig has read the token beside it; there is no name then.
		return "default"
	}
	return strings.TrimSpace(string(name))
}

func orUnset(value string) string {
	if value == "" {
		return "not set"
	}
	return value
}
