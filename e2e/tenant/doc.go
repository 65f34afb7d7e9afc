// Package tenant attacks the product as installed, with the rights that a tenant
// has: the ClusterRole edit in one namespace, and connections to every pod.
// Meanwhile a well-behaved application in another namespace has its changes
// rolled out, and engine and webhook neither restart nor grow.
//
// attacks_test.go is what the tenant does; each attack is shown by itself in the
// tests that docs/security.md names. Here they come all at once. weight_test.go
// measures the engine among large objects.
package tenant
