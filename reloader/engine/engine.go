package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/engine/internal/share"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/guard"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/report"
	"k8s-reloader/reloader/scope"
)

// Engine turns changes of sources into reloads. Make one with New and run it
// once.
type Engine struct {
	settings       policy.Settings
	scope          scope.Scope
	strategy       kind.Strategy
	workers        int
	verifyInterval time.Duration
	key            fingerprint.Key
	seals          seals
	reporter       Reporter
	clock          clock.WithTicker
	log            logr.Logger

	client *client
	index  *index.Index
	ledger *ledger
	intake *intake
	queues *queues
	recent *recent
	// matching is what patterns may cost each namespace.
	matching *matching
	// backlog is how much is due in each namespace.
	backlog *backlog
	limits  *limits

	rollouts *rollouts
	rivals   *rivals
	watcher  *watcher
	refusals *refusals
	// workloads are the feeds of workloads once Run has begun, feeds all there
	// are once it has begun to lead.
	workloads, feeds []*feed
	attempts         *attempts
	births           *births
	lenders          *lenders
	pauses           *pauses
	carriers         *carriers
	// rerunFinished lets a Job that has ended be replaced, too.
	rerunFinished bool

	rotations *rotations
	metrics   *report.Metrics // nil counts nothing
	arrivals  *arrivals
	webhook   Webhook // nil to patch
	leading   func(context.Context)
	known     kind.Set
	onReady   func(context.Context)

	checkpoint *checkpoint.Store // nil without
	// archived is when the checkpoint was last written before this engine led.
	archived time.Time
	// upgraded is when this engine began to lead after one of version 1; zero if
	// the one before it was of this version.
	upgraded time.Time
	lease    Lease // nil without

	listings *listings
	ready    atomic.Bool
	// toldOtherKeys is done once a record with other keys has been told of.
	toldOtherKeys sync.Once
}

// New returns an engine. It makes no request yet.
func New(o Options) (*Engine, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("engine options: %w", err)
	}
	o = o.withDefaults()
	forWrites := o.Config
	if o.Lease != nil {
		forWrites = fence{o.Lease, o.Clock}.around(o.Config)
	}
	c, err := newClient(o.Config, forWrites, o.Log)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		settings:       o.Settings,
		scope:          o.Scope,
		strategy:       o.Strategy,
		workers:        o.Workers,
		verifyInterval: o.VerifyInterval,
		key:            o.Key,
		seals:          newSeals(o.Key),
		reporter:       o.Reporter,
		clock:          o.Clock,
		log:            o.Log,
		client:         c,
		index:          index.New(o.Settings),
		ledger:         newLedger(),
		rivals:         newRivals(o.Clock),
		attempts:       newAttempts(),
		births:         newBirths(c, o.Kinds, o.Log),
		lenders:        newLenders(),
		pauses:         newPauses(o.Settings.Keys),
		carriers:       newCarriers(o.Key),
		rerunFinished:  o.RerunFinishedJobs,
		metrics:        o.Metrics,
		arrivals:       newArrivals(o.Metrics),
		webhook:        o.Webhook,
		leading:        o.Leading,
		known:          o.Kinds,
		onReady:        o.OnReady,
		rollouts:       newRollouts(o.ConcurrentRollouts, len(o.Scope.Namespaces) != 1, o.Clock),
		limits:         newLimits(max(0, o.ReloadsPerWorkload), o.ReloadsPerSecond, o.Clock),
		recent:         newRecent(),
		matching:       newMatching(o.Clock),
		checkpoint:     o.Checkpoint,
		lease:          o.Lease,
		rotations:      newRotations(),
		refusals:       newRefusals(),
		listings:       newListings(),
	}
	half := 0
	if len(o.Scope.Namespaces) != 1 {
		half = (o.Workers + 1) / 2
	}
	e.queues = newRuledQueues(o.Clock, o.Metrics.Queues(),
		rules[reloader.Source]{share: half, state: e.ledger.stateOf},
		rules[reloader.Workload]{state: e.stateOf, over: func(w reloader.Workload) bool { return !e.intake.open(w) }},
		rules[reloader.Workload]{state: e.debtsOf, over: func(w reloader.Workload) bool { return len(e.ledger.due(w)) == 0 }},
	)
	due := 0
	if len(o.Scope.Namespaces) != 1 {
		due = mostDue
	}
	e.backlog = newBacklog(o.Clock, due, e.ledger.debtsIn)
	e.ledger.named = e.index.Named
	e.ledger.lifecycle = lifecycle{onCreate: o.ReloadOnCreate, onDelete: o.ReloadOnDelete, afterRestart: o.SyncAfterRestart}
	if o.Settings.CSI {
		if c.statuses, err = newPodStatuses(o.Config, o.Key); err != nil {
			return nil, err
		}
	}
	e.watcher = &watcher{
		client:    c,
		discovery: newDiscovery(c.core, o.LookInterval, o.Clock, o.Log),
		refusals:  e.refusals,
		interval:  o.LookInterval,
		clock:     o.Clock,
		log:       o.Log,
		broke:     e.survived,
	}
	memory := share.Unlimited
	if len(o.Scope.Namespaces) != 1 {
		memory = o.NamespaceMemory
	}
	e.intake = newIntake(o.Settings, o.Kinds, o.CoalesceWindow, e.index, e.ledger, e.queues, share.New(memory))
	if o.Scope.NamespaceSelector != nil {
		e.intake.selection = &selection{namespaces: map[string]*joining{}}
	}
	return e, nil
}

