// Package binaries builds the programs a local cluster is made of, from Go
// modules and with Go alone, and keeps them in a cache outside the checkout.
//
// A Module is a folder with a go.mod of its own (so that its requirements stay
// out of the product's) and a table of the main packages wanted from it. Build
// compiles what the cache lacks and returns where everything is. Programs that
// the user already has are taken from KUBEBUILDER_ASSETS.
//
// The package does not run anything it built: see package cluster.
package binaries
