package engine

import (
	"context"
	"errors"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
)

const (
	// pauseLook is the least time between an event of a Deployment whose
	// rollout has to be complete before it is paused, and a look at it.
	pauseLook = 200 * time.Millisecond
	// pauseSkew is how far in the future a paused-at may be: another engine's
	// clock may be ahead of ours.
	pauseSkew = time.Minute
	// pauseGrace is how long a reload may be held back before its Deployment
	// is resumed without it.
	pauseGrace = 10 * time.Second
	// pausedAtFormat is RFC 3339; whole seconds would cut periods short.
	pausedAtFormat = "2006-01-02T15:04:05.000Z07:00"
)

// A pause period lets a Deployment roll at most once in that time:
//
//   - The first change is rolled out. The same patch writes paused-at. From
//     there on everything derives from that annotation, so that it does not
//     matter which engine looks, or after how many restarts.
//   - A paused Deployment makes no new ReplicaSet. So spec.paused is set by a
//     second patch, when the controller has completed the rollout, if that is
//     before the end of the period.
//   - What changes meanwhile waits in the queue. At the end one patch brings
//     all of it, resumes the Deployment and begins the next period. If nothing
//     is due, it resumes the Deployment and removes paused-at.
//
// Who owns spec.paused in managedFields has paused it. What others have paused
// is never resumed here.

// pauseSeen handles the event of a workload, as far as its pause goes.
func (e *Engine) pauseSeen(w reloader.Workload, meta metav1.Object) {
	if k, _ := e.known.ByName(w.Kind); !k.Pausable || e.webhook != nil || !e.pauses.seen(w, meta) {
		return
	}
	e.metrics.Paused(e.pauses.count())
	e.queues.workloads.AddAfter(w, pauseLook)
}

// pauseGone handles the event that a workload is gone, or its namespace not
// watched any more.
func (e *Engine) pauseGone(w reloader.Workload) {
	if _, concerned := e.pauses.of(w); !concerned {
		return
	}
	if !e.intake.selects(w.Namespace) && e.pauses.leave(w) {
		e.queues.workloads.Add(w)
		return
	}
	e.pauses.gone(w)
	e.metrics.Paused(e.pauses.count())
}

// pause is what a look at a Deployment has shown, for the reload that follows.
type pause struct {
	// waits is true if the reload has to wait; it is in the queue again.
	waits bool
	// with is added to the patch of the reload; nil adds nothing.
	with *kind.Pause
	// without is what is written if that reload cannot be; nil is nothing.
	without *kind.Pause
}

// pausing looks at w before a reload, or because of its pause alone, and
// writes what must not or need not wait for a reload. due tells whether there
// is something to roll out.
func (e *Engine) pausing(ctx context.Context, w reloader.Workload, due bool) (pause, error) {
	marks, concerned := e.pauses.of(w)
	if !concerned {
		return pause{}, nil
	}
	d, err := e.client.deployment(ctx, w)
	switch {
	case apierrors.IsNotFound(err):
		// The event of its deletion comes, and forgets what was due.
		e.pauses.gone(w)
		e.metrics.Paused(e.pauses.count())
		return pause{waits: true}, nil
	case err != nil:
		return pause{}, err
	}
	view := viewPause(d, marks, e.settings.Keys)
	now := e.clock.Now()
	change, wait := view.next(now, due)
	if wait > 0 {
		e.queues.workloads.AddAfter(w, wait)
	}
	if due && wait == 0 {
		p := pause{with: change}
		p.without, _ = view.next(now, false)
		return p, nil
	}
	switch {
	case !marks.left:
	case change != nil:
		// No event will tell whether that was the end of it.
		e.queues.workloads.AddAfter(w, pauseLook)
	case !e.intake.selects(w.Namespace):
		e.pauses.gone(w)
		e.metrics.Paused(e.pauses.count())
	}
	return pause{waits: true}, e.writePause(ctx, w, d, change)
}

// writePause patches the pause of a Deployment and nothing else; nil does
// nothing.
func (e *Engine) writePause(ctx context.Context, w reloader.Workload, d *appsv1.Deployment, change *kind.Pause) error {
	if change == nil {
		return nil
	}
	k, ok := e.known.ByName(w.Kind)
	if !ok {
		return nil
	}
	c := kind.Change{UID: d.UID, Keys: e.settings.Keys}
	// A Deployment that has opted out meanwhile is resumed, too; it has no
	// record to carry forward.
	to, active := e.intake.aim(w)
	if active {
		c.UID, c.Record = to.uid, to.record
	}
	patch, err := change.Patch(c)
	if err != nil {
		return err
	}
	patched, err := e.client.patch(ctx, k, w, patch.Type, patch.Body)
	switch {
	case err == nil:
		patched, _ = e.correct(ctx, k, w, c, patched)
		e.intake.landed(w, patched)
		e.queues.workloads.Forget(w)
		e.log.Info("changed the pause", "workload", w.String(), "paused", ptr.Deref(change.Paused, d.Spec.Paused))
		return nil
	case denied(err), apierrors.IsForbidden(err):
		e.intake.missed(w, false)
		return stalledError{err}
	case apierrors.IsNotFound(err):
		e.intake.missed(w, false)
		return nil
	case apierrors.IsConflict(err):
		return e.lookAgain(w, err)
	}
	e.intake.missed(w, true)
	return err
}

