package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader/guard"
)

const (
	// maxWait bounds the time between two checks of the certificate: a timer does
	// not notice that the clock was changed.
	maxWait = time.Hour
	// maxRetry bounds the time between two tries of something that fails.
	maxRetry = time.Minute
	// maxTries bounds the write conflicts in a row.
	maxTries = 5
	// writesPerSecond and writeBurst bound what a fight with another writer over
	// the same objects costs the API server.
	writesPerSecond = 1
	writeBurst      = 10
)

var errTooManyWrites = errors.New("another writer keeps overwriting it; retrying later")

// Keeper keeps the serving certificate of one process. Make one with New, run
// it with Run, and serve with GetCertificate. Its methods are safe for
// concurrent use.
type Keeper struct {
	opts           Options
	client         Client
	clock          clock.Clock
	log            logr.Logger
	writes         flowcontrol.PassiveRateLimiter
	secret         *latest
	configurations []*configuration
	wake           chan struct{} // holds one token: something changed

	// awaited is a certificate that is trusted since trustedSince and will be
	// served soon; nil: there is none. Used by Run alone.
	awaited      *x509.Certificate
	trustedSince time.Time

	mu      sync.RWMutex
	current *pair // the served pair; nil until there is one
	trouble error // why the last step failed; nil if it did not
}

// New returns a Keeper that does nothing until Run.
func New(client Client, opts Options) (*Keeper, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	k := &Keeper{
		opts:   opts,
		client: client,
		clock:  opts.Clock,
		log:    opts.Log,
		writes: flowcontrol.NewTokenBucketPassiveRateLimiterWithClock(writesPerSecond, writeBurst, opts.Clock),
		wake:   make(chan struct{}, 1),
	}
	k.secret = &latest{name: opts.Secret, changed: k.changed}
	for _, name := range opts.MutatingConfigurations {
		k.configurations = append(k.configurations, mutatingConfiguration(client.Mutating, name, opts.FieldManager, k.changed))
	}
	for _, name := range opts.ValidatingConfigurations {
		k.configurations = append(k.configurations, validatingConfiguration(client.Validating, name, opts.FieldManager, k.changed))
	}
	return k, nil
}

// changed wakes Run. A token that is already waiting covers further changes.
func (k *Keeper) changed() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run keeps the certificate until ctx ends, and returns nil when everything it
// started has ended. What goes wrong is logged and tried again. Call it once.
func (k *Keeper) Run(ctx context.Context) error {
	var watches sync.WaitGroup
	defer watches.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k.watch(ctx, &watches)

	for failures := 0; ; {
		at, err := k.guardedStep(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			retry := wait.Jitter(min(time.Second<<min(failures, 10), maxRetry), 0.2)
			failures++
			k.log.Error(err, "certificate is not as it should be", "secret", klog.KRef(k.opts.Namespace, k.opts.Secret), "retryAfter", retry)
			at = k.clock.Now().Add(retry)
		} else {
			failures = 0
		}
		k.mu.Lock()
		k.trouble = err
		k.mu.Unlock()

		if !k.wait(ctx, at) {
			return nil
		}
	}
}

// wait returns when something has changed or it is time to look again, or false
// when ctx has ended.
func (k *Keeper) wait(ctx context.Context, at time.Time) bool {
	until := at.Sub(k.clock.Now())
	if until <= 0 {
		return ctx.Err() == nil
	}
	timer := k.clock.NewTimer(min(until, maxWait))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-k.wake:
	case <-timer.C():
	}
	return true
}

func (k *Keeper) watch(ctx context.Context, watches *sync.WaitGroup) {
	ctx = klog.NewContext(ctx, k.log)
	start := func(lw cache.ListerWatcher, expected object, store *latest) {
		reflector := cache.NewReflectorWithOptions(lw, expected, store, cache.ReflectorOptions{
			Logger: &k.log,
			Name:   "certs/" + store.name,
		})
		watches.Go(func() { reflector.RunWithContext(ctx) })
	}
	start(named(k.client.Secrets, k.opts.Secret), &corev1.Secret{}, k.secret)
	for _, c := range k.configurations {
		var expected object = &admissionregistrationv1.MutatingWebhookConfiguration{}
		if c.kind == "ValidatingWebhookConfiguration" {
			expected = &admissionregistrationv1.ValidatingWebhookConfiguration{}
		}
		start(c.watch, expected, c.latest)
	}
}

// guardedStep is step, with a panic turned into an error: the certificates of other
// controllers are foreign input.
func (k *Keeper) guardedStep(ctx context.Context) (at time.Time, err error) {
	err = guard.Call(func() (err error) {
		at, err = k.step(ctx)
		return err
	})
	if guard.Panicked(err) {
		k.log.Error(err, "internal error; please report it with the stack", "stack", guard.Stack(err))
	}
	return at, err
}

