package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"k8s-reloader/reloader/api"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/report"
)

// engineFlags are what the engine's command line says.
type engineFlags struct {
	settings       settingsFlags
	log            logFlags
	cluster        clusterFlags
	strategy       string
	window         time.Duration
	verifyInterval time.Duration
	listenAddress  string
	keySecret      string
}

func newEngineCommand() *cobra.Command {
	f := new(engineFlags)
	cmd := &cobra.Command{
		Use:   "engine",
		Short: "Watch sources and reload the workloads that depend on them (the default)",
		Long: `The engine watches workloads and sources as metadata only, reads a source when it
has changed, and patches the workloads that depend on it and opted in.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	f.settings.bind(flags)
	f.log.bind(flags)
	f.cluster.bind(flags)
	flags.StringVar(&f.strategy, "reload-strategy", string(kind.EnvVars),
		"what a reload changes in the pod template: env-vars or annotations")
	flags.DurationVar(&f.window, "coalesce-window", time.Second,
		"how long a workload waits after a change, so that further changes join its rollout")
	flags.DurationVar(&f.verifyInterval, "verify-interval", 6*time.Hour,
		"time between two passes that compare the index with all workloads; negative for none")
	flags.StringVar(&f.listenAddress, "listen-address", ":9090",
		"address of /metrics, /live, /healthz and /readyz")
	flags.StringVar(&f.keySecret, "fingerprint-key-secret", "",
		"Secret in the engine's own namespace that holds the key of the fingerprints, filled if empty (default: a key of this process alone)")
	return cmd
}

func (f *engineFlags) run(cmd *cobra.Command) error {
	settings, err := f.settings.parse()
	if err != nil {
		return err
	}
	strategy, err := kind.ParseStrategy(f.strategy)
	if err != nil {
		return fmt.Errorf("--reload-strategy: %w", err)
	}
	if f.window < 0 {
		return fmt.Errorf("--coalesce-window=%s: use 0 to reload at once, or a duration such as 1s", f.window)
	}
	if f.verifyInterval == 0 {
		return errors.New("--verify-interval=0: use a duration such as 6h, or a negative one for none")
	}
	if f.keySecret != "" {
		if err := objectName("fingerprint-key-secret", f.keySecret); err != nil {
			return err
		}
	}
	log, err := f.log.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	to, err := f.cluster.connect()
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", f.listenAddress)
	if err != nil {
		return fmt.Errorf("--listen-address: %w", err)
	}
	registry := newRegistry()

	// Probes are answered from the start; they wait for the engine, not the
	// engine for them.
	var running atomic.Pointer[engine.Engine]
	parts, ctx := errgroup.WithContext(cmd.Context())
	parts.Go(func() error {
		return api.Serve(ctx, listener, api.Handler(func() error { return ready(running.Load()) }, registry))
	})
	parts.Go(func() error {
		return f.reload(ctx, log, to, settings, strategy, registry, &running)
	})
	return parts.Wait()
}

// reload runs the engine until ctx is done.
func (f *engineFlags) reload(ctx context.Context, log logr.Logger, to connection, settings policy.Settings,
	strategy kind.Strategy, registry prometheus.Registerer, running *atomic.Pointer[engine.Engine],
) error {
	log.Info("starting the engine", "version", version, "server", to.config.Host, "namespace", to.namespace, "strategy", strategy)
	key, err := f.key(ctx, log, to)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	metrics, err := report.NewMetrics(registry)
	if err != nil {
		return err
	}
	events, err := report.NewEvents(ctx, to.config)
	if err != nil {
		return err
	}
	defer events.Close()
	e, err := engine.New(engine.Options{
		Config:         to.config,
		Key:            key,
		Settings:       settings,
		Strategy:       strategy,
		CoalesceWindow: f.window,
		VerifyInterval: f.verifyInterval,
		Reporter:       report.New(metrics, events),
		Log:            log,
	})
	if err != nil {
		return err
	}
	running.Store(e)
	e.Run(ctx)
	log.Info("stopped")
	return nil
}

func (f *engineFlags) key(ctx context.Context, log logr.Logger, to connection) (fingerprint.Key, error) {
	if f.keySecret == "" {
		return engine.RandomKey()
	}
	return engine.ClusterKey(ctx, to.config, to.namespace, f.keySecret, log)
}

func ready(e *engine.Engine) error {
	switch {
	case e == nil:
		return errors.New("waiting for the API server")
	case !e.Ready():
		return errors.New("reading the cluster")
	}
	return nil
}

func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}
