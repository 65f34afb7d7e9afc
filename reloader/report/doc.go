// Package report publishes the outcome of reloads: Kubernetes events on the
// workloads, metrics, and alerts. Its metrics also count the steps before a
// reload.
//
// Reporting never blocks or fails a reload. Events go through client-go's bounded
// queue and alerts through that of package alert; metrics are counters. The
// package handles names and reasons, never the content of a source.
package report
