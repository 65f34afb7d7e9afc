// Package webhook is admission: it decodes what is being created or updated,
// writes the index record, judges the annotations, and answers.
//
// Three endpoints, each one readable function:
//
//   - /mutate-workload (mutate.go) writes the record as one annotation on the
//     workload's metadata, and nothing else.
//   - /validate-workload (validate.go) runs after all mutation and answers
//     with warnings or a denial for what the request itself brings in. It also
//     tells when the final template is not the one that was recorded.
//   - /validate-source (validate.go) does the same for sources that carry our
//     keys, from their metadata alone.
//
// All of them go through endpoint (endpoint.go), which holds the promise that
// a fault of ours never blocks anyone: panics and errors become an admission
// with a warning, a count and a log line. What is no review, and what there is
// no room for (arrival.go), gets no answer, which the API server takes for an
// admission, too. A kind that this version does not know is let pass without a
// word.
//
// Whoever reaches the Service may send reviews, so reading one costs a bounded
// amount of memory: package admissionreview finds the objects in it, and
// kind.Kind.Excerpt takes of those what is used.
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
