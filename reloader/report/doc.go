// Package report tells the outside what came of reloads: Kubernetes events on
// the workloads, metrics, and alerts. Its metrics also count what happens on
// the way to a reload.
//
// It never holds up a reload and never fails one: events go through a bounded
// queue of client-go's, alerts through one of package alert's, metrics are
// counters. It knows names and reasons, no content.
package report
