// Package leader holds the lease that lets one engine of several write.
//
// It wraps client-go's leader election and adds what that leaves to its user:
// the leader's work has ended before the lease is released, and every write
// can have a deadline after which another leader may have begun. It has a
// client of its own, so that a busy engine cannot lose the lease.
package leader
