// Package excerpt takes a few fields out of a JSON text of any size, in one
// pass and in memory that its caller bounds.
//
// Decoding a text into Go types can take hundreds of times its size: a
// container that was sent as {} becomes more than 700 bytes, for example. Who
// decodes what strangers send therefore takes an excerpt first. It is a JSON
// text again, has only the fields that a schema of Fields names, and no more of
// them than a Budget allows.
//
// The package owns that pass, and the comparison of two texts without decoding
// them. It knows no kind of object: what is taken of a pod template stands in
// package reference, what of a workload in package kind.
//
// Read next: field.go for the schema, take.go for the pass, equal.go for the
// comparison.
package excerpt
