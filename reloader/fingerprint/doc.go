// Package fingerprint computes a short digest of the content of a source. It changes
// exactly when the content changes, and reveals nothing about the content without
// the key.
//
// It owns the key's form, the encoding of content, and the version that stands
// in front of every fingerprint. It does not read sources, nor does it know
// where the key is kept. Only the data counts as content: labels, annotations, type
// and immutability are left out.
//
// A change of the encoding gives every source a new fingerprint, which would
// roll every workload: it needs a new version, and code that still computes
// the old one. The known answers in fingerprint_test.go detect such a change.
//
// Read next: fingerprint.go; the design's section on privacy.
package fingerprint
