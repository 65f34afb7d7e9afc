package engine

import (
	"k8s-reloader/reloader"
)

// An engine that stands by keeps its watches in sync and reads workloads. The leader
// does everything else, so nothing is queued for that: keys of objects that come and
// go would fill the memory. Pending work is noted with the object, and deleted with
// it:
//
//   - sources: the account is dirty; shelves: they have searchers
//   - workloads: something is due to them, or they are paused
//   - faults: the workload has some
//   - carriers: they wait by name
//
// takeUp queues all of that. An event that comes at the same time is noted before it
// is queued, so at least one of the two queues it.

// standBy has events queue nothing for the leader's workers until takeUp.
func (e *Engine) standBy() {
	e.queues.sources.idle.Store(true)
	e.queues.workloads.idle.Store(true)
	e.queues.faults.idle.Store(true)
	e.carriers.standBy()
}

// standsBy reports whether the engine has yet to lead.
func (e *Engine) standsBy() bool { return e.queues.sources.idle.Load() }

// takeUp queues pending work of the time in which the engine stood by.
func (e *Engine) takeUp() {
	if !e.standsBy() {
		return
	}
	e.queues.sources.idle.Store(false)
	e.queues.workloads.idle.Store(false)
	e.queues.faults.idle.Store(false)
	for _, s := range e.ledger.toRead() {
		e.queues.sources.Add(s)
	}
	for _, w := range e.ledger.indebted() {
		e.queues.workloads.Add(w)
	}
	for _, w := range e.pauses.paused() {
		e.queues.workloads.Add(w)
	}
	for _, w := range e.intake.faulty() {
		e.queues.faults.Add(w)
	}
	for _, key := range e.carriers.takeUp() {
		e.queues.carriers.Add(key)
	}
}

// toRead returns the sources that have to be read, and, without a name, those of
// the shelves that have to be searched.
func (l *ledger) toRead() (sources []reloader.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for on := range l.searchers {
		sources = append(sources, reloader.Source{Kind: on.kind, Namespace: on.namespace})
	}
	for s, a := range l.sources {
		if a.dirty {
			sources = append(sources, s)
		}
	}
	return sources
}

// indebted returns the workloads to which something is due.
func (l *ledger) indebted() (workloads []reloader.Workload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w, d := range l.workloads {
		if len(d.pending) > 0 {
			workloads = append(workloads, w)
		}
	}
	return workloads
}

// paused returns the Deployments that have been paused, by their metadata.
func (p *pauses) paused() (workloads []reloader.Workload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w, marks := range p.concerned {
		if marks.hasAt || marks.owned {
			workloads = append(workloads, w)
		}
	}
	return workloads
}

// faulty returns the workloads with annotations that cannot be used.
func (in *intake) faulty() (workloads []reloader.Workload) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for w, t := range in.workloads {
		if len(t.faults) > 0 {
			workloads = append(workloads, w)
		}
	}
	return workloads
}

// standBy has carriers wait until takeUp.
func (c *carriers) standBy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = map[reloader.Workload]struct{}{}
}

// await has a carrier wait, and reports false if none does.
func (c *carriers) await(key reloader.Workload) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		return false
	}
	c.waiting[key] = struct{}{}
	return true
}

// retain forgets those that wait, of a kind and in a namespace, or in all of them if
// it is empty, that are not in present.
func (c *carriers) retain(of reloader.WorkloadKind, namespace string, present map[reloader.Workload]struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.waiting {
		if _, ok := present[key]; !ok && key.Kind == of && (namespace == "" || key.Namespace == namespace) {
			delete(c.waiting, key)
		}
	}
}

// takeUp returns those that have waited. No other waits from here on.
func (c *carriers) takeUp() (keys []reloader.Workload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.waiting {
		keys = append(keys, key)
	}
	c.waiting = nil
	return keys
}
