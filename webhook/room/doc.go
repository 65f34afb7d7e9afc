// Package room divides memory among requests that are being received or processed,
// so that no sender can exclude another.
//
// A request has a Place, which grows with the bytes that arrive. Memory goes to the
// waiting address that holds the least. If none is free, the address that holds the
// most loses its oldest request that is still being received, provided that it
// would still have more than the waiting address. So a single address may use all
// memory, two addresses get half each while both need it, and a slow sender loses a
// place of its own.
//
// The package counts bytes per address. Package webhook reads the bodies and decides
// what a byte costs.
//
//	Enter ──> receiving ──Grow──> receiving ──Settle──> settled ──> Leave
//	              └──────── evicted ───────┘
//
// A settled place is never evicted: its processing does not depend on the sender.
package room
