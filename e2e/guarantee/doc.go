// Package guarantee shows that no change is lost and none rolled out twice: it
// runs the built product on a real control plane and kills, freezes, cuts off
// and deceives it, and its API server and etcd too. What has come of that is
// judged by package history, from what the API server has stored and from
// nothing that the product says.
//
// Its tests take about five minutes on 2 cores. With RELOADER_ROUNDS=full, which
// make guarantee sets, they do everything far more often, and leave out none of
// the cases of which a few are drawn else. docs/guarantees.md says which promise
// each of them shows.
//
// Every test prints a seed. RELOADER_SEED gives it again; what the machine does
// at the same time is drawn anew, so the same seed makes the same decisions, not
// the same run. RELOADER_SOAK is how long the soak takes (default: see
// rounds_test.go); make soak takes 30 minutes.
// RELOADER_PROGRAM is the program to test in place of this checkout's, such as
// one with a mutation that a test should find.
//
// What judges can be wrong, too: history_test.go plays an engine that does
// everything wrong and holds that it is found, and package fault's own tests hold
// that what it injects does happen.
//
// Read next: world_test.go, the cluster and the engines that a test has.
package guarantee
