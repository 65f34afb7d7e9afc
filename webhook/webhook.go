package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
)

// The paths of the endpoints, as the webhook configurations name them.
const (
	PathMutateWorkload   = "/mutate-workload"
	PathValidateWorkload = "/validate-workload"
	PathValidateSource   = "/validate-source"
)

// Options configure a Webhook.
type Options struct {
	// Settings decide which workloads get a record and which annotations are problems.
	Settings policy.Settings
	// Mode says what to do about problems. Empty: ModeDefault.
	Mode policy.Mode
	// Log reports denials and faults with the name of the object, never its
	// content. The zero Logger is silent.
	Log logr.Logger
	// Kinds of workload that are reviewed; default kind.BuiltIn.
	Kinds kind.Set
	// Metrics receives the collectors. Nil: nothing is exported.
	Metrics prometheus.Registerer
	// MaxBytes bounds the memory of concurrent reviews. Further reviews wait for a
	// second and are then admitted unchecked. Zero: DefaultMaxBytes. The minimum is
	// the need of the largest review.
	MaxBytes int64
	// Knows reports whether a request comes from an authenticated API server.
	// Half of MaxBytes is reserved for these, the other half serves all other
	// clients. Nil: all clients share MaxBytes.
	Knows func(*http.Request) bool
}

func (o *Options) setDefaults() {
	if o.Mode == "" {
		o.Mode = policy.ModeDefault
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Kinds.Empty() {
		o.Kinds = kind.BuiltIn()
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
}

// Validate returns all problems of the options, joined.
func (o Options) Validate() error {
	var problems []error
	if o.Mode != "" && !slices.Contains(policy.Modes(), o.Mode) {
		problems = append(problems, fmt.Errorf("unknown admission mode %q", o.Mode))
	}
	if o.MaxBytes < 0 {
		problems = append(problems, fmt.Errorf("room for %d bytes: use a positive number", o.MaxBytes))
	}
	if o.Settings.Keys.Index == "" {
		problems = append(problems, errors.New("the index annotation has no key: start from annotation.DefaultKeys"))
	}
	return errors.Join(problems...)
}

// Webhook answers admission requests. It is safe for concurrent use.
type Webhook struct {
	settings policy.Settings
	kinds    kind.Set
	mode     policy.Mode
	log      logr.Logger
	metrics  *metrics
	arrivals *arrivals
	// relevant selects the annotations and labels that are decoded.
	relevant func(key []byte) bool
}

// New returns a Webhook. It starts nothing and reads nothing; the error is
// that of Options.Validate or of registering the metrics.
func New(o Options) (*Webhook, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	return &Webhook{
		settings: o.Settings, kinds: o.Kinds, mode: o.Mode, log: o.Log, metrics: m,
		arrivals: newArrivals(o.MaxBytes, o.Knows), relevant: policy.Relevant(o.Settings.Keys),
	}, nil
}

// Register calls register for each endpoint with its path and handler.
func (w *Webhook) Register(register func(path string, handler http.Handler)) {
	register(PathMutateWorkload, w.endpoint("mutate-workload", w.mutateWorkload))
	register(PathValidateWorkload, w.endpoint("validate-workload", w.validateWorkload))
	register(PathValidateSource, w.endpoint("validate-source", w.validateSource))
}
