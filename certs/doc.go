// Package certs keeps the serving certificate of an admission webhook: it
// makes or adopts one, serves the newest valid one, renews it in time, and
// publishes its certificate authority (CA) to the API server.
//
// Everything goes through the API: the certificate lives in one Secret that
// exists already (empty, to begin with), and its CA is written into the webhook
// configurations that name the service. Nothing is mounted, so a rotation needs
// no restart and takes effect as soon as the watch reports it.
//
// # Who owns the Secret
//
// A Secret that is empty or has a CA key (KeyCAKey) belongs to this package. It
// creates certificate and CA there, and renews them after two thirds of their
// lifetimes. A Secret that has a certificate but no CA key, or that carries the
// annotation of a cert-manager Certificate, belongs to another controller. Its
// certificate is served and its ca.crt is published, but it is never written.
//
// A user who delegates this work configures it: with Options.FilledByOthers the
// Secret is never written, and with Options.PublishedByOthers the configurations
// are not, for example where cert-manager's injector writes them.
//
// # Several replicas
//
// There is no leader. Each replica does the same work, and every write is bound
// to the resourceVersion that it was decided on. The loser of a
// conflict reads the Secret again and uses the content of the winner. Replicas agree on the time, too: with a ServerClock it is
// the API server's, so that one whose clock is years ahead renews nothing.
//
// # Order
//
// A leaf that a new CA has signed is served only once every configuration
// trusts that CA, and has done so for a moment, since API servers see the change
// later than its writer. Until then the previous leaf is served. Therefore a bundle
// keeps the previous CA for as long as a leaf of it may be in use. The same order
// holds for certificates from other controllers.
//
// Start reading at Keeper.
package certs
