// Package reference works out which ConfigMaps, Secrets and
// SecretProviderClasses a pod template uses, by which container, in which way,
// and which of their keys.
//
// It owns the list of fields of a pod spec that can name a source. It does not
// know annotations, nor which references a reload follows: that is in package
// policy and in reloader.How. It reads the spec only, and does not know
// whether a source exists.
//
// Read next: reference.go is the walk, merge.go joins uses of the same source
// in the same way. Package record writes the result down, and
// package index turns it around.
package reference
