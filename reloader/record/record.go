package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/reference"
)

// Version is the version of the records that New makes. Any change of the
// format, or of what goes into References and Template, makes a new one.
//
// Records of version 1 are still read. They differ in Template alone, which was
// a digest of Go types then: the same in one build only. It is compared with
// nothing, and stays as it is until the template changes.
const Version = 2

const firstVersion = 1

// Record is everything that the index needs of one workload.
type Record struct {
	Version int
	// Namespace, Name, UID and Generation are what the record was made for.
	// UID is empty if the workload did not have one yet.
	Namespace  string
	Name       string
	UID        string
	Generation int64
	// Template identifies the pod template among those that the workload has had.
	// In version 2 it is the TemplateHash.
	Template string
	// Container is the first container's name.
	Container string
	// References of the pod template, in the order of reference.Of; nil if
	// there are none.
	References []reloader.Reference
	// Annotations are those of the pod template that policy reads; nil if
	// there are none.
	Annotations map[string]string
	// ByPlace is true if a variable must not be merged into the template, as
	// ByPlace says. Version 1 does not have it.
	ByPlace bool
	// Keys is a digest of the annotation keys that the record was made with.
	Keys string
}

// Identity is one state of one workload: what a record is made for, and what
// it must fit to be trusted.
type Identity struct {
	Namespace  string
	Name       string
	UID        string
	Generation int64
}

// New returns the record of the workload id with the given pod template, which
// it neither changes nor keeps, and its TemplateHash.
func New(id Identity, template *corev1.PodTemplateSpec, hash string, k annotation.Keys) Record {
	return Record{
		Version:     Version,
		Namespace:   id.Namespace,
		Name:        id.Name,
		UID:         id.UID,
		Generation:  id.Generation,
		Template:    hash,
		Container:   reference.FirstContainer(&template.Spec),
		References:  reference.Of(&template.Spec),
		Annotations: k.TemplateSubset(template.Annotations),
		ByPlace:     ByPlace(&template.Spec),
		Keys:        KeysDigest(k),
	}
}

// WithGeneration returns r made for generation g: the record that goes with a
// change which touches nothing that r describes.
func (r Record) WithGeneration(g int64) Record {
	r.Generation = g
	return r
}

// Misfit says what of a record does not fit the workload that carries it. It
// is an error, and the codes are a closed set.
type Misfit string

// The misfits, in the order in which Fits looks for them.
const (
	MisfitVersion    Misfit = "version"
	MisfitNamespace  Misfit = "namespace"
	MisfitName       Misfit = "name"
	MisfitUID        Misfit = "uid"
	MisfitGeneration Misfit = "generation"
	MisfitKeys       Misfit = "keys"
)

var _ error = Misfit("")

// Error returns one line that names the misfit.
func (m Misfit) Error() string {
	return "index record was made for another " + string(m)
}

// Fits returns nil if r was made for exactly the state id, with the annotation
// keys k, and may be trusted; else the first Misfit. A record without a UID was
// made before the workload had one, and fits any.
func (r Record) Fits(id Identity, k annotation.Keys) error {
	switch {
	case !known(r.Version):
		return MisfitVersion
	case r.Namespace != id.Namespace:
		return MisfitNamespace
	case r.Name != id.Name:
		return MisfitName
	case r.UID != "" && r.UID != id.UID:
		return MisfitUID
	case r.Generation != id.Generation:
		return MisfitGeneration
	case r.Keys != KeysDigest(k):
		return MisfitKeys
	}
	return nil
}

// known reports whether records of that version are read and written.
func known(version int) bool { return firstVersion <= version && version <= Version }

// KeysDigest returns a short digest of k, as records carry it. JSON takes in every field, also one
// that is added one day.
func KeysDigest(k annotation.Keys) string {
	// A struct of strings always has a JSON form.
	text, _ := json.Marshal(k)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
