// Package review judges one manifest, from its JSON to the list of problems.
// The webhook calls it for what is being admitted, `reloader lint` for files,
// so that both say the same.
//
// It owns which kinds are judged and what is decoded of them: workloads in
// full, sources by their metadata only, so that the content of a Secret is
// never looked at. The rules themselves are package policy's.
package review
