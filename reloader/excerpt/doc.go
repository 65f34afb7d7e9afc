// Package excerpt takes a few fields out of a JSON text of any size, in one
// pass and in memory that its caller bounds.
//
// Decoding a text into Go types can take hundreds of times its size: a
// container that was sent as {} becomes more than 700 bytes, for example. So
// code that decodes text of tenants takes an excerpt first. The excerpt is JSON
// again. It has only the fields that a schema of Fields names, and no more of them
// than the budget allows.
//
// The package owns that pass, and the comparison of two texts without decoding
// them. It knows no kind of object: the fields of a pod template are listed in
// package reference, those of a workload in package kind.
//
// Read next: field.go for the schema, take.go for the pass, equal.go for the
// comparison.
package excerpt
