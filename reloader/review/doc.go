// Package review judges one manifest, from its JSON to the list of problems. The
// webhook calls it for requests and `reloader lint` for files, so that both report
// the same.
//
// It owns which kinds are judged and which fields of them are decoded: workloads in
// full, sources by their metadata only, so that the content of a Secret is never
// read. The rules are in package policy.
package review
