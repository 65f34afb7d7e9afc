package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"k8s-reloader/reloader/alert"
	"k8s-reloader/reloader/api"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/metainfo"
	"k8s-reloader/reloader/receiver"
	"k8s-reloader/reloader/report"
)

// reportFlags configure where reloads are reported outside the cluster.
type reportFlags struct {
	webhookURL       string
	profiling        bool
	profilingAddress string
}

const webhookURLFlag = "webhook-url"

func (f *reportFlags) bind(flags *pflag.FlagSet) {
	flags.StringVar(&f.webhookURL, webhookURLFlag, "",
		"post to this URL for every workload that would be reloaded, instead of reloading it")
	flags.BoolVar(&f.profiling, "enable-pprof", false, "serve profiles of this process under /debug/pprof")
	flags.StringVar(&f.profilingAddress, "pprof-addr", "127.0.0.1:6060", "address of /debug/pprof; profiles hold names of the cluster's objects")
}

// outside holds the receivers of reports outside the cluster.
type outside struct {
	webhook   *receiver.Receiver // nil: workloads are patched
	alerts    *alert.Settings    // nil: no alerts
	profiling net.Listener       // nil: no profiles
}

// open reads flags and environment, and opens the listener for profiles. The
// caller closes the result.
func (f *reportFlags) open(ctx context.Context) (*outside, error) {
	o := new(outside)
	var err error
	if f.webhookURL != "" {
		if o.webhook, err = receiver.New(receiver.Options{URL: f.webhookURL}); err != nil {
			return nil, fmt.Errorf("--%s: %w", webhookURLFlag, err)
		}
	}
	if o.alerts, err = alert.FromEnvironment(os.Getenv); err != nil {
		return nil, err
	}
	if f.profiling {
		if o.profiling, err = new(net.ListenConfig).Listen(ctx, "tcp", f.profilingAddress); err != nil {
			return nil, fmt.Errorf("--pprof-addr: %w", err)
		}
	}
	return o, nil
}

func (o *outside) close() {
	if o.webhook != nil {
		o.webhook.Close()
	}
	if o.alerts != nil {
		o.alerts.Receiver.Close()
	}
	if o.profiling != nil {
		_ = o.profiling.Close() // closed already, if it was served
	}
}

// serveProfiles returns when ctx is done, or at once if there are none.
func (o *outside) serveProfiles(ctx context.Context) error {
	if o.profiling == nil {
		return nil
	}
	return api.Serve(ctx, o.profiling, api.Profiling())
}

// alerter returns the receiver of alerts, and a function to call after the last
// alert, which waits a bounded time until all are sent.
func (o *outside) alerter(ctx context.Context, metrics *report.Metrics, log logr.Logger) (to report.Alerter, finish func(), err error) {
	if o.alerts == nil {
		return nil, func() {}, nil
	}
	sender, err := alert.New(alert.Options{Settings: *o.alerts, Count: metrics.Alert, Log: log})
	if err != nil {
		return nil, nil, err
	}
	log.Info("alerting", "receiver", o.alerts.Receiver.String(), "sink", o.alerts.Sink)
	// Alerts are sent after SIGTERM, too, until the engine has stopped.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() { sender.Run(ctx); close(ended) }()
	return sender, func() { stop(); <-ended }, nil
}

// newMetrics returns the metrics of an engine.
func newMetrics(registry prometheus.Registerer) (*report.Metrics, error) {
	return report.NewMetrics(registry, report.MetricsOptions{
		ByNamespace: os.Getenv("METRICS_COUNT_BY_NAMESPACE") == "enabled",
	})
}

// publish returns what writes the meta information about this engine. Nothing
// depends on it, so it is tried once per start.
func (f *reportFlags) publish(to connection, flags *pflag.FlagSet, o *outside, log logr.Logger) (func(context.Context), error) {
	client, err := typedcorev1.NewForConfig(to.config)
	if err != nil {
		return nil, fmt.Errorf("set up the client for the meta information: %w", err)
	}
	namespace := os.Getenv("RELOADER_NAMESPACE")
	if namespace == "" {
		namespace = to.namespace
	}
	info := metainfo.Info{
		Build:      build(),
		Options:    options(flags, o),
		Deployment: metainfo.Deployment{Name: os.Getenv("RELOADER_DEPLOYMENT_NAME"), Namespace: namespace},
	}
	return func(ctx context.Context) {
		err := metainfo.Publish(ctx, client.ConfigMaps(namespace), info, engine.FieldManager)
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			log.Info("cannot publish the meta information; nothing else depends on it", "namespace", namespace, "reason", err.Error())
		}
	}, nil
}

func build() metainfo.Build {
	b := metainfo.Build{Version: version, ReleaseVersion: version, GoVersion: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.CommitHash = s.Value
		case "vcs.time":
			b.CommitTime = s.Value
		}
	}
	return b
}

// options returns all flags, without what a URL may hold besides the host.
func options(flags *pflag.FlagSet, o *outside) map[string]string {
	all := map[string]string{}
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "help" {
			all[flag.Name] = flag.Value.String()
		}
	})
	if o.webhook != nil {
		all[webhookURLFlag] = o.webhook.String()
	}
	return all
}
