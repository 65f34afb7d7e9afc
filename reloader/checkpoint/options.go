package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
)

// Shards is the number of ConfigMaps that a checkpoint consists of. It is part
// of the format, and of the chart's list of names.
const Shards = 8

// ConfigMaps reads and writes the ConfigMaps of the release namespace. The
// typed client of client-go is one.
type ConfigMaps interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*corev1.ConfigMap, error)
	Create(ctx context.Context, cm *corev1.ConfigMap, o metav1.CreateOptions) (*corev1.ConfigMap, error)
	Update(ctx context.Context, cm *corev1.ConfigMap, o metav1.UpdateOptions) (*corev1.ConfigMap, error)
}

// Options of a Store. The zero value of a field with a default means the
// default.
type Options struct {
	// Namespace of the ConfigMaps, for messages. Required.
	Namespace string
	// Name of the checkpoint. The ConfigMaps are Name-0 to Name-7; those that do
	// not exist are created, if that is allowed. Required.
	Name string
	// KeyID identifies the fingerprint key without revealing it. A checkpoint made
	// with another key cannot be used. Required.
	KeyID string
	// FlushInterval is the time between two writes of a small shard; default
	// 1 s. A shard rests longer after a write, the larger it is: one interval
	// for every 64 KiB.
	FlushInterval time.Duration
	// Grace is how long the last flush may take when Run ends; default 2 s.
	Grace time.Duration
	// LeftOut is called after a write with the number of sources for which the
	// ConfigMaps have no room, if that has changed. It must not block. Default:
	// none.
	LeftOut func(sources int)
	// Clock is replaced in tests; default the real one.
	Clock clock.WithTicker
	// Log receives what Run could not write; default none.
	Log logr.Logger
}

const (
	defaultFlushInterval = time.Second
	defaultGrace         = 2 * time.Second
	// refusedRetry is the time between two attempts to write a shard that the
	// API server refuses for a reason that a user has to fix.
	refusedRetry = time.Minute
)

func (o Options) withDefaults() Options {
	if o.FlushInterval == 0 {
		o.FlushInterval = defaultFlushInterval
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	if o.LeftOut == nil {
		o.LeftOut = func(int) {}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	return o
}

// Validate joins everything that is wrong with the options.
func (o Options) Validate() error {
	var problems []error
	if o.Namespace == "" {
		problems = append(problems, errors.New("no namespace of the checkpoint"))
	}
	if o.Name == "" {
		problems = append(problems, errors.New("no name of the checkpoint"))
	}
	if o.KeyID == "" {
		problems = append(problems, errors.New("no ID of the fingerprint key"))
	}
	if o.FlushInterval < 0 {
		problems = append(problems, fmt.Errorf("flush interval %s is negative", o.FlushInterval))
	}
	if o.Grace < 0 {
		problems = append(problems, fmt.Errorf("grace %s is negative", o.Grace))
	}
	return errors.Join(problems...)
}
