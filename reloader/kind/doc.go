// Package kind knows the workload kinds: how each is decoded, where its pod
// template is, which generation the API server will give it, and what is written
// to reload it: a patch (patch.go), a Job that a CronJob starts (cronjob.go), or
// a Job that takes the place of another (job.go), by way of a carrier
// (carrier.go; jobcarrier.go, those of before). One file per kind; the marks that all of them leave are in
// template.go, what custom resources share in custom.go.
//
// It does no I/O. Who sends the requests is package engine; who decides that
// there is something to send is package policy.
package kind
