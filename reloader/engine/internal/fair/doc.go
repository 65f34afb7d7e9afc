// Package fair is the order in which a work queue hands out its keys: groups take
// turns, and within a group the first come is the first served. No group has more
// than its share of the workers.
//
// The engine groups keys by namespace, so that one with thousands of keys delays
// another one by as many keys as there are namespaces, and not by thousands.
//
// It decides about order only. What a key is, when it is tried again and how many
// workers there are is the engine's to know; that a key is in a queue once, and in
// work once, is k8s.io/client-go/util/workqueue's.
package fair
