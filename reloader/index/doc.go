// Package index answers, in memory, which workloads a change of a source may
// concern, and which sources a workload depends on.
//
// It owns the two directions and keeps them together, within one namespace at
// a time, since references do not leave theirs. It asks package policy what a
// policy follows, names and decides, and adds nothing to that. It does no I/O,
// reads no object, and does not know where its entries come from: the engine
// makes them from index records or from pod templates.
//
// Most dependencies are exact: a reference, or a name in a list. Those are
// found by one look-up each, whatever the number of workloads. Patterns in
// named lists are tried one by one, but only those of the source's namespace
// and kind, equal lists once, and never within a question: Match tries them, in
// as many calls as its caller likes, and what it has found out is remembered per
// name. The memory for that is bounded, in all and per namespace.
//
// Of a workload that is kept by name (byname.go) only what it may depend on stays, in
// a fixed size: questions for dependents may say yes for it where they should not.
//
// Read next: index.go for the questions, node.go for how answers are stored,
// match.go for patterns.
package index
