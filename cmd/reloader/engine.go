package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"k8s-reloader/reloader/api"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/leader"
	"k8s-reloader/reloader/report"
)

// engineFlags are what the engine's command line says.
type engineFlags struct {
	settings       settingsFlags
	scope          scopeFlags
	log            logFlags
	cluster        clusterFlags
	report         reportFlags
	strategy       string
	window         time.Duration
	verifyInterval time.Duration
	listenAddress  string
	keySecret      string
	checkpoint     string
	ha             bool
	perWorkload    int
	perSecond      float64
	concurrent     int
	rerunFinished  bool
	onCreate       bool
	onDelete       bool
	afterRestart   bool
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
	f.scope.bind(flags)
	f.log.bind(flags)
	f.cluster.bind(flags)
	f.report.bind(flags)
	flags.StringVar(&f.strategy, "reload-strategy", string(kind.EnvVars),
		"how a reload marks the pod template: env-vars or annotations")
	flags.DurationVar(&f.window, "coalesce-window", time.Second,
		"time to collect further changes before a workload is reloaded")
	flags.DurationVar(&f.verifyInterval, "verify-interval", 6*time.Hour,
		"interval at which the index is verified against all workloads; negative disables it")
	flags.StringVar(&f.listenAddress, "listen-address", ":9090",
		"address of /metrics, /live, /healthz and /readyz")
	flags.StringVar(&f.keySecret, keySecretFlag, "",
		"Secret in the engine's namespace with the key of the fingerprints; created if missing, filled if empty "+
			"(default: in a pod NAME-fingerprint-key, where NAME is $RELOADER_DEPLOYMENT_NAME or reloader; else a random key)")
	flags.StringVar(&f.checkpoint, checkpointFlag, "",
		"ConfigMaps NAME-0 to NAME-7 in the engine's namespace that record which content was rolled out, so that no change is lost while no engine is running; created if missing "+
			"(default: in a pod NAME-checkpoint; else every start treats the existing content as rolled out)")
	flags.IntVar(&f.perWorkload, "breaker-reloads", engine.DefaultReloadsPerWorkload,
		"reloads of one workload within 10 minutes before it is throttled, for longer each time; negative for no limit")
	flags.Float64Var(&f.perSecond, "max-reloads-per-second", 0,
		"maximum reloads per second of the whole engine; 0 for no limit")
	flags.IntVar(&f.concurrent, "max-concurrent-rollouts", 0,
		"maximum number of workloads that roll out at the same time, by their status; 0 for no limit")
	flags.BoolVar(&f.rerunFinished, "rerun-finished-jobs", false,
		"rerun finished Jobs when their sources change")
	flags.BoolVar(&f.onCreate, "reload-on-create", false,
		"reload workloads that already existed when a source is created")
	flags.BoolVar(&f.onDelete, "reload-on-delete", false,
		"reload when a source is deleted")
	flags.BoolVar(&f.afterRestart, "sync-after-restart", false,
		"apply --reload-on-create to sources that were created while no engine was running; requires --checkpoint")
	flags.BoolVar(&f.ha, "enable-ha", false,
		"enable leader election; only the leader reloads workloads")
	return cmd
}

func (f *engineFlags) run(cmd *cobra.Command) error {
	options, err := f.parse()
	if err != nil {
		return err
	}
	collectOften()
	options.OnReady = releaseMemory
	options.NamespaceMemory = namespaceMemory(memoryLimit())
	if options.Log, err = f.log.logger(cmd.ErrOrStderr()); err != nil {
		return err
	}
	outside, err := f.report.open(cmd.Context())
	if err != nil {
		return err
	}
	defer outside.close()
	if f.scope.unselective() {
		options.Log.Info("--namespace-selector is ignored: " + singleNamespace + " names the only namespace; unset it to use the selector")
	}
	to, err := f.cluster.connect()
	if err != nil {
		return err
	}
	if err := f.nameState(to, cmd.Flags()); err != nil {
		return err
	}
	if f.afterRestart && (!f.onCreate || f.checkpoint == "") {
		options.Log.Info("--sync-after-restart does nothing without --reload-on-create and --checkpoint")
	}
	registry := newRegistry()
	if options.Metrics, err = newMetrics(registry); err != nil {
		return err
	}
	to.config.Wrap(options.Metrics.Transport)
	options.Config = to.config
	if outside.webhook != nil {
		options.Webhook = outside.webhook
	}
	if options.Leading, err = f.report.publish(to, cmd.Flags(), outside, options.Log); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", f.listenAddress)
	if err != nil {
		return fmt.Errorf("--listen-address: %w", err)
	}

	// Probes are answered from the start; they wait for the engine, not the
	// engine for them.
	var running atomic.Pointer[engine.Engine]
	parts, ctx := errgroup.WithContext(cmd.Context())
	parts.Go(func() error {
		return api.Serve(ctx, listener, api.Handler(func() error { return ready(running.Load()) }, registry))
	})
	parts.Go(func() error { return outside.serveProfiles(ctx) })
	parts.Go(func() error {
		options.Log.Info("starting the engine", "version", version, "server", to.server(),
			"namespace", to.namespace, "strategy", options.Strategy)
		events, err := f.assemble(ctx, &options, to)
		if err != nil {
			return err
		}
		defer events.Close()
		alerts, finish, err := outside.alerter(ctx, options.Metrics, options.Log)
		if err != nil {
			return err
		}
		defer finish()
		options.Reporter = report.New(options.Metrics, events, alerts)
		e, err := engine.New(options)
		if err != nil {
			return err
		}
		running.Store(e)
		err = e.Run(ctx)
		options.Log.Info("stopped")
		return err
	})
	if err := parts.Wait(); err != nil && cmd.Context().Err() == nil {
		return err
	}
	return nil
}

