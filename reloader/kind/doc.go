// Package kind knows the workload kinds: how each is decoded, where its pod
// template is, which generation the API server will give it, and which patch
// reloads it. One file per kind; what the kinds share is in template.go.
//
// It does no I/O. Who sends the patches is package engine; who decides that
// there is something to send is package policy.
package kind
