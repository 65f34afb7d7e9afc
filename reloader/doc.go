// Package reloader holds the words of the product as types: workloads,
// sources, references, problems, reasons, decisions and outcomes. It has no
// behaviour beyond printing them, and everything else is built on it.
//
// # The map
//
// The packages below it, in the order in which a change travels through them:
//
//   - reference: pod template -> references
//   - policy: annotations and flags -> policy, problems, decisions
//   - record: what admission knows of a workload, written on the workload
//   - fingerprint: content of a source -> keyed digest
//   - scope: what is watched
//   - index: source <-> workloads, in memory
//   - kind: one file per workload kind: where its template is, how it is reloaded
//   - engine: watches -> index -> queues -> reloads
//   - checkpoint: fingerprints kept across restarts and leaders
//   - leader: the lease that lets one engine of several write
//   - report: outcomes -> events, metrics and alerts
//   - alert: a bounded queue of messages to a chat
//   - receiver: one POST to an external HTTP endpoint
//   - metainfo: what runs, in a ConfigMap for tools
//   - api: health, metrics and profiles over HTTP
//
// reference, policy, record, fingerprint and scope are pure: same input, same
// output, no I/O, no clock, no environment. index is in memory and does no I/O
// either.
// The fence test beside this file holds that against the import graph.
//
// Admission lives in the module's webhook package, its certificates in certs.
package reloader