// lookAgain is for a patch that somebody else's write has overtaken.
func (e *Engine) lookAgain(w reloader.Workload, err error) error {
	e.intake.missed(w, false)
	e.queues.workloads.failed(w, err)
	return nil
}

// giveUpStalled gives up if somebody has to lift what refused the reload.
func (e *Engine) giveUpStalled(ctx context.Context, w reloader.Workload, to target, p pause, err error) {
	if _, stalled := errors.AsType[stalledError](err); stalled {
		e.giveUp(ctx, w, to, p)
	}
}

// giveUp writes what the pause needs without a reload, so that no Deployment
// stays paused because of what holds that up.
func (e *Engine) giveUp(ctx context.Context, w reloader.Workload, to target, p pause) {
	if p.without == nil {
		return
	}
	d := new(appsv1.Deployment)
	d.UID = to.uid
	if err := e.writePause(ctx, w, d, p.without); err != nil {
		e.log.Error(err, "the pause has ended and could not be lifted; trying again with the reload", "workload", w.String())
	}
}

// pauseView is a Deployment as far as its pause goes.
type pauseView struct {
	period time.Duration // 0 is none
	hasAt  bool
	// at is when the period began; zero if paused-at cannot be read.
	at time.Time
	// ended is true if somebody has resumed it in this period.
	ended  bool
	paused bool
	// ours is true if it was we who paused it, and nobody else wants it.
	ours bool
	// complete is true if nothing of its rollout is left to be done.
	complete bool
	version  string
}

func viewPause(d *appsv1.Deployment, marks pauseMarks, keys annotation.Keys) pauseView {
	v := pauseView{
		ended:    marks.ended && pauseText(d.Annotations[keys.PausedAt]) == marks.at,
		paused:   d.Spec.Paused,
		complete: rolledOut(d),
		version:  d.ResourceVersion,
	}
	if !marks.left {
		v.period, _ = policy.PausePeriod(d.Annotations, keys)
	}
	var at string
	if at, v.hasAt = d.Annotations[keys.PausedAt]; v.hasAt {
		// What cannot be read has ended, as the zero time has.
		v.at, _ = time.Parse(time.RFC3339, at)
	}
	// Without any owner (somebody has emptied managedFields), paused-at
	// speaks.
	v.ours = !pausedByOthers(d.ManagedFields) && (v.hasAt || len(pauseOwners(d.ManagedFields)) > 0)
	return v
}

// rolledOut reports whether the controller has seen this generation and has
// nothing left to do for it.
func rolledOut(d *appsv1.Deployment) bool {
	s := d.Status
	return s.ObservedGeneration >= d.Generation &&
		s.UpdatedReplicas == ptr.Deref(d.Spec.Replicas, 1) &&
		s.Replicas == s.UpdatedReplicas &&
		s.AvailableReplicas >= s.UpdatedReplicas
}

// next returns what has to be written now, nil if nothing, and after what time
// to look again. If something is due it is written along with that, unless
// there is a wait.
func (v pauseView) next(now time.Time, due bool) (change *kind.Pause, wait time.Duration) {
	if v.paused && !v.ours {
		if v.hasAt {
			return &kind.Pause{At: new("")}, 0
		}
		return nil, 0
	}
	if wait := v.left(now); wait > 0 {
		if !v.paused && v.complete {
			// The precondition keeps it from freezing a rollout that has
			// just begun.
			return &kind.Pause{Paused: new(true), ResourceVersion: v.version}, wait
		}
		return nil, wait
	}
	c := kind.Pause{}
	if v.paused {
		// The precondition keeps it from resuming what somebody else has
		// paused just now.
		c.Paused, c.ResourceVersion = new(false), v.version
	}
	switch {
	case due && v.period > 0:
		c.At = new(now.UTC().Format(pausedAtFormat))
	case v.hasAt:
		c.At = new("")
	}
	if c == (kind.Pause{}) {
		return nil, 0
	}
	return &c, 0
}

// left returns how much of the period is left; 0 if there is none.
func (v pauseView) left(now time.Time) time.Duration {
	if !v.hasAt || v.ended || v.at.After(now.Add(pauseSkew)) {
		return 0
	}
	return min(max(0, v.at.Add(v.period).Sub(now)), v.period)
}
