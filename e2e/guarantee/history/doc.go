// Package history keeps what has happened to the workloads and sources of some
// namespaces, one version after the other, and judges by that alone whether a
// change was lost or rolled out twice. It knows nothing of what the product says
// of itself.
//
// The versions come from where the API server keeps them: a watch of its etcd.
// A watch of the API server would not do, because its cache begins anew with
// each restart, and what was written just before would be missing in the story.
// Etcd has every version of every object in one order, whatever happens to its
// readers, and its revisions are the resource versions.
//
// Read next: recorder.go, then judge.go.
package history
