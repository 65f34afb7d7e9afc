package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/report"
)

// Reporter is told what came of reloads. Its methods are called by many
// workers at once and must not block.
type Reporter interface {
	// Reloaded is called once per reload that the API server took.
	Reloaded(report.Reload)
	// Failed is called once per attempt that it refused, or that never reached
	// it. The outcome says what happens next.
	Failed(r report.Reload, outcome reloader.Outcome, err error)
	// Held is called when a workload has been reloaded too often: what is due
	// to it is held back for that long.
	Held(r report.Reload, wait time.Duration)
	// TakenBack is called when another controller has reverted several reloads
	// in a row, of which this was the last. The workload is held back.
	TakenBack(r report.Reload, by string)
	// Doubtful is called when a source changed while no engine ran, and it
	// cannot be known whether before or after the workload's pods started.
	Doubtful(w reloader.Workload, s reloader.Source)
	// Faulty is called when values of a workload's annotations were found that
	// cannot be used. The reload names the workload, and no sources.
	Faulty(r report.Reload, faults []reloader.Problem)
	// Corrected is called when the verifying pass found the index wrong.
	Corrected(w reloader.Workload)
}

// reload handles one key of the workload queue: it has a workload's pods start
// with the content that it has yet to get.
func (e *Engine) reload(ctx context.Context, w reloader.Workload) error {
	err := guarded(func() error { return e.reloadDue(ctx, w) })
	if panicked(err) {
		// It may have been carried out before.
		e.rollouts.began(w)
		e.intake.missed(w, true)
	}
	return err
}

// reloadDue does so if something is due, or its pause asks for it.
func (e *Engine) reloadDue(ctx context.Context, w reloader.Workload) error {
	k, ok := e.known.ByName(w.Kind)
	debts := e.ledger.due(w)
	if _, pauses := e.pauses.of(w); !ok || len(debts) == 0 && !pauses {
		e.attempts.over(w)
		return nil
	}
	ctx, cancel, err := e.whileLeading(ctx, w)
	if err != nil {
		return err
	}
	defer cancel()
	if filled, err := e.fill(ctx, k, w); !filled {
		return err
	}
	defer e.intake.empty(w)
	if err := e.followUp(ctx, k, w); err != nil {
		return err
	}
	if err := e.payInherited(ctx, k, w); err != nil {
		return err
	}
	debts = e.dueNow(w)
	p, err := e.pausing(ctx, w, len(debts) > 0)
	if err != nil || p.waits || len(debts) == 0 {
		return err
	}
	to, ok := e.intake.aim(w)
	if !ok {
		// Once it has been read it comes back.
		return nil
	}
	// Its template is known, and what has been read of it may be taken in just now.
	e.judgeRival(w)
	r := report.Reload{
		Workload:   w,
		UID:        to.uid,
		APIVersion: k.Resource.GroupVersion().String(),
		Sources:    sourcesOf(debts),
	}
	if wait := e.hold(r); wait > 0 {
		e.intake.missed(w, false)
		e.queues.workloads.AddAfter(w, wait)
		if wait > pauseGrace {
			e.giveUp(ctx, w, to, p)
		}
		return nil
	}
	started := e.clock.Now()
	change := kind.Change{
		UID:      to.uid,
		Marks:    e.marks(debts, to),
		Strategy: e.strategy,
		ByPlace:  to.byPlace,
		Record:   to.record,
		Keys:     e.settings.Keys,
		At:       started,
		Pause:    p.with,
	}
	if e.webhook != nil {
		return e.callInstead(ctx, k, attempt{r, debts, change}, to)
	}
	came, err := e.carryOut(ctx, k, w, change)
	r.Latency = e.clock.Since(started)
	if err != nil {
		switch {
		case stopped(ctx):
			return err
		case p.with != nil && apierrors.IsConflict(err) && !denied(err):
			e.rollouts.notBegun(w)
			return e.lookAgain(w, err)
		}
		err = e.refused(attempt{r, debts, change}, err)
		e.giveUpStalled(ctx, w, to, p, err)
		return err
	}
	return e.carriedOut(r, debts, came)
}

// carriedOut notes what has come of a reload.
func (e *Engine) carriedOut(r report.Reload, debts []debt, came effect) error {
	w := r.Workload
	switch {
	case came.written != nil:
		e.rollouts.began(w)
		e.intake.landed(w, came.written)
	case came.done:
		// What was written is another object: the one that lends the template.
		e.rollouts.began(w)
		e.intake.missed(w, false)
	default:
		e.notMade(w, false)
	}
	if came.wait > 0 {
		e.queues.workloads.AddAfter(w, came.wait)
		return nil
	}
	if len(came.marks) > 0 {
		template, _, _ := e.intake.template(w)
		e.rivals.reloaded(r, came.written.Generation, came.marks, template)
	}
	e.queues.workloads.Forget(w)
	if e.ledger.paid(w, debts) {
		e.intake.reload(w)
	}
	if !came.done {
		e.log.V(1).Info(came.why, "workload", w.String(), "sources", sourceNames(debts))
		return nil
	}
	e.limits.reloaded(w)
	e.reporter.Reloaded(r)
	e.log.Info("reloaded", "workload", w.String(), "sources", sourceNames(debts))
	return nil
}

