// Package cluster runs a Kubernetes control plane on this machine, for tests,
// the demo and the benchmark: the real etcd, API server, controller manager and
// scheduler, kwok for nodes and for pods that only have to look as if they ran,
// and a pod runner for pods that do run. Nothing but Go is needed: package
// binaries builds the programs once.
//
//	c, err := cluster.Start(ctx, cluster.Options{Log: os.Stderr})
//	if err != nil { ... }
//	defer c.Stop()
//	out, err := c.Kubectl(ctx, "get", "nodes")
//
// What is real: every rollout is made by the real controllers, admission calls
// real webhooks over TLS, RBAC and ServiceAccount tokens are enforced, clients
// verify the API server's certificate. What is not: containers, volumes and the
// pod network. ClusterIPs are loopback addresses (127.96.0.0/16), so that a
// process on this machine can listen on one.
//
// Everything listens on loopback only, on ports that were free, so clusters run
// side by side. No process outlives the one that called Start, however that one
// ends: see package process.
//
// Where to read next: Options; Start in cluster.go; the flags of each component
// in components.go; package podrunner for pods with a real process.
package cluster
