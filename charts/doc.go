// Package charts holds what is shipped around the program, and the tests of it:
// reloader is the Helm chart. There is no Go code here but these tests, which
// render the chart with the real helm and read the Dockerfile at the root.
//
// The installed chart is tested end to end, in e2e.
package charts
