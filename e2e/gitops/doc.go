// Package gitops compares the workloads of a cluster that the product is
// installed on with their manifests, as GitOps tools do: by the code of Argo
// CD's engine and of Flux. An unchanged manifest must not differ, and applying
// it again must start no rollout.
//
// It is a module of its own: what the tools require is none of the product's.
package gitops
