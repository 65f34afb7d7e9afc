// Package scenario shows on a real control plane what the installed product
// does: the chart, two Deployments, two ServiceAccounts under their real RBAC,
// and the program built with the race detector.
//
// All tests share one cluster and one release, and have a namespace each. A
// test says which chart values it needs; the release is upgraded when they
// differ from those of the test before. What the product costs the API server
// is counted in the API server's audit log. TestMain ends the run with a look
// through everything the product's processes wrote, for races and panics.
package scenario
