package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"k8s-reloader/certs"
	"k8s-reloader/reloader/api"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/webhook"
)

// webhookFlags are what the webhook's command line says.
type webhookFlags struct {
	settings          settingsFlags
	log               logFlags
	cluster           clusterFlags
	admission         string
	listenAddress     string
	metricsAddress    string
	certificateSecret string
	service           string
	mutatingConfig    string
	validatingConfig  string
}

func newWebhookCommand() *cobra.Command {
	f := new(webhookFlags)
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Answer the API server's admission requests",
		Long: `The webhook writes on every workload that opted in what it references, and tells
about annotations that will not do what they say. It reads nothing but the
requests; of the cluster it needs its own certificate and its own configurations.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	f.settings.bind(flags)
	f.log.bind(flags)
	f.cluster.bind(flags)
	flags.StringVar(&f.admission, "admission", string(policy.ModeDefault),
		"what becomes of problems: off, warn, default (deny what cannot work) or strict (deny what is doubtful, too)")
	flags.StringVar(&f.listenAddress, "listen-address", ":9443", "address of the admission endpoints, HTTPS")
	flags.StringVar(&f.metricsAddress, "metrics-address", ":9090", "address of /metrics, /live, /healthz and /readyz")
	flags.StringVar(&f.certificateSecret, "certificate-secret", "reloader-webhook-certificate",
		"Secret in the webhook's own namespace that holds the serving certificate, filled and renewed if it is ours")
	flags.StringVar(&f.service, "service", "reloader-webhook", "Service through which the API server comes; the certificate is for its name")
	flags.StringVar(&f.mutatingConfig, "mutating-configuration", "", "MutatingWebhookConfiguration to publish the CA in")
	flags.StringVar(&f.validatingConfig, "validating-configuration", "", "ValidatingWebhookConfiguration to publish the CA in")
	return cmd
}

func (f *webhookFlags) run(cmd *cobra.Command) error {
	settings, err := f.settings.parse()
	if err != nil {
		return err
	}
	mode, err := policy.ParseMode(f.admission)
	if err != nil {
		return fmt.Errorf("--admission: %w", err)
	}
	host, port, err := splitAddress(f.listenAddress)
	if err != nil {
		return fmt.Errorf("--listen-address=%s: %w", f.listenAddress, err)
	}
	if err := f.names(); err != nil {
		return err
	}
	log, err := f.log.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	to, err := f.cluster.connect()
	if err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(to.config)
	if err != nil {
		return fmt.Errorf("set up the API clients: %w", err)
	}
	keeper, err := certs.New(certs.Client{
		Secrets:    clients.CoreV1().Secrets(to.namespace),
		Mutating:   clients.AdmissionregistrationV1().MutatingWebhookConfigurations(),
		Validating: clients.AdmissionregistrationV1().ValidatingWebhookConfigurations(),
	}, certs.Options{
		Namespace:                to.namespace,
		Secret:                   f.certificateSecret,
		DNSNames:                 []string{f.service + "." + to.namespace + ".svc", f.service + "." + to.namespace + ".svc.cluster.local"},
		MutatingConfigurations:   given(f.mutatingConfig),
		ValidatingConfigurations: given(f.validatingConfig),
		FieldManager:             "reloader-webhook",
		Log:                      log,
	})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", f.metricsAddress)
	if err != nil {
		return fmt.Errorf("--metrics-address: %w", err)
	}
	registry := newRegistry()
	hook, err := webhook.New(webhook.Options{Settings: settings, Mode: mode, Log: log, Metrics: registry})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := ctrlwebhook.NewServer(ctrlwebhook.Options{
		Host: host,
		Port: port,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) {
			c.MinVersion = tls.VersionTLS13
			c.GetCertificate = keeper.GetCertificate
		}},
	})
	hook.Register(server)

	log.Info("starting the webhook", "version", version, "server", to.server(), "namespace", to.namespace, "admission", mode)
	parts, ctx := errgroup.WithContext(cmd.Context())
	parts.Go(func() error { return keeper.Run(ctx) })
	parts.Go(func() error { return server.Start(ctx) })
	parts.Go(func() error { return api.Serve(ctx, listener, api.Handler(keeper.Ready, registry)) })
	return parts.Wait()
}

// names makes sure that what the flags name can exist.
func (f *webhookFlags) names() error {
	if len(validation.IsDNS1123Label(f.service)) > 0 {
		return fmt.Errorf("--service=%s: no Service can have that name", f.service)
	}
	if err := objectName("certificate-secret", f.certificateSecret); err != nil {
		return err
	}
	for flag, name := range map[string]string{
		"mutating-configuration":   f.mutatingConfig,
		"validating-configuration": f.validatingConfig,
	} {
		if name == "" {
			continue
		}
		if err := objectName(flag, name); err != nil {
			return err
		}
	}
	return nil
}

// objectName makes sure that an object can have the name that a flag gives.
func objectName(flag, name string) error {
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return fmt.Errorf("--%s=%s: no object can have that name", flag, name)
	}
	return nil
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("use HOST:PORT or :PORT: %w", err)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("port %q is not between 1 and 65535", text)
	}
	return host, port, nil
}

// given returns the name as a list, which is empty if it was not given.
func given(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}
