// Package checkpoint stores, for each source that a workload depends on, the
// fingerprint and resource version that have been rolled out to all its workloads.
// The next engine compares them to find the changes made while none was running.
//
// It owns the storage format and the writes: eight ConfigMaps (shards) in the
// release namespace, each with one binary entry.
// Sources are stored as hashes of their names, 41 bytes each; neither names nor
// content are. It does not decide what has been rolled out, nor who may write:
// the engine does, under its lease. It never creates or deletes a ConfigMap.
//
// The memory of the Store leads and the shards follow, in batches. A checkpoint
// that lags behind does no harm: what it says is not rolled out yet is found on
// the workloads. One that cannot be used costs the changes that were made while
// no engine was running, and nothing else; it is reported, and set aside as a
// whole rather than trusted half.
//
// Read next: store.go for the memory, load.go and flush.go for the two ways to
// the API server, encode.go for the format; the design's section "Nothing lost,
// nothing twice".
package checkpoint
