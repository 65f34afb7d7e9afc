package reloader

// How is the way in which a workload's pod template uses a source.
type How string

// The ways of using a source. Auto-reload follows the first group only; the
// others are recorded, and followed when the settings ask for it.
const (
	HowEnv       How = "env"       // env[].valueFrom
	HowEnvFrom   How = "envFrom"   // envFrom[]
	HowVolume    How = "volume"    // a configMap or secret volume
	HowProjected How = "projected" // a source of a projected volume
	HowCSI       How = "csi"       // a CSI volume's secretProviderClass

	HowImagePull    How = "imagePull"    // imagePullSecrets[]
	HowNodePublish  How = "nodePublish"  // a CSI volume's nodePublishSecretRef
	HowVolumePlugin How = "volumePlugin" // the secretRef of another volume type
)

// Followed reports whether auto-reload follows references of this kind
// without being asked to: the pod's processes see the content.
func (h How) Followed() bool {
	switch h {
	case HowEnv, HowEnvFrom, HowVolume, HowProjected, HowCSI:
		return true
	case HowImagePull, HowNodePublish, HowVolumePlugin:
		return false
	}
	return false
}

// Reference is one use of a source by a workload's pod template. The source
// is in the workload's own namespace.
type Reference struct {
	Kind SourceKind
	Name string
	// Container that uses the source; empty if none does (a volume that no
	// container mounts, a pull secret).
	Container string
	// Init is true if Container is an init container (sidecars included) or
	// an ephemeral one: a container that does not carry the reload mark.
	Init bool
	How  How
	// Keys of the source that are used, sorted; none means all of them.
	Keys []string
	// Optional is true if the pod starts without the source or the keys.
	Optional bool
}
