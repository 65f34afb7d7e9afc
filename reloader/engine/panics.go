package engine

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/guard"
)

// Objects are written by people whom nobody has to trust. If one of them finds a
// hole in what decodes or judges it, that is a failure of this object's key and
// of nothing else: whatever handles objects runs guarded, in queues and in watch
// handlers, and the key is read again later.

// guarded calls handle, and makes an error of its panic.
func guarded(handle func() error) error { return guard.Call(handle) }

// panicked reports whether an error is a panic.
func panicked(err error) bool { return guard.Panicked(err) }

// survived counts and logs a panic outside of the queues, while the key was
// handled.
func (e *Engine) survived(key string, err error) {
	e.metrics.Panicked()
	e.log.Error(err, "internal error; please report it with the stack; everything else goes on", "key", key, "stack", guard.Stack(err))
}

// sourceBroke is for a panic somewhere between an event of s and the end of a look
// at it. Its queue reads it again and treats it as changed: who has the content
// takes no notice.
func (e *Engine) sourceBroke(s reloader.Source) {
	if s.Name == "" {
		e.ledger.putBackOn(shelfOf(s))
		return
	}
	for _, w := range e.ledger.broke(s) {
		e.intake.reload(w)
	}
}

// broke has the next look at s be one at a change, whatever was noted before the
// panic, and returns the workloads that wait already.
func (l *ledger) broke(s reloader.Source) (waiting []reloader.Workload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(s)
	a.dirty, a.broken = true, true
	if a.past == lookingBack {
		a.past = unknown
	}
	for w := range a.waiting {
		waiting = append(waiting, w)
	}
	return waiting
}

// putBackOn is putBack for all sources on the shelf that have not been read.
func (l *ledger) putBackOn(on shelf) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, a := range l.sources {
		if !a.read && on == shelfOf(s) {
			a.dirty = true
		}
	}
}

// workloadBroke is for a panic while an event of w was handled, or what was read
// of it: it counts as not resolved, and its queue reads it again.
func (e *Engine) workloadBroke(w reloader.Workload, meta metav1.Object) {
	e.intake.broke(w, meta)
	e.queues.resolve.AddRateLimited(w)
}

// broke notes that nothing that is known of w is sure. meta is of the newest
// event; nil is the one that is known.
func (in *intake) broke(w reloader.Workload, meta metav1.Object) {
	var keys uint64
	if meta != nil {
		keys = in.hash(meta.GetAnnotations())
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	switch {
	case t == nil && meta == nil:
		return
	case t == nil:
		t = &tracked{born: meta.GetCreationTimestamp().Time, resolved: true}
		in.workloads[w] = t
	}
	if meta != nil {
		t.uid, t.generation, t.keys = meta.GetUID(), meta.GetGeneration(), keys
	}
	if t.resolved {
		t.resolved = false
		in.unresolved++
	}
}