// Ready reports whether the engine does its part. One that leads knows all
// workloads and the content of all sources that they depend on, so that from
// then on no change is missed. One that stands by has its watches in sync.
func (e *Engine) Ready() bool { return e.ready.Load() }

// Stats counts what the engine knows.
func (e *Engine) Stats() index.Stats { return e.index.Stats() }

// Run watches and reloads until ctx is done, then waits for its workers. The
// API server may come and go meanwhile. The error means that the lease was
// lost, after which the engine cannot be run again.
func (e *Engine) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer e.client.waitForReports()
	defer watching.Wait()
	defer e.queues.shutDown()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	if e.lease != nil {
		e.standBy()
	}
	watching.Go(func() { e.watcher.discovery.run(ctx) })
	watching.Go(func() { e.forgetRegularly(ctx) })
	e.workloads = e.workloadFeeds()
	if !e.watch(ctx, &watching, e.namespaceFeeds()) {
		return nil
	}
	e.intake.watchWorkloads()
	watching.Go(func() { work(ctx, e, e.queues.namespaces, e.joinNamespace) })
	if !e.watch(ctx, &watching, append(e.carrierFeeds(), e.workloads...)) {
		return nil
	}
	// What the lists have brought is complete now: many of the same kind are
	// read together.
	for range e.workers {
		watching.Go(func() { work(ctx, e, e.queues.resolve, e.resolve) })
	}
	if !e.until(ctx, e.allResolved, "workloads") {
		return nil
	}
	e.leaveBehind()
	// Sources come after workloads, so that the versions of all those that
	// somebody depends on are heard of.
	if !e.watch(ctx, &watching, e.sourceFeeds()) {
		return nil
	}
	if e.lease == nil {
		e.lead(ctx)
		return nil
	}
	e.ready.Store(true)
	return e.lease.Hold(ctx, e.lead)
}

