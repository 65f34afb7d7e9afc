package engine

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/record"
)

// An index record is an annotation, and annotations are copied: with manifests
// that are exported and edited, from cluster to cluster, by restores of backups.
// What cannot be copied is the UID. A record from an update has it. At a creation
// there is none yet when admission writes the record, so that managedFields have to
// show that admission has, and not the request.

// trusted decodes an index record and returns it if it was made for the state
// in which the workload is.
func trusted(text string, meta metav1.Object, keys annotation.Keys) (record.Record, error) {
	rec, err := record.Decode(text)
	if err != nil {
		return record.Record{}, err
	}
	if rec.UID == "" && !madeAtCreation(meta, keys.Index) {
		return rec, record.MisfitUID
	}
	return rec, rec.Fits(record.Identity{
		Namespace:  meta.GetNamespace(),
		Name:       meta.GetName(),
		UID:        string(meta.GetUID()),
		Generation: meta.GetGeneration(),
	}, keys)
}

// bindRecord gives a record without UID the one of its workload, or takes its text
// away if managedFields do not show that it was made for it. After that they are
// not needed.
func bindRecord(meta *metav1.PartialObjectMetadata, key string) {
	text := meta.Annotations[key]
	bound, unbound := record.Bind(text, string(meta.UID))
	// One that is ahead is known by its text; it does not fit.
	if !unbound || record.Ahead(text, meta.Generation) {
		return
	}
	if !madeAtCreation(meta, key) {
		bound = ""
	}
	meta.Annotations[key] = bound
}

// admissionTime is how much earlier than creationTimestamp the entry of the creation
// in managedFields may be: it is made before admission, and both are whole seconds.
// A creation that takes longer costs a read.
const admissionTime = time.Second

// madeAtCreation reports whether managedFields show that an annotation was added by
// admission when the object was created, or later. The API server notes there which
// manager has written a field, and no manager for what a webhook adds. Entries that are
// older than the object belong to another one, from which a restore has copied them.
// Without an entry for spec they have been emptied since the creation.
func madeAtCreation(meta metav1.Object, key string) bool {
	created := meta.GetCreationTimestamp().Add(-admissionTime)
	specified := false
	for _, f := range meta.GetManagedFields() {
		if f.Time == nil || f.Time.Time.Before(created) {
			return false
		}
		if f.FieldsV1 == nil {
			continue
		}
		fields := f.FieldsV1.GetRawString()
		// Of Jobs that take the place of others we write the record ourselves.
		if f.Manager != FieldManager && strings.Contains(fields, `"f:`+key+`"`) {
			return false
		}
		specified = specified || f.Subresource == "" && strings.Contains(fields, `"f:spec"`)
	}
	return specified
}

// trusts reports whether a record was made for the state in which the workload is.
func (in *intake) trusts(text string, meta metav1.Object) bool {
	_, err := trusted(text, meta, in.settings.Keys)
	return err == nil
}
