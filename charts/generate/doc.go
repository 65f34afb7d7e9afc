// Generate writes what is made from the chart: its README, from the comments of
// values.yaml, and the plain manifests, for those who do not use Helm. A test
// says so when they are out of date.
//
//	go run ./charts/generate
//
// It renders with the helm that is built for the local cluster.
package main