// step updates the Secret, the published CA and the served certificate once. It
// returns the time of the next check if nothing changes until then.
func (k *Keeper) step(ctx context.Context) (at time.Time, err error) {
	for range maxTries {
		secret, err := k.keep(ctx)
		if err != nil {
			return time.Time{}, err
		}
		now := k.clock.Now()
		p, err := k.pair(secret, now)
		if err != nil {
			return time.Time{}, fmt.Errorf("secret %s/%s: %w", secret.Namespace, secret.Name, err)
		}
		if k.mayServe(p, now) {
			k.serve(p)
		}
		stale, err := k.publish(ctx, secret, p.ca)
		if err != nil {
			return time.Time{}, err
		}
		if stale {
			continue
		}
		handOver := k.handOver(p, now)
		at, err := k.next(secret, p)
		if err == nil && !handOver.IsZero() && handOver.Before(at) {
			at = handOver
		}
		return at, err
	}
	return time.Time{}, fmt.Errorf("secret %s/%s: %w", k.opts.Namespace, k.opts.Secret, errTooManyWrites)
}

// pair returns what the Secret holds, or why it cannot be served.
func (k *Keeper) pair(secret *corev1.Secret, now time.Time) (*pair, error) {
	if !k.keeps(secret) {
		if err := waiting(secret); err != nil {
			return nil, err
		}
	}
	data := secret.Data
	if k.opts.PublishedByOthers { // The published CAs count, not the one in the Secret.
		data = maps.Clone(data)
		delete(data, KeyCA)
	}
	return parsePair(data, k.opts.DNSNames[0], now)
}

// keeps reports whether this package writes the Secret.
func (k *Keeper) keeps(secret *corev1.Secret) bool {
	return !k.opts.FilledByOthers && ours(secret)
}

// next returns the time until which the pair, and the one that is served meanwhile,
// need no renewal.
func (k *Keeper) next(secret *corev1.Secret, p *pair) (time.Time, error) {
	at := p.cert.Leaf.NotAfter
	k.mu.RLock()
	if k.current != nil && k.current.cert.Leaf.NotAfter.Before(at) {
		at = k.current.cert.Leaf.NotAfter
	}
	k.mu.RUnlock()
	at = at.Add(time.Second) // valid up to and including that second
	if !k.keeps(secret) {
		return at, nil
	}
	renewal, err := due(secret.Data, p.cert.Leaf, k.opts.LeafLifetime)
	if err == nil && renewal.Before(at) {
		at = renewal
	}
	return at, err
}

// keep returns the Secret with a pair in it. It keeps the existing pair if that is
// valid or not ours; else it writes a new one, or uses that of a faster replica.
func (k *Keeper) keep(ctx context.Context) (*corev1.Secret, error) {
	secret, err := k.known(ctx)
	for range maxTries {
		if err != nil || !k.keeps(secret) {
			return secret, err
		}
		data, reason, err := renew(secret.Data, k.opts, k.clock.Now())
		if err != nil || data == nil {
			return secret, err
		}
		written, err := k.write(ctx, secret, data)
		if err == nil {
			k.log.Info("certificate written", "secret", klog.KObj(written), "reason", reason)
			return written, nil
		}
		if !apierrors.IsConflict(err) {
			return nil, err
		}
		secret, err = k.read(ctx)
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("secret %s/%s: %w", k.opts.Namespace, k.opts.Secret, errTooManyWrites)
}

// known returns the Secret as the watch or our last request saw it.
func (k *Keeper) known(ctx context.Context) (*corev1.Secret, error) {
	if obj, _ := k.secret.get(); obj != nil {
		if secret, ok := obj.(*corev1.Secret); ok {
			return secret, nil
		}
	}
	return k.read(ctx)
}

// read asks for the newest state: no resourceVersion means a quorum read.
func (k *Keeper) read(ctx context.Context) (*corev1.Secret, error) {
	secret, err := k.client.Secrets.Get(ctx, k.opts.Secret, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read secret %s/%s: %w", k.opts.Namespace, k.opts.Secret, err)
	}
	k.secret.put(secret)
	return secret, nil
}

// write replaces the data of the Secret as it was read. Its
// resourceVersion makes the write a conflict if the Secret has changed since.
func (k *Keeper) write(ctx context.Context, secret *corev1.Secret, data map[string][]byte) (*corev1.Secret, error) {
	if !k.writes.TryAccept() {
		return nil, fmt.Errorf("write secret %s/%s: %w", secret.Namespace, secret.Name, errTooManyWrites)
	}
	secret = secret.DeepCopy()
	secret.Data = data
	written, err := k.client.Secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: k.opts.FieldManager})
	if err != nil {
		return nil, fmt.Errorf("write secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	k.secret.put(written)
	return written, nil
}
