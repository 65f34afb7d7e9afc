// Package receiver posts to an external HTTP endpoint: that of alerts, or that of
// --webhook-url.
//
// It posts once and returns the result. The caller decides whether and when to
// retry. Such URLs are often secrets themselves, so errors and String contain only
// their scheme and host.
package receiver
