package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
)

// Engine turns changes of sources into reloads. Make one with New and run it
// once.
type Engine struct {
	settings       policy.Settings
	strategy       kind.Strategy
	workers        int
	verifyInterval time.Duration
	key            fingerprint.Key
	reporter       Reporter
	clock          clock.WithTicker
	log            logr.Logger

	client *client
	index  *index.Index
	ledger *ledger
	intake *intake
	queues *queues
	recent *recent

	// listing is held while all workloads of a kind are read.
	listing sync.Mutex
	ready   atomic.Bool
}

// New returns an engine. It makes no request yet.
func New(o Options) (*Engine, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("engine options: %w", err)
	}
	o = o.withDefaults()
	c, err := newClient(o.Config)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		settings:       o.Settings,
		strategy:       o.Strategy,
		workers:        o.Workers,
		verifyInterval: o.VerifyInterval,
		key:            o.Key,
		reporter:       o.Reporter,
		clock:          o.Clock,
		log:            o.Log,
		client:         c,
		index:          index.New(o.Settings),
		ledger:         newLedger(),
		queues:         newQueues(o.CoalesceWindow, o.Clock),
		recent:         newRecent(),
	}
	e.intake = newIntake(o.Settings, e.index, e.ledger, e.queues)
	return e, nil
}

// Ready reports whether the engine knows all workloads and the content of all
// sources that they depend on: from then on no change is missed.
func (e *Engine) Ready() bool { return e.ready.Load() }

// Stats counts what the engine knows.
func (e *Engine) Stats() index.Stats { return e.index.Stats() }

// Run watches and reloads until ctx is done, then waits for its workers. The
// API server may come and go meanwhile.
func (e *Engine) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	defer e.queues.shutDown()

	started := e.clock.Now()
	var feeds []*feed
	for _, k := range kind.All() {
		feeds = append(feeds, e.workloadFeed(k))
	}
	for _, k := range reloader.SourceKinds() {
		if e.settings.Enabled(k) && k != reloader.SecretProviderClass {
			feeds = append(feeds, e.sourceFeed(k))
		}
	}
	for _, f := range feeds {
		running.Go(func() { f.run(ctx, e.client.metadata, e.log) })
	}
	if !synced(ctx, feeds) {
		return
	}
	// What the lists have brought is complete now: many of the same kind are
	// read together. Sources come after workloads, so that all those of a
	// namespace are known when the first is read.
	for range e.workers {
		running.Go(func() { work(ctx, e, e.queues.resolve, e.resolve) })
	}
	if !e.until(ctx, e.intake.allResolved) {
		return
	}
	for range e.workers {
		running.Go(func() { work(ctx, e, e.queues.sources, e.readSource) })
		running.Go(func() { work(ctx, e, e.queues.workloads, e.reload) })
	}
	if !e.until(ctx, e.ledger.allRead) {
		return
	}
	e.ready.Store(true)
	stats := e.Stats()
	e.log.Info("ready", "workloads", stats.Workloads, "sources", stats.Sources, "after", e.clock.Since(started).String())
	running.Go(func() { e.verifyRegularly(ctx) })
	select {
	case <-ctx.Done():
		return
	case <-e.clock.After(startOver):
	}
	// What the lists were decoded into is garbage now, and several times what
	// the engine needs from here on.
	debug.FreeOSMemory()
	<-ctx.Done()
}

// startOver is how long after being ready the last of a start's memory is out
// of use.
const startOver = 2 * time.Second

func synced(ctx context.Context, feeds []*feed) bool {
	for _, f := range feeds {
		select {
		case <-ctx.Done():
			return false
		case <-f.synced:
		}
	}
	return true
}

// until waits for the condition, and reports false if ctx is done before.
func (e *Engine) until(ctx context.Context, condition func() bool) bool {
	ticker := e.clock.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C():
		}
	}
	return true
}

// work handles the keys of a queue until it is shut down. A key that fails
// goes back and waits longer each time, for ever.
func work[K interface {
	comparable
	fmt.Stringer
}](ctx context.Context, e *Engine, queue workqueue.TypedRateLimitingInterface[K], handle func(context.Context, K) error) {
	for {
		key, shutDown := queue.Get()
		if shutDown {
			return
		}
		err := handle(ctx, key)
		var stalled stalledError
		switch {
		case err == nil:
			queue.Forget(key)
		case ctx.Err() != nil:
		case errors.As(err, &stalled):
			e.log.Error(err, "refused; trying again slowly", "key", key.String(), "in", stalledRetry.String())
			queue.AddAfter(key, stalledRetry)
		default:
			e.log.Error(err, "trying again", "key", key.String(), "failures", queue.NumRequeues(key)+1)
			queue.AddRateLimited(key)
		}
		queue.Done(key)
	}
}
