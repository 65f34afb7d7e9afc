// Package share keeps the account of what the workloads of each namespace cost in
// memory, and says which of them may be kept in full.
//
// No namespace has more than its share. A workload that does not fit in is kept by
// name, and read when it is needed: a namespace with many or large workloads is
// reloaded later, and no other namespace pays for it. Workloads that are in stay in;
// one that is kept by name is kept in full when it is entered again and fits in.
//
// It counts what it is given. What a workload costs, and what is kept by name of
// it, is the engine's to know.
package share
