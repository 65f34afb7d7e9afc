package leader

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// DefaultName is the lease of today's users.
const DefaultName = "stakater-reloader-lock"

// ErrLost is returned by Hold when another replica may be the leader now.
var ErrLost = errors.New("the lease was lost")

// Options of a lease. The zero value of a field with a default means the
// default.
type Options struct {
	// Config reaches the API server. Required; it is copied.
	Config *rest.Config
	// Namespace of the lease and Identity of this process. Required.
	Namespace, Identity string
	// Name of the lease; default DefaultName.
	Name string
	// Duration after which a leader that is not heard of has lost the lease;
	// default 15 s. It gives up by itself when two thirds are over.
	Duration time.Duration
	// Retry is the time between two attempts to get or to renew the lease;
	// default 250 ms.
	Retry time.Duration
	// Log receives changes of leadership; default none.
	Log logr.Logger
}

// Validate joins everything that is wrong with the options.
func (o Options) Validate() error {
	o = o.withDefaults()
	var problems []error
	if o.Config == nil {
		problems = append(problems, errors.New("no configuration of the API server"))
	}
	if o.Namespace == "" {
		problems = append(problems, errors.New("no namespace"))
	}
	if o.Identity == "" {
		problems = append(problems, errors.New("no identity: set POD_NAME"))
	}
	if o.Retry <= 0 || o.Duration < 6*o.Retry {
		problems = append(problems, fmt.Errorf("a duration of %s is too short for attempts every %s", o.Duration, o.Retry))
	}
	return errors.Join(problems...)
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Duration == 0 {
		o.Duration = 15 * time.Second
	}
	if o.Retry == 0 {
		o.Retry = 250 * time.Millisecond
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	return o
}

// giveUp is how long after the last renewal a leader ends.
func (o Options) giveUp() time.Duration { return o.Duration * 2 / 3 }

// Lease is a lease that this process may hold. It is safe for concurrent use.
type Lease struct {
	options Options
	lock    *timedLock
}

// New returns a lease that is not held. It makes no request.
func New(o Options) (*Lease, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("lease options: %w", err)
	}
	o = o.withDefaults()
	// A connection of its own: a new transport is made only if the
	// configuration differs.
	config := rest.CopyConfig(o.Config)
	config.Timeout = o.Duration / 3
	config.QPS = -1
	client, err := coordinationv1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("set up the client for the lease: %w", err)
	}
	return &Lease{options: o, lock: &timedLock{Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: o.Identity},
	}}}, nil
}

// Until is the time from which on nothing may be written, unless the lease is
// renewed before. It is when a leader that cannot renew gives up, a third of the
// duration before another one may begin: that much a write may be late.
func (l *Lease) Until() time.Time {
	renewed := l.lock.renewed.Load()
	if renewed == nil {
		return time.Time{}
	}
	return renewed.Add(l.options.giveUp())
}

// Hold waits for the lease and calls lead. The context that lead gets ends
// with ctx or when the lease cannot be renewed; the lease is released after
// lead has returned. It returns nil if ctx is why it ended, else ErrLost.
func (l *Lease) Hold(ctx context.Context, lead func(ctx context.Context)) error {
	// The election outlives ctx, until lead has returned.
	election, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	var leading atomic.Bool
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		if !leading.Load() {
			release()
		}
	})
	defer stop()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            l.lock,
		LeaseDuration:   l.options.Duration,
		RenewDeadline:   l.options.giveUp(),
		RetryPeriod:     l.options.Retry,
		ReleaseOnCancel: true,
		Name:            l.options.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				defer close(done)
				leading.Store(true)
				l.options.Log.Info("leading", "lease", l.options.Name, "identity", l.options.Identity)
				held, cancel := context.WithCancel(held)
				defer cancel()
				defer context.AfterFunc(ctx, cancel)()
				lead(held)
				release()
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				if identity != l.options.Identity {
					l.options.Log.Info("standing by", "lease", l.options.Name, "leader", identity)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("set up the election: %w", err)
	}
	elector.Run(klog.NewContext(election, l.options.Log))
	// A replica that acquired the lease leads, even if the election has ended.
	if l.lock.renewed.Load() != nil {
		<-done
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s/%s: %w", l.options.Namespace, l.options.Name, ErrLost)
}

// timedLock remembers when the lease was renewed last: the time at which the
// request was made, since the answer may be late.
type timedLock struct {
	resourcelock.Interface
	renewed atomic.Pointer[time.Time]
}

// Create implements resourcelock.Interface.
func (t *timedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	started := time.Now()
	return t.note(started, t.Interface.Create(ctx, record))
}

// Update implements resourcelock.Interface.
func (t *timedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	started := time.Now()
	if record.HolderIdentity == "" {
		// Given back: from here on another one may begin at once.
		started = time.Time{}
		t.renewed.Store(&started)
	}
	return t.note(started, t.Interface.Update(ctx, record))
}

func (t *timedLock) note(started time.Time, err error) error {
	if err == nil {
		t.renewed.Store(&started)
	}
	return err
}
