package annotation

import (
	"strings"

	"k8s-reloader/reloader"
)

// Domain is the DNS domain of the keys that belong to the product, and the
// parent of the typed ones: secret.reloader.stakater.com/auto.
const Domain = "reloader.stakater.com"

// Ours reports whether a key lies in the product's domain, known or not.
func Ours(key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return prefix == Domain || strings.HasSuffix(prefix, "."+Domain)
}

// Place is an object on which an annotation may stand. Places are joined by |.
type Place uint8

// The places.
const (
	Workload Place = 1 << iota // the metadata of a workload
	Template                   // the metadata of its pod template
	Source                     // the metadata of a source
)

// Role is the purpose of an annotation.
type Role uint8

// The roles. Users write all but State.
const (
	// OptIn is a switch that makes changes reload a workload.
	OptIn Role = iota + 1
	// List holds names or patterns of sources.
	List
	// Setting holds a value that says how or when a workload is reloaded. Like
	// a List, and unlike a switch, it can hold a value that cannot be used.
	Setting
	// Tag is a switch on a source.
	Tag
	// State is written by Reloader itself.
	State
)

// Annotation describes one annotation.
type Annotation struct {
	// Key is the configured name.
	Key string
	// Places on which the annotation has an effect.
	Places Place
	Role   Role
	// Source is the only kind of source that the annotation concerns; empty for
	// all kinds.
	Source reloader.SourceKind
}

// On reports whether users write the annotation on that place.
func (a Annotation) On(p Place) bool { return a.Places&p != 0 && a.Role != State }

// Flag is a command line flag that renames an annotation.
type Flag struct {
	Name string
	// Usage completes the sentence "annotation that ...".
	Usage string
	// Key is the field of Keys that the flag sets.
	Key *string
	// Default is the key without the flag.
	Default string
}