// parse returns what the flags say by themselves.
func (f *engineFlags) parse() (engine.Options, error) {
	settings, err := f.settings.parse()
	if err != nil {
		return engine.Options{}, err
	}
	scope, err := f.scope.parse()
	if err != nil {
		return engine.Options{}, err
	}
	strategy, err := kind.ParseStrategy(f.strategy)
	if err != nil {
		return engine.Options{}, fmt.Errorf("--reload-strategy: %w", err)
	}
	if f.window < 0 {
		return engine.Options{}, fmt.Errorf("--coalesce-window=%s: use 0 to reload at once, or a duration such as 1s", f.window)
	}
	if f.verifyInterval == 0 {
		return engine.Options{}, errors.New("--verify-interval=0: use a duration such as 6h, or a negative one for none")
	}
	if f.perWorkload == 0 {
		return engine.Options{}, errors.New("--breaker-reloads=0: nothing would ever be reloaded; use a number above 0, or a negative one for no limit")
	}
	if f.perSecond < 0 {
		return engine.Options{}, fmt.Errorf("--max-reloads-per-second=%g: use a number above 0, or 0 for no limit", f.perSecond)
	}
	if f.concurrent < 0 {
		return engine.Options{}, fmt.Errorf("--max-concurrent-rollouts=%d: use a number above 0, or 0 for no limit", f.concurrent)
	}
	for flag, name := range map[string]string{keySecretFlag: f.keySecret, checkpointFlag: f.checkpoint} {
		if name == "" {
			continue
		}
		if err := objectName(flag, name); err != nil {
			return engine.Options{}, err
		}
	}
	return engine.Options{
		Settings:       settings,
		Kinds:          kind.BuiltIn(),
		Scope:          scope,
		Strategy:       strategy,
		CoalesceWindow: f.window,
		VerifyInterval: f.verifyInterval,

		ReloadsPerWorkload: f.perWorkload,
		ReloadsPerSecond:   f.perSecond,
		ConcurrentRollouts: f.concurrent,
		RerunFinishedJobs:  f.rerunFinished,

		ReloadOnCreate:   f.onCreate,
		ReloadOnDelete:   f.onDelete,
		SyncAfterRestart: f.afterRestart,
	}, nil
}

const (
	keySecretFlag  = "fingerprint-key-secret"
	checkpointFlag = "checkpoint"
)

// nameState gives the key and the checkpoint of an engine in a pod their default
// names, so that it loses no change while it is down, however it was installed. A
// flag that is set to nothing stays so.
func (f *engineFlags) nameState(to connection, flags *pflag.FlagSet) error {
	name := os.Getenv("RELOADER_DEPLOYMENT_NAME")
	const keySuffix = "-fingerprint-key" // the longest
	if name == "" || objectName("", name+keySuffix) != nil {
		name = "reloader"
	}
	if to.pod && !flags.Changed(keySecretFlag) {
		f.keySecret = name + keySuffix
	}
	// Without a key that outlives the process nothing in it can be compared.
	if to.pod && !flags.Changed(checkpointFlag) && f.keySecret != "" {
		f.checkpoint = name + "-checkpoint"
	}
	if f.checkpoint != "" && f.keySecret == "" {
		return errors.New("--checkpoint: nothing in it can be compared after a restart without --fingerprint-key-secret; name that Secret, too")
	}
	return nil
}

// assemble adds what needs the API server: the key, which it waits for, the
// checkpoint, the lease and the events, which are the caller's to close.
func (f *engineFlags) assemble(ctx context.Context, o *engine.Options, to connection) (*report.Events, error) {
	var err error
	if o.Key, err = f.key(ctx, o.Log, to); err != nil {
		return nil, err
	}
	if f.checkpoint != "" {
		client, err := typedcorev1.NewForConfig(to.config)
		if err != nil {
			return nil, fmt.Errorf("set up the client for the checkpoint: %w", err)
		}
		o.Checkpoint, err = checkpoint.New(client.ConfigMaps(to.namespace), checkpoint.Options{
			Namespace: to.namespace,
			Name:      f.checkpoint,
			KeyID:     o.Key.ID(),
			LeftOut:   o.Metrics.CheckpointLeftOut,
			Log:       o.Log,
		})
		if err != nil {
			return nil, err
		}
	}
	if f.ha {
		identity, err := podName()
		if err != nil {
			return nil, err
		}
		if o.Lease, err = leader.New(leader.Options{
			Config:    to.config,
			Namespace: to.namespace,
			Identity:  identity,
			Log:       o.Log,
		}); err != nil {
			return nil, err
		}
	}
	// Events are written after SIGTERM, too, until the engine has stopped.
	return report.NewEvents(context.WithoutCancel(ctx), to.config)
}

func (f *engineFlags) key(ctx context.Context, log logr.Logger, to connection) (fingerprint.Key, error) {
	if f.keySecret == "" {
		return engine.RandomKey()
	}
	return engine.ClusterKey(ctx, to.config, to.namespace, f.keySecret, log)
}

// podName returns an identity that no other engine has.
func podName() (string, error) {
	if name := os.Getenv("POD_NAME"); name != "" {
		return name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find a name for this engine: set POD_NAME: %w", err)
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid()), nil
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
