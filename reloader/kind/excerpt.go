package kind

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/excerpt"
	"k8s-reloader/reloader/reference"
)

const (
	// maxExcerpt is what is taken of one workload at most, in bytes of memory.
	// It is room for more references than a record may hold, several times over.
	maxExcerpt = 4 << 20
	// keyCost is what an annotation or a label takes besides its text.
	keyCost = 200
)

// Raw are parts of a workload's JSON as they stand. They are nil where there
// are none.
type Raw struct {
	// Template is the pod template; nil if it is borrowed.
	Template []byte
	// Annotations and Spec are set by Excerpt only.
	Annotations []byte
	Spec        []byte
}

// Excerpt reads of the JSON of one object what admission uses: metadata without
// annotations and labels that keys does not take, and of the spec what names
// sources. Whatever the JSON, the manifest takes a few MiB of memory at most.
// The JSON is not copied: Manifest.Raw leads into it.
//
// What stands in the manifest is what Decode finds, but less of it. The
// template is therefore not the one to compare or hash, Raw.Template is. The
// error never quotes the input.
func (k Kind) Excerpt(raw []byte, keys func(key []byte) bool) (*Manifest, error) {
	taken, err := excerpt.Take(raw, k.fields(keys), maxExcerpt)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", k.Name, err)
	}
	m, err := k.Decode(taken.JSON)
	if err != nil {
		return nil, err
	}
	m.Raw = Raw{
		Annotations: taken.Kept["metadata.annotations"],
		Spec:        taken.Kept["spec"],
	}
	if !m.Borrows {
		m.Raw.Template = taken.Kept[m.TemplatePath]
	}
	return m, nil
}

// fields are what Excerpt takes.
func (k Kind) fields(keys func(key []byte) bool) excerpt.Field {
	template := excerpt.Kept(excerpt.Object("template",
		excerpt.Object("metadata",
			excerpt.Map("labels", keyCost, keys),
			excerpt.Map("annotations", keyCost, keys),
		),
		excerpt.Object("spec", reference.Fields()...),
	))
	spec := []excerpt.Member{template}
	switch k.Name { //nolint:exhaustive // the others have nothing else that matters
	case reloader.CronJob:
		spec = []excerpt.Member{excerpt.Object("jobTemplate", excerpt.Object("spec", template))}
	case reloader.Rollout:
		spec = append(spec, excerpt.Object("workloadRef",
			excerpt.Scalar("apiVersion"), excerpt.Scalar("kind"), excerpt.Scalar("name")))
	case reloader.StatefulSet, reloader.DaemonSet:
		spec = append(spec, excerpt.Object("updateStrategy", excerpt.Scalar("type")))
	}
	return excerpt.Field{Members: []excerpt.Member{
		excerpt.Scalar("apiVersion"),
		excerpt.Scalar("kind"),
		excerpt.Object("metadata",
			excerpt.Scalar("name"),
			excerpt.Scalar("namespace"),
			excerpt.Scalar("uid"),
			excerpt.Scalar("generation"),
			excerpt.Map("labels", keyCost, keys),
			excerpt.Kept(excerpt.Map("annotations", keyCost, keys)),
		),
		excerpt.Kept(excerpt.Object("spec", spec...)),
	}}
}

// Generation returns the metadata.generation that the API server will give to
// updated when it replaces old, both as Excerpt returns them and as admission
// sees them; old is nil on create. An annotation with the key except does not
// count.
//
// See PrepareForCreate and PrepareForUpdate of the kinds in
// k8s.io/kubernetes/pkg/registry/{apps,batch}; a custom resource follows
// apiextensions-apiserver/pkg/registry/customresource, and OpenShift's
// DeploymentConfig does the same. They compare objects, and what is compared
// here are the texts that they are sent as: those of one API server differ
// where the objects do, but for quantities.
func (k Kind) Generation(old, updated *Manifest, except string) int64 {
	if old == nil {
		return 1
	}
	spec := excerpt.Comparison{}
	if !k.custom {
		spec = excerpt.Comparison{Loose: true, Same: sameQuantity}
	}
	if !spec.Equal(old.Raw.Spec, updated.Raw.Spec) {
		return old.Meta.Generation + 1
	}
	annotations := excerpt.Comparison{Except: except}
	if k.annotationsCount && !annotations.Equal(orEmpty(old.Raw.Annotations), orEmpty(updated.Raw.Annotations)) {
		return old.Meta.Generation + 1
	}
	return old.Meta.Generation
}

// orEmpty takes no annotations for an empty set of them.
func orEmpty(object []byte) []byte {
	if object == nil {
		return []byte("{}")
	}
	return object
}

// sameQuantity reports whether two strings are one quantity, where a pod
// template has quantities: 1Gi is 1073741824.
func sameQuantity(outer, name string, a, b []byte) bool {
	switch {
	case outer == "limits", outer == "requests", outer == "overhead", name == "sizeLimit", name == "divisor":
	default:
		return false
	}
	if len(a) > maxQuantity || len(b) > maxQuantity {
		return false
	}
	qa, errA := resource.ParseQuantity(string(a))
	qb, errB := resource.ParseQuantity(string(b))
	return errA == nil && errB == nil && qa.Cmp(qb) == 0
}

// maxQuantity is how long a quantity is at most.
const maxQuantity = 64
