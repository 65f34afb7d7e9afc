// Package certs keeps the serving certificate of an admission webhook: it
// makes or adopts one, serves the newest valid one, renews it in time, and
// publishes its certificate authority (CA) to the API server.
//
// Everything goes through the API: the certificate lives in one Secret that
// exists already (empty, to begin with), and its CA is written into the webhook
// configurations that name the service. Nothing is mounted, so a rotation needs
// no restart and takes effect as soon as the watch tells of it.
//
// # Who owns the Secret
//
// A Secret with a CA key (KeyCAKey), or with nothing in it, is kept by this
// package: certificate and CA are made and renewed in it, when two thirds of
// their lives are over. A Secret that has a certificate but no CA key, or that
// bears the name of a Certificate of cert-manager, belongs to somebody else. It
// is served and its ca.crt is published, and it is never written.
//
// Whoever knows beforehand that others do the work says so: with
// Options.FilledByOthers nothing is ever put into the Secret, and with
// Options.PublishedByOthers nothing into the configurations, as where
// cert-manager's injector does it.
//
// # Several replicas
//
// There is no leader. Each replica does the same work, and every write is bound
// to the resourceVersion that it was decided on. Who loses reads again and takes
// what the winner wrote. Replicas agree on the time, too: with a ServerClock it is
// the API server's, so that one whose clock is years ahead renews nothing.
//
// # Order
//
// A leaf that a new CA has signed is served only once every configuration
// trusts that CA, and has done so for a moment, since API servers hear of it
// later than the one who wrote it; until then the leaf before it is served. A
// bundle therefore holds the CA before the present one for as long as a leaf of
// it may be in use. The same order holds for pairs that others make.
//
// Start reading at Keeper. The package knows nothing of what the webhook does.
package certs
