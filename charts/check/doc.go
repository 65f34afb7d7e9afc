// Check looks at the chart with the tools that people use for charts: helm lint,
// the suites of helm-unittest, and kubeconform on what is rendered and shipped.
//
//	go run ./charts/check -unittest bin/helm-unittest -kubeconform bin/kubeconform
//
// Nothing is asked of a cluster or downloaded as it runs: the schemas of
// Kubernetes come from the module that the local cluster is built from, those of
// others from their CustomResourceDefinitions in testdata.
package main
