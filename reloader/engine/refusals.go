package engine

import (
	"errors"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// refusal is a request that RBAC forbids, or one of any verb because the API is
// not served.
type refusal struct {
	verb      string // empty is any
	resource  schema.GroupResource
	namespace string // empty is all of them
}

// unserved is the refusal of everything that has to do with an API that the
// server does not have.
func unserved(resource schema.GroupResource) refusal { return refusal{resource: resource} }

// refusals remembers what is refused, so that it is told once and not tried in
// vain. It is safe for concurrent use.
type refusals struct {
	mu  sync.Mutex // guards everything below
	set map[refusal]struct{}
}

func newRefusals() *refusals { return &refusals{set: map[refusal]struct{}{}} }

// add reports whether the refusal is new.
func (r *refusals) add(of refusal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.set[of]
	r.set[of] = struct{}{}
	return !known
}

// remove reports whether there was such a refusal.
func (r *refusals) remove(of refusal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.set[of]
	delete(r.set, of)
	return known
}

// holds reports whether there is such a refusal.
func (r *refusals) holds(of refusal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.set[of]
	return known
}

// unseen reports whether the sources on a shelf cannot be watched.
func (e *Engine) unseen(on shelf) bool {
	resource := sourceResource(on.kind).GroupResource()
	for _, verb := range []string{"list", "watch"} {
		if e.refusals.holds(refusal{verb, resource, e.watchedAs(on.namespace)}) {
			return true
		}
	}
	return false
}

// watchedAs returns the namespace of the watches that cover a namespace: empty
// if they cover all of them.
func (e *Engine) watchedAs(namespace string) string {
	if len(e.scope.Namespaces) > 0 {
		return namespace
	}
	return ""
}

// readable notes that what is named may be read.
func (e *Engine) readable(resource schema.GroupResource, namespace string) {
	if e.refusals.remove(refusal{"get", resource, e.watchedAs(namespace)}) {
		e.log.Info("allowed now", "resource", resource.String(), "verb", "get")
	}
}

// knownRefusal is an error that has been logged for all keys that it concerns. The
// key that met it waits like one that nobody but a user can help.
type knownRefusal struct{ error }

func (r knownRefusal) Unwrap() error { return r.error }

// isKnown reports whether an error has been logged before.
func isKnown(err error) bool {
	_, known := errors.AsType[knownRefusal](err)
	return known
}

// unreadable has sources wait that may be watched, but of which the resource may
// not be read, and says so the first time. They hold up nothing. The error is for
// the key that was handled.
func (e *Engine) unreadable(resource schema.GroupResource, err error, sources ...reloader.Source) error {
	e.ledger.setAside(sources...)
	e.ledger.putBack(sources...)
	for _, s := range sources {
		if e.refusals.add(refusal{"get", resource, e.watchedAs(s.Namespace)}) {
			e.log.Error(err, "forbidden, so its changes reload nothing; grant get or switch the kind off by a flag; everything else goes on, and this is tried again slowly",
				"resource", resource.String(), "in", stalledRetry.String())
		}
		e.queues.sources.AddAfter(s, stalledRetry)
	}
	return knownRefusal{err}
}

// unresolvable has a workload that may be watched and not read wait, and says
// so the first time. It holds up nobody else.
func (e *Engine) unresolvable(k kind.Kind, w reloader.Workload, err error) error {
	resource := k.Resource.GroupResource()
	if e.refusals.add(refusal{"get", resource, e.watchedAs(w.Namespace)}) {
		e.log.Error(err, "forbidden, so what has no index record is not reloaded; grant get or switch the kind off by a flag; everything else goes on, and this is tried again slowly",
			"resource", resource.String(), "in", stalledRetry.String())
	}
	return knownRefusal{err}
}

// allResolved reports whether no workload that was there at the start waits for
// being read, but for those that must not be, or keep failing.
func (e *Engine) allResolved() bool {
	return e.intake.allResolvedBut(func(w reloader.Workload) bool {
		k, ok := e.known.ByName(w.Kind)
		return ok && e.refusals.holds(refusal{"get", k.Resource.GroupResource(), e.watchedAs(w.Namespace)}) ||
			e.queues.resolve.backoff.hopeless(w)
	})
}

// allResolvedBut is allResolved without those for whom forbidden says yes.
func (in *intake) allResolvedBut(forbidden func(reloader.Workload) bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.unresolved == 0 {
		return true
	}
	for w, t := range in.workloads {
		if !t.resolved && t.since == (moment{}) && !forbidden(w) {
			return false
		}
	}
	return true
}
