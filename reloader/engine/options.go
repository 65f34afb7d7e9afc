package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/report"
	"k8s-reloader/reloader/scope"
)

// Options of an engine. The zero value of a field with a default means the
// default.
type Options struct {
	// Config reaches the API server. Required.
	Config *rest.Config
	// Key of the fingerprints. Required.
	Key fingerprint.Key
	// Settings take part in every decision.
	Settings policy.Settings
	// Kinds of workload; default kind.BuiltIn.
	Kinds kind.Set
	// Scope is what is watched; default everything.
	Scope scope.Scope
	// LookInterval is the time, more or less, between two looks at what could
	// not be watched: an API that is not served, a kind that is forbidden;
	// default 1 min.
	LookInterval time.Duration
	// Strategy of the reloads; default kind.EnvVars.
	Strategy kind.Strategy
	// ReloadOnCreate makes the creation of a source a change for workloads that
	// were there before.
	ReloadOnCreate bool
	// ReloadOnDelete makes the deletion of a source a change.
	ReloadOnDelete bool
	// SyncAfterRestart lets ReloadOnCreate count sources, too, that were
	// created while no engine ran. It needs a Checkpoint.
	SyncAfterRestart bool
	// CoalesceWindow is how long a workload waits after a change for others
	// to join; zero reloads at once.
	CoalesceWindow time.Duration
	// Checkpoint keeps what has been rolled out across restarts and leaders;
	// none means that every start adopts what it finds.
	Checkpoint *checkpoint.Store
	// Lease lets one engine of several write; none means that this is the
	// only one.
	Lease Lease
	// ReloadsPerWorkload within 10 minutes are not too many; default 10,
	// negative for no limit. A workload that is reloaded more often is held
	// back, for longer each time.
	ReloadsPerWorkload int
	// ReloadsPerSecond is the limit of the whole engine; 0 is no limit.
	ReloadsPerSecond float64
	// ConcurrentRollouts is how many workloads may roll at the same time, by
	// their status; 0 is no limit.
	ConcurrentRollouts int
	// RerunFinishedJobs lets a change run Jobs again that have ended.
	RerunFinishedJobs bool
	// VerifyInterval is the time between two passes over everything, give or
	// take a fifth; default 6 h, negative switches them off.
	VerifyInterval time.Duration
	// Workers is how many sources are read and how many workloads patched at
	// the same time; default 32.
	Workers int
	// NamespaceMemory is how many bytes, by a rough count, the workloads of one
	// namespace may take, if more than one is watched; default 64 MiB, negative
	// keeps all of them by name. Those beyond are read when their sources change.
	NamespaceMemory int
	// Reporter is told the outcomes. Required.
	Reporter Reporter
	// Webhook is called instead of patching workloads; nil to patch. Pause
	// periods mean nothing then.
	Webhook Webhook
	// Leading is called in a goroutine of its own when this engine begins to
	// write, with a context that ends when it must not any more; default
	// nothing.
	Leading func(ctx context.Context)
	// OnReady is called in a goroutine of its own when this engine has read
	// everything that a start reads, with the same context; default nothing.
	OnReady func(ctx context.Context)
	// Metrics count what happens besides outcomes; nil counts nothing.
	Metrics *report.Metrics
	// Clock is replaced in tests; default the real one.
	Clock clock.WithTicker
	// Log receives keys, never objects; default none.
	Log logr.Logger
}

// Lease is the right to write.
type Lease interface {
	// Hold waits for the lease and calls lead with a context that ends when
	// the lease does. It returns after lead, with an error if the lease was
	// lost.
	Hold(ctx context.Context, lead func(ctx context.Context)) error
	// Until is when the right ends unless it is renewed: early enough for what
	// has been sent by then to be carried out before somebody else may begin.
	Until() time.Time
}

const (
	defaultWorkers        = 32
	defaultVerifyInterval = 6 * time.Hour
	defaultLookInterval   = time.Minute
	// defaultNamespaceMemory is room for some 10,000 workloads with three
	// sources each.
	defaultNamespaceMemory = 64 << 20
	// DefaultReloadsPerWorkload opens the breaker at the 11th reload within
	// 10 minutes.
	DefaultReloadsPerWorkload = 10
)

func (o Options) withDefaults() Options {
	if o.Kinds.Empty() {
		o.Kinds = kind.BuiltIn()
	}
	if o.Strategy == "" {
		o.Strategy = kind.EnvVars
	}
	if o.LookInterval == 0 {
		o.LookInterval = defaultLookInterval
	}
	if o.VerifyInterval == 0 {
		o.VerifyInterval = defaultVerifyInterval
	}
	if o.ReloadsPerWorkload == 0 {
		o.ReloadsPerWorkload = DefaultReloadsPerWorkload
	}
	if o.Workers == 0 {
		o.Workers = defaultWorkers
	}
	if o.NamespaceMemory == 0 {
		o.NamespaceMemory = defaultNamespaceMemory
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Leading == nil {
		o.Leading = func(context.Context) {}
	}
	if o.OnReady == nil {
		o.OnReady = func(context.Context) {}
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	return o
}

// Validate joins everything that is wrong with the options.
func (o Options) Validate() error {
	var problems []error
	if o.Config == nil {
		problems = append(problems, errors.New("no configuration of the API server"))
	}
	if o.Reporter == nil {
		problems = append(problems, errors.New("no reporter"))
	}
	if o.Strategy != "" {
		if _, err := kind.ParseStrategy(string(o.Strategy)); err != nil {
			problems = append(problems, err)
		}
	}
	if err := o.Scope.Validate(); err != nil {
		problems = append(problems, err)
	}
	if o.LookInterval < 0 {
		problems = append(problems, fmt.Errorf("look interval %s is negative", o.LookInterval))
	}
	if o.CoalesceWindow < 0 {
		problems = append(problems, fmt.Errorf("coalesce window %s is negative", o.CoalesceWindow))
	}
	if o.ReloadsPerSecond < 0 {
		problems = append(problems, fmt.Errorf("%g reloads per second", o.ReloadsPerSecond))
	}
	if o.ConcurrentRollouts < 0 {
		problems = append(problems, fmt.Errorf("%d concurrent rollouts", o.ConcurrentRollouts))
	}
	if o.Workers < 0 {
		problems = append(problems, fmt.Errorf("%d workers", o.Workers))
	}
	return errors.Join(problems...)
}
