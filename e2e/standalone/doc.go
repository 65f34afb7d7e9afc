// Package standalone shows on a real control plane what the engine does by
// itself, without a webhook: it runs in the test's own process, under the race
// detector.
package standalone
