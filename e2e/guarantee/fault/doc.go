// Package fault stands between a client and the API server and goes wrong, as
// networks and API servers do: it answers with errors, cuts connections before
// a request is forwarded and after it was carried out, and drops off the
// network for a while. What goes wrong is drawn from a seed. It also counts the
// requests, second by second, and can tell a test the very moment at which one
// passes.
//
// It owns the listener, the certificate it shows and what it does to requests.
// It does not authenticate: the client's credentials are passed on as they are.
// Read next: proxy.go.
package fault
