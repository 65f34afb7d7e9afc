package binaries

// CertManager is cert-manager, from a module of its own: it wants other versions
// of what the control plane is made of.
func CertManager() Module {
	return Module{
		Dir:   "e2e/cluster/certmanager",
		Tools: []Tool{{Name: "cert-manager", Package: "."}},
	}
}
