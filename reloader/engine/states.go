package engine

import (
	"hash/maphash"

	"k8s-reloader/reloader"
)

// What follows tells the states of keys apart, as far as another attempt at a key
// that has failed might end otherwise. Only keys that have failed are asked.

// stateOf tells the states of a source apart.
func (l *ledger) stateOf(s reloader.Source) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil {
		return a.heard
	}
	return 0
}

// stateOf tells the states of a workload apart: another object, generation or
// policy.
func (e *Engine) stateOf(w reloader.Workload) uint64 {
	in := e.intake
	in.mu.Lock()
	defer in.mu.Unlock()
	var h maphash.Hash
	h.SetSeed(in.seed)
	if t := in.workloads[w]; t != nil {
		maphash.WriteComparable(&h, t.uid)
		maphash.WriteComparable(&h, t.generation)
		maphash.WriteComparable(&h, t.keys)
	}
	return h.Sum64()
}

// debtsOf is stateOf with what is due to the workload.
func (e *Engine) debtsOf(w reloader.Workload) uint64 {
	var h maphash.Hash
	h.SetSeed(e.intake.seed)
	maphash.WriteComparable(&h, e.stateOf(w))
	for _, d := range e.ledger.due(w) {
		maphash.WriteComparable(&h, d)
	}
	return h.Sum64()
}
