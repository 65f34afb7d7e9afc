// Package annotation names the annotations of the product: the key of each, the
// objects on which it may stand, and its role. It is pure.
//
// There is one table, in table.go. Every list of annotation keys in the product
// is a filter of Keys.All: what the engine's watches keep, what counts as an edit
// of a workload, what an index record copies from a pod template, what admission
// and lint know, and which flags rename a key. To add an annotation, add a field
// to Keys and a row to the table; the tests of this package and of the engine
// fail until both are there.
//
// It does not own what the values mean (package policy), nor the labels and
// annotations of objects that the engine makes for itself (packages kind and
// metainfo).
package annotation
