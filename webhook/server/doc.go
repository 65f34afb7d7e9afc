// Package server is how the webhook is reached: it listens, speaks TLS, tells
// whether it is ready, and ends in a way that loses no request.
//
// An API server keeps few connections, each for a long time, and learns late
// that a pod is going. So ending takes three steps: the server says that it is
// not ready, and goes on serving; every answer asks its client to come back on a
// new connection, which leads to another pod as soon as the Service knows; and
// only after Options.Linger does it close what is left, when the requests that
// are being answered have been.
//
// Whoever reaches it may open connections. Their number is bounded, and so is
// what each holds in memory; the address with the most gives way (connections.go).
//
// The package knows nothing of admission: see package webhook for the handlers.
package server
