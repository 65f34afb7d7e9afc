package engine

import (
	"hash/maphash"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// writes are hashes of what managedFields tell of the writes to a workload: of
// those to the object itself, and of those to its subresource scale.
type writes struct {
	object, scale uint64
}

func (in *intake) writesOf(meta metav1.Object) writes {
	var object, scale maphash.Hash
	object.SetSeed(in.seed)
	scale.SetSeed(in.seed)
	for _, f := range meta.GetManagedFields() {
		h := &object
		switch f.Subresource {
		case "":
		case "scale":
			h = &scale
		default:
			continue
		}
		maphash.WriteComparable(h, f.Manager)
		if f.Time != nil {
			maphash.WriteComparable(h, f.Time.Unix())
		}
		if f.FieldsV1 != nil {
			_, _ = h.WriteString(f.FieldsV1.GetRawString())
		}
	}
	return writes{object.Sum64(), scale.Sum64()}
}

// scaled reports whether the one generation since before was made by a write to
// the subresource scale, which changes no template: an autoscaler makes one
// after another, and admission sees none of them.
func scaled(t *tracked, generation int64, now writes) bool {
	return t.resolved && generation == t.generation+1 &&
		t.writes.object == now.object && t.writes.scale != now.scale
}
