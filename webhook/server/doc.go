// Package server is the HTTPS server of the webhook: listener, TLS, readiness, and a
// shutdown that loses no request.
//
// An API server keeps a few connections open for a long time, and learns late that
// a pod is terminating. So the shutdown has three steps. The server reports that it
// is not ready, and keeps serving. Every answer asks the client to open a new
// connection, which the Service routes to another pod once it is updated. After
// Options.Linger the server closes the remaining connections, when all requests in
// progress have been answered.
//
// Any client may open connections. Their number and the memory of each are bounded;
// at the limit, the address with the most connections loses one (connections.go).
//
// For the handlers see package webhook.
package server
