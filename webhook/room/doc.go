// Package room shares out memory among requests that are being received and
// worked on, so that no sender keeps another out.
//
// A request has a Place, which grows with what arrives. Memory is given to the
// address that holds the least of those that wait. If there is none left, the
// address that holds the most gives up its oldest request that is still being
// received, as long as it would have more than the one that waits. So one
// address alone may have all of it, two have half each while both want it, and
// who sends slowly loses a place of his own.
//
// The package knows bytes and addresses. Reading bodies is package webhook's,
// what a byte costs is, too.
//
//	Enter ──> receiving ──Grow──> receiving ──Settle──> settled ──> Leave
//	              └──────── evicted ───────┘
//
// A place that is settled is not taken away: the work on it does not wait for
// its sender.
package room
