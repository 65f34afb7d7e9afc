// Package policy knows what the annotations and flags mean. It is pure: same
// input, same output, no I/O, no clock, no logger, no environment.
//
// It owns three questions:
//
//   - Does a change of this source reload this workload? Parse reads the
//     annotations of a workload once, Policy.Decide answers per source.
//   - Which problems does a manifest have? Judge for workloads, JudgeSource
//     for sources, Introduced for the problems that a request adds.
//   - What does admission do about it? Mode.Verdict.
//
// The annotations and their keys are in package annotation, the flags that take
// part are Settings. The contract behind all of it stands in docs/annotations.md; the
// table of policy_test.go is that contract, row by row.
//
// It does not own what a workload references (package reference), the record
// that admission writes (package record), or how sources and workloads find
// each other (package index), nor the regular expressions of named lists
// (package pattern).
//
// Annotations come from tenants, so everything here is bounded: the number, length
// and compiled size of list entries, the number of reported problems, and the length
// of messages, which never exceed one line of 120 bytes.
package policy
