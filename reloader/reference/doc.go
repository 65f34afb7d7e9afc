// Package reference works out which ConfigMaps, Secrets and
// SecretProviderClasses a pod template uses, by which container, in which way,
// and which of their keys.
//
// It owns the list of fields of a pod spec that can name a source. It does not
// know annotations, nor which references a reload follows: that is in package
// policy and in reloader.How. It looks at the spec only; whether a source
// exists is nobody's business here.
//
// Read next: reference.go is the walk, merge.go what two uses of the same
// source in the same way become. Package record writes the result down, and
// package index turns it around.
package reference
