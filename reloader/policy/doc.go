// Package policy knows what the annotations and flags mean. It is pure: same
// input, same output, no I/O, no clock, no logger, no environment.
//
// It owns three questions:
//
//   - Does a change of this source reload this workload? Parse reads the
//     annotations of a workload once, Policy.Decide answers per source.
//   - What is wrong or odd about a manifest? Judge for workloads, JudgeSource
//     for sources, Introduced for what a request itself brings in.
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
// Annotations come from strangers, so everything here is bounded: entries of
// lists are limited in number, length and compiled size, the problems that are
// told in number, and messages never exceed one line of 120 bytes.
package policy
