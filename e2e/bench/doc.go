// Command bench measures the product on the local cluster, each figure beside
// a floor that is measured in the same run: a program that knows the answer
// and does nothing but the work that cannot be left out. Figures of different
// machines, or of a machine that is busy, are comparable by their ratio only.
//
//	go run ./e2e/bench                       everything, about 20 minutes
//	go run ./e2e/bench --only latency        one part
//	go run ./e2e/bench --write docs/benchmarks.md
//
// latency.go, flat.go, takeover.go, start.go and admission.go are the parts;
// world.go fills the cluster, observer.go sees when a template has changed.
package main
