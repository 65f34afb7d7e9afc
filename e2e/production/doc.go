// Package production holds what an administrator fears of an admission webhook:
// that it refuses somebody, misses something, or leaves something behind.
//
// A constant stream of admissions runs (stream_test.go) while the product is
// installed, upgraded, rolled back, restarted, killed, given new certificates by
// itself and by cert-manager, and uninstalled. No request may be refused because
// of it, no workload be reloaded, and no request pass unseen but where
// docs/webhook.md says so. Everything is real: the API server, Helm, the chart
// of the previous commit with its program, and cert-manager's controllers. That
// the stream finds what must not happen when it does is shown by
// stream_itself_test.go.
package production
