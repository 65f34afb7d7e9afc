package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"k8s-reloader/certs"
	"k8s-reloader/reloader/api"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/webhook"
	"k8s-reloader/webhook/server"
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
	manageCertificate bool
	publishCA         bool
	validity          time.Duration
	caValidity        time.Duration
	tlsMinVersion     string
	shutdownDelay     time.Duration
	clientCA          string
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
		"how problems are handled: off, warn, default (deny invalid values) or strict (also deny doubtful ones)")
	flags.StringVar(&f.listenAddress, "listen-address", ":9443", "address of the admission endpoints, HTTPS")
	flags.StringVar(&f.metricsAddress, "metrics-address", ":9090", "address of /metrics, /live, /healthz and /readyz")
	flags.StringVar(&f.certificateSecret, "certificate-secret", "reloader-webhook-certificate",
		"Secret in the webhook's namespace with the serving certificate; filled and renewed with --manage-certificate")
	flags.StringVar(&f.service, "service", "reloader-webhook", "Service through which the API server calls the webhook; the certificate is issued for its name")
	flags.StringVar(&f.mutatingConfig, "mutating-configuration", "", "MutatingWebhookConfiguration to publish the CA in")
	flags.StringVar(&f.validatingConfig, "validating-configuration", "", "ValidatingWebhookConfiguration to publish the CA in")
	flags.BoolVar(&f.manageCertificate, "manage-certificate", true,
		"issue and renew the certificate; if false, another controller fills the Secret, such as cert-manager")
	flags.BoolVar(&f.publishCA, "publish-ca", true,
		"write the CA into the configurations; if false, another controller does, such as cert-manager's injector")
	flags.DurationVar(&f.validity, "certificate-validity", certs.DefaultLeafLifetime,
		"lifetime of an issued certificate, at least "+certs.MinLeafLifetime.String()+"; renewed after two thirds of it")
	flags.DurationVar(&f.caValidity, "ca-validity", certs.DefaultCALifetime,
		"lifetime of the CA, at least three times that of the certificate")
	flags.StringVar(&f.tlsMinVersion, "tls-min-version", "1.3", "minimum TLS version: 1.2 or 1.3")
	flags.DurationVar(&f.shutdownDelay, "shutdown-delay", server.DefaultLinger,
		"time to keep serving after SIGTERM, until API servers use other pods")
	flags.StringVar(&f.clientCA, "client-ca", "",
		"file with the CA of the API servers' client certificates; these clients get half of the memory for reviews, others are still accepted")
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
	minVersion, linger, err := f.serving()
	if err != nil {
		return err
	}
	if err := f.names(); err != nil {
		return err
	}
	clientCAs, err := f.clientCAs()
	if err != nil {
		return err
	}
	collectOften()
	log, err := f.log.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	to, err := f.cluster.connect()
	if err != nil {
		return err
	}
	serverTime := certs.NewServerClock(clock.RealClock{}, log)
	to.config.Wrap(serverTime.Transport)
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
		FilledByOthers:           !f.manageCertificate,
		PublishedByOthers:        !f.publishCA,
		LeafLifetime:             f.validity,
		CALifetime:               f.caValidity,
		FieldManager:             "reloader-webhook",
		Clock:                    serverTime,
		Log:                      log,
	})
	if err != nil {
		return err
	}
	registry := newRegistry()
	serve, err := server.New(server.Options{
		GetCertificate: keeper.GetCertificate, MinVersion: minVersion, Linger: linger, ClientCAs: clientCAs, Log: log,
	})
	if err != nil {
		return err
	}
	hookOptions := webhook.Options{Settings: settings, Kinds: kind.BuiltIn(), Mode: mode, Log: log, Metrics: registry}
	if clientCAs != nil {
		hookOptions.Knows = serve.Knows
	}
	hook, err := webhook.New(hookOptions)
	if err != nil {
		return err
	}
	hook.Register(serve.Register)
	listeners, err := listen(cmd.Context(), map[string]string{"listen-address": f.listenAddress, "metrics-address": f.metricsAddress})
	if err != nil {
		return err
	}

	log.Info("starting the webhook", "version", version, "server", to.server(), "namespace", to.namespace, "admission", mode)
	ready := func() error { return cmp.Or(serve.Ready(), keeper.Ready()) }
	// Certificate, metrics and readiness are served until the last request is
	// answered, which is after SIGTERM.
	parts, failed := errgroup.WithContext(context.WithoutCancel(cmd.Context()))
	alive, done := context.WithCancel(failed)
	parts.Go(func() error { return keeper.Run(alive) })
	parts.Go(func() error {
		return api.Serve(alive, listeners["metrics-address"], api.Handler(ready, registry))
	})
	parts.Go(func() error {
		defer done()
		serving, stop := context.WithCancel(failed)
		defer stop()
		defer context.AfterFunc(cmd.Context(), stop)() //nolint:contextcheck // it is where the end is heard of
		return serve.Serve(serving, listeners["listen-address"])
	})
	return parts.Wait()
}

// serving returns the values of the flags that say how to serve.
func (f *webhookFlags) serving() (minVersion uint16, linger time.Duration, err error) {
	switch f.tlsMinVersion {
	case "1.2":
		minVersion = tls.VersionTLS12
	case "1.3":
		minVersion = tls.VersionTLS13
	default:
		return 0, 0, fmt.Errorf("--tls-min-version=%s: use 1.2 or 1.3", f.tlsMinVersion)
	}
	switch {
	case f.shutdownDelay < 0:
		return 0, 0, fmt.Errorf("--shutdown-delay=%s: use a positive duration, or 0 to end at once", f.shutdownDelay)
	case f.shutdownDelay == 0:
		return minVersion, -1, nil
	}
	return minVersion, f.shutdownDelay, nil
}

// clientCAs returns the certificates in the file that the flag names; nil if it
// names none.
func (f *webhookFlags) clientCAs() (*x509.CertPool, error) {
	if f.clientCA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.clientCA)
	if err != nil {
		return nil, fmt.Errorf("--client-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--client-ca=%s: no certificate in it: it has to be PEM", f.clientCA)
	}
	return pool, nil
}

// listen opens the addresses that the flags give, by flag. All or none.
func listen(ctx context.Context, addresses map[string]string) (map[string]net.Listener, error) {
	listeners := map[string]net.Listener{}
	for flag, address := range addresses {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			errs := []error{fmt.Errorf("--%s: %w", flag, err)}
			for _, opened := range listeners {
				errs = append(errs, opened.Close())
			}
			return nil, errors.Join(errs...)
		}
		listeners[flag] = l
	}
	return listeners, nil
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

// given returns the name as a list, which is empty if it was not given.
func given(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}
