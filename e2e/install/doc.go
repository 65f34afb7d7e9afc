// Package install puts the product on a local cluster as a user would: the
// program is built from this checkout, the chart is installed with Helm, and
// its pods run under the chart's own ServiceAccounts.
//
// Build comes first, because the cluster has to know the program that stands
// for Image. It owns nothing that runs: the processes are the cluster's.
package install
