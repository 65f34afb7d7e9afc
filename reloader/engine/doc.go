// Package engine turns changes of sources into reloads of the workloads that
// depend on them.
//
// Its parts, in the order in which a change travels:
//
//   - watch.go: metadata-only watches; their handlers do look-ups, no I/O
//     (feeds.go, which there are; watcher.go, discovery.go, refusals.go, what
//     is not served or forbidden; namespaces.go, those that labels select)
//   - parsed.go: what annotations say, worked out under no lock
//   - intake.go: a workload's references, from its index record if that may be
//     trusted (trust.go, ahead.go), else from one read of the workload (resolve.go;
//     listings.go, who waits for which list; scaled.go, what a write to the
//     subresource scale leaves valid)
//   - sources.go: one read of a source that changed, its fingerprint (matching.go,
//     which patterns match it, within a budget per namespace; lifecycle.go, its
//     beginning and end; legacy.go, the marks of Reloader 1)
//   - classes.go: what pods report of a SecretProviderClass (podstatus.go, the
//     reports; rotation.go, which content is the present one; started.go, whose
//     pods have started with it)
//   - ledger.go: which content has reached which workload (account.go, one
//     source; shelf.go, those of a namespace; graves.go, those that are gone;
//     ledger_scope.go, of a namespace that leaves; archive.go, across restarts)
//   - moment.go, recent.go: what came first, a source or its workload
//   - lookback.go: what changed while no engine ran, by times (births.go, since
//     when a pod template is there)
//   - reload.go: one reload per workload (target.go, what it needs; effect.go,
//     the ways of carrying it out; running.go, Jobs of a CronJob; replace.go, Jobs, with exchange.go and
//     carriers.go; jobcarriers.go, of engines before; lenders.go, borrowed
//     templates; call.go, a webhook instead; attempts.go, when the answer is
//     lost; fence.go, when the lease is; marks.go, what it writes; repeat.go and
//     upgrade.go, what an engine before has done already; toolarge.go, a workload
//     that has no room for it)
//   - limits.go, rollouts.go (lines.go), rivals.go, pause.go (pauses.go): who has
//     to wait
//   - queues.go, backoff.go, failures.go, states.go: whose turn it is, and when
//     what has failed is tried again
//   - barrier.go: what a start waits for, and what it goes on without
//   - standby.go: what is queued once an engine that stands by leads
//   - names.go, panics.go: what keeps an object of a stranger from being more than
//     its own failure
//   - byname.go: workloads beyond the memory share of their namespace, which package
//     share counts
//   - faults.go: annotations that cannot be used
//   - tally.go, arrivals.go: what metrics count on the way
//   - verify.go: a slow pass that corrects what trust can miss
//
// engine.go runs them: watches first, then, with the lease if there is one,
// lead.
//
// Queues of keys join them (queues.go): namespaces that join, workloads to
// resolve, sources to read, workloads to reload, carriers of Jobs that are being
// replaced, workloads to be told of faults. Whatever fails goes back to its queue
// and holds up nothing else. client.go reads and writes for them, in the bounds
// of package answer; key.go gets the fingerprint key before all that.
//
// It decides nothing: which changes matter is package policy's to say, how a
// kind is patched package kind's, and who is told package report's.
package engine
