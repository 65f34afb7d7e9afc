// Package record is what admission knows of a workload, in the form in which
// it is written on the workload as one annotation: its references, the policy
// of its pod template, a hash of that template, and the object and generation
// that all this was worked out for.
//
// It owns that format and the rules by which a record may be trusted. It does
// not find references (package reference), read policy (package policy),
// predict generations (package kind) or write annotations (the webhook and the
// engine do).
//
// Any user who may edit the workload can write a record, so decoding is strict and
// bounded, and a record has an effect only on the workload that carries it.
//
// Read next: record.go for the meaning of the fields, encode.go for the
// format, template.go for the hash.
package record