// lead reloads until ctx is done: a start, and the take-over from another
// leader, which is the same. What has been rolled out until then is in the
// checkpoint when it returns.
func (e *Engine) lead(ctx context.Context) {
	started := e.clock.Now()
	if e.checkpoint != nil {
		if !e.recall(ctx) {
			return
		}
		keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
		var keeper sync.WaitGroup
		keeper.Go(func() { e.keep(keeping) })
		defer keeper.Wait()
		defer stop()
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	defer e.queues.sources.ShutDown()
	defer e.queues.matches.ShutDown()
	defer e.queues.workloads.ShutDown()
	defer e.queues.faults.ShutDown()
	defer e.queues.carriers.ShutDown()
	workers.Go(func() { e.onceLeading(ctx) })
	workers.Go(func() { work(ctx, e, e.queues.faults, e.tellFaults) })
	workers.Go(func() { work(ctx, e, e.queues.matches, e.matchWaiting) })
	for range e.workers {
		workers.Go(func() { work(ctx, e, e.queues.sources, e.readSource) })
		workers.Go(func() { work(ctx, e, e.queues.workloads, e.reload) })
		workers.Go(func() { work(ctx, e, e.queues.carriers, e.carry) })
	}
	e.takeUp()
	// Reloads do not wait for every source to be read, so neither does this.
	workers.Go(func() { e.watchRollouts(ctx) })
	if !e.until(ctx, e.firstLooks(), "sources") {
		return
	}
	e.goOn()
	if e.checkpoint != nil {
		// What was adopted is a promise from now on: a change that comes right
		// after is compared with it, even by another engine.
		if err := guarded(func() error { return e.checkpoint.Flush(ctx) }); err != nil {
			e.log.Error(err, "the checkpoint is not complete yet; trying again")
		}
	}
	e.births.forget()
	e.ready.Store(true)
	stats := e.Stats()
	e.log.Info("ready", "workloads", stats.Workloads, "sources", stats.Sources, "after", e.clock.Since(started).String())
	workers.Go(func() { e.verifyRegularly(ctx) })
	workers.Go(func() { e.onReady(ctx) })
	<-ctx.Done()
}

// onceLeading does what is done once by a leader and what nothing depends on.
func (e *Engine) onceLeading(ctx context.Context) {
	if err := guarded(func() error { e.leading(ctx); return nil }); err != nil {
		e.survived("leading", err)
	}
}

// recall goes on where the checkpoint ends. It reports false if ctx is done
// before the checkpoint could be read.
func (e *Engine) recall(ctx context.Context) bool {
	var summary checkpoint.Summary
	read := func(ctx context.Context) (bool, error) {
		err := guarded(func() (err error) {
			summary, err = e.checkpoint.Load(ctx)
			return err
		})
		if panicked(err) {
			e.survived("checkpoint", err)
		} else if err != nil {
			e.log.Error(err, "cannot read the checkpoint, trying again")
		}
		return err == nil, nil
	}
	if err := wait.PollUntilContextCancel(ctx, time.Second, true, read); err != nil {
		return false
	}
	for _, problem := range summary.Problems {
		e.log.Error(nil, problem)
	}
	if summary.Fresh {
		e.log.Info("there is no checkpoint yet: what is found counts as rolled out")
	}
	e.archived, e.upgraded = summary.Written, time.Time{}
	if summary.Version1 {
		e.upgraded = e.clock.Now()
	}
	// Where a part is missing, sources without an entry may well be old.
	e.ledger.open(e.checkpoint, summary.Fresh || len(summary.Problems) > 0)
	return true
}

// keep writes the checkpoint until ctx is done.
func (e *Engine) keep(ctx context.Context) {
	for {
		err := guarded(func() error { return e.checkpoint.Run(ctx) })
		if panicked(err) {
			e.survived("checkpoint", err)
			select {
			case <-e.clock.After(stalledRetry):
				continue
			case <-ctx.Done():
				// The last flush is worth another attempt.
				err = guarded(func() error { return e.checkpoint.Run(ctx) })
			}
		}
		if errors.Is(err, checkpoint.ErrConflict) && ctx.Err() == nil && e.leads() {
			// What a leader knows is newer.
			e.log.Info("somebody else has written the checkpoint; writing it again", "reason", err.Error())
			continue
		}
		if err != nil {
			e.log.Error(err, "the checkpoint is not up to date: the next start looks at more than it had to")
		}
		return
	}
}

// startTold is the time between two words on what a start waits for.
const startTold = 10 * time.Second

// until waits until all of them are read, and reports false if ctx is done before.
func (e *Engine) until(ctx context.Context, read func() bool, them string) bool {
	look, overdue := e.clock.NewTicker(5*time.Millisecond), e.clock.NewTicker(startTold)
	defer look.Stop()
	defer overdue.Stop()
	for !read() {
		select {
		case <-ctx.Done():
			return false
		case <-look.C():
		case <-overdue.C():
			e.log.Info("the start waits for what has yet to be read", "of", them)
		}
	}
	return true
}

// work handles the keys of a queue until it is shut down. A key that fails
// goes back and waits longer each time, for ever.
func work[K interface {
	comparable
	fmt.Stringer
}](ctx context.Context, e *Engine, queue *queue[K], handle func(context.Context, K) error) {
	for {
		key, shutDown := queue.Get()
		if shutDown {
			return
		}
		attemptKey(ctx, e, queue, key, handle)
		queue.Done(key)
	}
}

// attemptKey handles one key, unless it has to wait.
func attemptKey[K interface {
	comparable
	fmt.Stringer
}](ctx context.Context, e *Engine, queue *queue[K], key K, handle func(context.Context, K) error) {
	if ctx.Err() == nil && queue.rests(key) > 0 {
		return
	}
	started := e.clock.Now()
	err := guarded(func() error { return handle(ctx, key) })
	switch {
	case isKnown(err):
		e.tally(key, e.clock.Since(started), nil)
	case err == nil || ctx.Err() == nil:
		e.tally(key, e.clock.Since(started), err)
	}
	switch {
	case err == nil:
		queue.handled(key)
	case ctx.Err() == nil:
		e.tryAgain(key.String(), err, queue.failed(key, err))
	}
}

// tryAgain logs a failure of a key that went back to its queue.
func (e *Engine) tryAgain(key string, err error, r retry) {
	log := e.log.WithValues("key", key, "in", r.wait.String())
	if isKnown(err) {
		log.V(1).Info("forbidden as before")
		return
	}
	switch r.class {
	case throttled:
		if r.begun {
			e.log.Info("the API server asks for fewer requests; waiting", "for", r.wait.String(), "reason", err.Error())
		}
		log.V(1).Info("throttled")
	case stalled:
		log.Error(err, "refused; trying again slowly")
	case broken:
		log.Error(err, "internal error; please report it with the stack; everything else goes on", "stack", guard.Stack(err))
	default:
		log.Error(err, "trying again", "failures", r.failures)
	}
}
