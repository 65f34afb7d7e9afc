// Package webhook is the admission webhook. It decodes the objects that are created
// or updated, writes the index record, judges the annotations, and answers.
//
// Three endpoints, each one readable function:
//
//   - /mutate-workload (mutate.go) writes the record as one annotation on the
//     workload's metadata, and nothing else.
//   - /validate-workload (validate.go) runs after all mutation and answers
//     with warnings or a denial for problems that the request itself introduces.
//     It also warns when the final template is not the one that was recorded.
//   - /validate-source (validate.go) does the same for sources that carry our
//     keys, from their metadata alone.
//
// All of them run inside endpoint (endpoint.go), which guarantees that a fault of
// the webhook never blocks a request: a panic or an error admits the object, with
// a warning, a metric and a log line. A request that is not a review, or for which
// there is no memory (arrival.go), gets an HTTP error, and failurePolicy Ignore
// lets the API server admit the object. Unknown kinds are admitted silently.
//
// Any client that can connect to the Service may send reviews, so reading one takes
// a bounded amount of memory: package admissionreview finds the objects in it, and
// kind.Kind.Excerpt decodes only the fields that are used.
//
// The package reads nothing but the request: no client, no cache, no clock
// beyond measuring itself, no side effects, so a dry run is the same. Nothing
// of an object but its kind, namespace and name is ever logged.
//
// The rules are package policy's, the record is package record's, generations
// are package kind's, memory is package room's. Judging one object is package
// review's, which the lint command shares. Listening and ending are package
// server's, certificates are package certs', the process is cmd/reloader's.
package webhook
