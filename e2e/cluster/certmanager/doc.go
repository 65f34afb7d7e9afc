// Command certmanager is a cert-manager for the local cluster: the controllers
// and the CA injector of the real one, in one process, over the packages that
// cert-manager itself is made of.
//
// It runs what certificates need that come from self-signed and CA issuers. It
// has no ACME, no other issuers and no webhook of its own, so nothing validates
// a Certificate before it is stored: one may be valid for less than an hour.
// What a cluster needs of CustomResourceDefinitions is in cert-manager's module,
// which this module pins; package e2e/cluster applies them.
package main
