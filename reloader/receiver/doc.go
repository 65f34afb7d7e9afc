// Package receiver posts to an HTTP endpoint of somebody else's: the receiver
// of alerts, or of what --webhook-url asks for.
//
// It posts once and says what came of it. Whether and when to try again is the
// caller's to decide. URLs of such endpoints are often secrets themselves, so
// that no error or String names more of them than scheme and host.
package receiver
