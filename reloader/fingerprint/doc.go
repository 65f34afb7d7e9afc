// Package fingerprint turns the content of a source into a short digest that
// changes exactly when the content does, and that tells nothing about the
// content to anyone who does not hold the key.
//
// It owns the key's form, the encoding of content, and the version that stands
// in front of every fingerprint. It does not read sources, nor does it know
// where the key is kept. What counts as content is the data alone: labels,
// annotations, type and immutability are left out.
//
// A change of the encoding gives every source a new fingerprint, which would
// roll every workload: it needs a new version, and code that still computes
// the old one. The known answers in fingerprint_test.go stand guard.
//
// Read next: fingerprint.go; the design's section on privacy.
package fingerprint
