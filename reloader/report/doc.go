// Package report tells the outside what came of reloads: Kubernetes events on
// the workloads, and metrics.
//
// It never holds up a reload and never fails one: events go through a bounded
// queue of client-go's, metrics are counters. It knows names and reasons, no
// content.
package report
