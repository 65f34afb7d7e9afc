// Package share keeps the account of what the workloads of each namespace cost in
// memory, and says which of them may be kept in full.
//
// No namespace has more than its share: what does not fit in is kept by name, and
// read when it is needed, so that a namespace with many or large workloads is
// reloaded later, and nobody else pays for it. Who was there first stays; who has
// to be kept by name comes back when it is taken in anew and fits in again.
//
// It counts what it is given. What a workload costs, and what is kept by name of
// it, is the engine's to know.
package share
