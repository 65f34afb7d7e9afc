package annotation

import (
	"iter"

	"k8s-reloader/reloader"
)

// Keys are the names of the annotations. Flags override some of them. Keys is
// comparable.
//
// An index record carries a digest of the JSON of Keys, and one with another
// digest is not trusted. A field on which no record depends is therefore left
// out of the JSON (`json:"-"`): otherwise an upgrade that adds it would have every
// workload of the cluster read once.
type Keys struct {
	Auto                       string
	ConfigMapAuto              string
	SecretAuto                 string
	SecretProviderClassAuto    string
	ConfigMapNamed             string
	SecretNamed                string
	SecretProviderClassNamed   string
	ConfigMapExclude           string
	SecretExclude              string
	SecretProviderClassExclude string
	Search                     string
	Match                      string
	Ignore                     string
	RolloutStrategy            string
	CoalesceWindow             string
	PausePeriod                string
	PausedAt                   string
	LastReloadedFrom           string
	Index                      string
}

// DefaultKeys returns the names that manifests written for Reloader 1 use.
func DefaultKeys() Keys {
	var k Keys
	for _, r := range table(&k) {
		*r.key = r.name
	}
	return k
}

// All describes every annotation, in a fixed order.
func (k Keys) All() iter.Seq[Annotation] {
	return func(yield func(Annotation) bool) {
		for _, r := range table(&k) {
			if !yield(Annotation{Key: *r.key, Places: r.places, Role: r.role, Source: r.source}) {
				return
			}
		}
	}
}

// On returns the keys that users write on that place, in the order of All.
func (k Keys) On(p Place) []string {
	var keys []string
	for a := range k.All() {
		if a.On(p) {
			keys = append(keys, a.Key)
		}
	}
	return keys
}

// Flags returns the flags that rename annotations of k, in the order of All.
func (k *Keys) Flags() []Flag {
	var flags []Flag
	for _, r := range table(k) {
		if r.flag != "" {
			flags = append(flags, Flag{Name: r.flag, Usage: r.usage, Key: r.key, Default: r.name})
		}
	}
	return flags
}

// TypedAuto returns the key of the auto annotation for one kind of source.
func (k Keys) TypedAuto(kind reloader.SourceKind) string {
	switch kind {
	case reloader.ConfigMap:
		return k.ConfigMapAuto
	case reloader.Secret:
		return k.SecretAuto
	case reloader.SecretProviderClass:
		return k.SecretProviderClassAuto
	}
	return ""
}

// Named returns the key of the annotation that lists sources of one kind.
func (k Keys) Named(kind reloader.SourceKind) string {
	switch kind {
	case reloader.ConfigMap:
		return k.ConfigMapNamed
	case reloader.Secret:
		return k.SecretNamed
	case reloader.SecretProviderClass:
		return k.SecretProviderClassNamed
	}
	return ""
}

// Exclude returns the key of the annotation that excludes sources of one kind.
func (k Keys) Exclude(kind reloader.SourceKind) string {
	switch kind {
	case reloader.ConfigMap:
		return k.ConfigMapExclude
	case reloader.Secret:
		return k.SecretExclude
	case reloader.SecretProviderClass:
		return k.SecretProviderClassExclude
	}
	return ""
}

// TemplateSubset returns the annotations of a pod template that users write and
// policy reads. It is nil if there are none. The map is not kept.
func (k Keys) TemplateSubset(template map[string]string) map[string]string {
	var subset map[string]string
	for a := range k.All() {
		value, ok := template[a.Key]
		if !ok || !a.On(Template) {
			continue
		}
		if subset == nil {
			subset = make(map[string]string)
		}
		subset[a.Key] = value
	}
	return subset
}