// notMade notes that a reload that was let through has written nothing to w; read
// is true if w is not what it was taken for.
func (e *Engine) notMade(w reloader.Workload, read bool) {
	e.rollouts.notBegun(w)
	e.intake.missed(w, read)
}

// leads reports whether nobody else may write. A leader that was frozen may not
// know yet that it is none.
func (e *Engine) leads() bool {
	return e.lease == nil || fence{e.lease, e.clock}.left() > 0
}

// stopGrace is how long what is under way may take when the engine stops.
const stopGrace = 5 * time.Second

// whileLeading returns a context that ends when somebody else may begin to
// write, or a while after the engine stops: what has been sent is answered, and
// the next engine need not find out what came of it. Once the engine stops, there
// is none.
func (e *Engine) whileLeading(ctx context.Context, w reloader.Workload) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		// A queue that is shut down hands out what it has.
		return nil, nil, err
	}
	ctx, cancel := e.withGrace(ctx)
	if e.lease == nil {
		return ctx, cancel, nil
	}
	// A leader that was suspended may not know yet that it is none.
	left := fence{e.lease, e.clock}.left()
	if left == 0 {
		cancel()
		return nil, nil, fmt.Errorf("reload %s: %w", w, errLeaseOver)
	}
	ctx, end := context.WithTimeout(ctx, left)
	return ctx, func() { end(); cancel() }, nil
}

// withGrace returns a context that ends stopGrace after ctx.
func (e *Engine) withGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-longer.Done():
		case <-e.clock.After(stopGrace):
			cancel()
		}
	})
	return longer, func() { stop(); cancel() }
}

// stopped reports whether a context of whileLeading has ended because the engine
// stops: what is cut off by that has not failed, it is what the next engine
// begins with.
func stopped(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// hold returns how long the limits want a reload to wait; 0 is not at all.
func (e *Engine) hold(r report.Reload) time.Duration {
	w := r.Workload
	// What is run or replaced is no rollout: it takes no place, and waits for none.
	if k, ok := e.known.ByName(w.Kind); ok && k.Way == kind.ByPatch && !e.rollouts.begin(w) {
		return rolloutPoll
	}
	wait, held := e.limits.admit(w)
	if wait > 0 {
		e.rollouts.notBegun(w)
	}
	if held {
		e.reporter.Held(r, wait)
		e.log.Info("reloaded too often; holding back", "workload", w.String(), "for", wait.String())
	}
	return wait
}

// refused sorts the failure of a reload by what has to happen next.
func (e *Engine) refused(it attempt, err error) error {
	r := it.reload
	w := r.Workload
	queue := e.intake.queues.workloads
	if apierrors.IsNotFound(err) && classOf(err) != stalled {
		// The event of its deletion comes, and forgets what was due. If it does not
		// come, w is there after all.
		e.notMade(w, false)
		queue.failed(w, err)
		return nil
	}
	stalls := queue.stalls(w, err)
	switch classOf(err) {
	case stalled:
		e.notMade(w, false)
	case overtaken, mistaken:
		// It is not what we took it for: another one of that name, or other
		// containers. If that is known to be so, nothing is new.
		e.notMade(w, !stalls)
	case unanswered, failed, throttled, broken:
		// It may have arrived all the same, and then w rolls: its status tells. That
		// is so with 429, too, which something between us and the API server may say.
		e.rollouts.began(w)
		e.intake.missed(w, true)
		e.ledger.doubt(w, it.debts)
		e.attempts.lost(it)
	}
	outcome := reloader.OutcomeRetry
	if stalls {
		outcome, err = reloader.OutcomeStalled, stalledError{err}
	}
	e.reporter.Failed(r, outcome, err)
	return err
}

// stalledError is a refusal that somebody has to lift.
type stalledError struct{ error }

func (e stalledError) Unwrap() error { return e.error }

// denied reports whether an admission webhook or policy said no: those choose
// their own status code, but the API server's words before it stand.
func denied(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Status != metav1.StatusFailure {
		return false
	}
	message := status.Status().Message
	return strings.HasPrefix(message, "admission webhook ") || strings.Contains(message, " ValidatingAdmissionPolicy '")
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

func sourcesOf(debts []debt) []reloader.Source {
	sources := make([]reloader.Source, len(debts))
	for i, d := range debts {
		sources[i] = d.source
	}
	return sources
}

// maxLogged is how many sources a log line names.
const maxLogged = 20

// sourceNames returns what a log line says of the debts.
func sourceNames(debts []debt) []string {
	names := make([]string, 0, min(len(debts), maxLogged+1))
	for _, d := range debts[:min(len(debts), maxLogged)] {
		names = append(names, d.source.String())
	}
	if more := len(debts) - maxLogged; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return names
}
