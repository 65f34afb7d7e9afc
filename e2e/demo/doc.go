// Command demo shows the product at work on a real control plane: it starts
// one on this machine, installs the chart, edits a ConfigMap and a Secret, and
// follows each edit to the end of its rollout.
//
// It is a check, too: every step looks at what came of it, and the exit status
// is 1 if that is not what the step says. The steps are in steps.go, what they
// print goes through screen.go.
package main
