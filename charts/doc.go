// Package charts holds what is shipped around the program, and the tests of it:
// reloader is the Helm chart, whose suites of helm-unittest are in its tests. The
// tests here render it with the real helm, compare it with what the documentation
// says, and read the Dockerfile and the release's workflow at the root.
//
// Below it, check is what make chart runs, and generate writes what is made from
// the chart. testdata holds a stand-in for Stakater's chart and a values file of
// its users'.
//
// The installed chart is tested end to end, in e2e.
package charts
