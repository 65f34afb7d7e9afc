package reloader

// SourceKind is the Kubernetes kind of something that workloads depend on.
type SourceKind string

// The source kinds.
const (
	ConfigMap           SourceKind = "ConfigMap"
	Secret              SourceKind = "Secret"
	SecretProviderClass SourceKind = "SecretProviderClass"
)

// SourceKinds returns every source kind, in a fixed order.
func SourceKinds() []SourceKind {
	return []SourceKind{ConfigMap, Secret, SecretProviderClass}
}

// ParseSourceKind returns the source kind of that name. It reports false for
// every other text: what an annotation names is a kind only if it is one of
// SourceKinds.
func ParseSourceKind(name string) (kind SourceKind, ok bool) {
	switch kind = SourceKind(name); kind {
	case ConfigMap, Secret, SecretProviderClass:
		return kind, true
	}
	return "", false
}

// Source names one source of the cluster. It is comparable and serves as a
// key of queues and maps.
type Source struct {
	Kind      SourceKind
	Namespace string
	Name      string
}

// String returns "Kind namespace/name".
func (s Source) String() string {
	return string(s.Kind) + " " + s.Namespace + "/" + s.Name
}
