package kind

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
)

// carrierAnnotation makes a Job a carrier. Its value is a note as JSON.
const carrierAnnotation = "reloader.stakater.com/carrier"

// note is what a carrier tells beside what it carries.
type note struct {
	// Name and UID of the Job that is replaced.
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
	// Ending is true from right before that one is deleted.
	Ending bool `json:"ending,omitempty"`
	// Gone is when it was first seen to be gone.
	Gone *metav1.MicroTime `json:"gone,omitempty"`
	// Suspend is the field that the replacement has.
	Suspend *bool `json:"suspend,omitempty"`
	// Controller is the owner that controls the replacement.
	Controller types.UID        `json:"controller,omitempty"`
	Sources    []reloadedSource `json:"sources"`
}

// reloadedSource names a source that changed.
type reloadedSource struct {
	Kind reloader.SourceKind `json:"kind"`
	Name string              `json:"name"`
}

// Carrier is a Job that never starts and holds the one that is to take the
// place of another. It is created before that one is deleted, so that whatever
// dies in between, nothing is lost; and as it is created for real, whoever
// would refuse the replacement refuses the carrier, and nothing has happened.
type Carrier struct {
	object *batchv1.Job
	note   note
}

// IsCarrier reports whether a Job is one, by its metadata alone.
func IsCarrier(meta metav1.Object) bool {
	_, ok := meta.GetAnnotations()[carrierAnnotation]
	return ok
}

// NewCarrier returns the Job that carries the replacement of the Job m. It has
// the same owners, to be collected with them, but none that controls it, or a
// CronJob would count it. There is one name for each Job that is replaced.
func NewCarrier(m *Manifest, c Change, replacement *batchv1.Job) (*batchv1.Job, error) {
	n := note{Name: m.Meta.Name, UID: m.Meta.UID, Suspend: replacement.Spec.Suspend}
	for _, s := range c.Sources() {
		n.Sources = append(n.Sources, reloadedSource{s.Kind, s.Name})
	}
	digest := sha256.Sum256([]byte(m.Meta.UID))
	o := anew(replacement, jobName(m.Meta.Name, hex.EncodeToString(digest[:5]), &replacement.Spec))
	for i := range o.OwnerReferences {
		owner := &o.OwnerReferences[i]
		if ptr.Deref(owner.Controller, false) {
			n.Controller = owner.UID
		}
		owner.Controller = nil
	}
	o.Spec.Suspend = new(true)
	text, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", carrierAnnotation, err)
	}
	o.Annotations[carrierAnnotation] = string(text)
	return o, nil
}

// CarrierOf looks into a carrier. It reports false if the Job m is none, or not
// as NewCarrier makes them.
func CarrierOf(m *Manifest) (Carrier, bool) {
	o, ok := m.object.(*batchv1.Job)
	if !ok {
		return Carrier{}, false
	}
	n, ok := parseNote(o.Annotations[carrierAnnotation])
	return Carrier{object: o, note: n}, ok
}

// maxNote is what the API server allows all annotations of an object.
const maxNote = 256 << 10

// parseNote reads a note, which anybody can have written who may create Jobs. It
// reports false for what NewCarrier cannot have made: unknown kinds, and names
// that no object has.
func parseNote(text string) (n note, ok bool) {
	if len(text) > maxNote || json.Unmarshal([]byte(text), &n) != nil {
		return note{}, false
	}
	if n.UID == "" || !canExist(n.Name) || len(n.Sources) == 0 {
		return note{}, false
	}
	for _, s := range n.Sources {
		if _, known := reloader.ParseSourceKind(string(s.Kind)); !known || !canExist(s.Name) {
			return note{}, false
		}
	}
	return n, true
}

// canExist reports whether the API server takes an object of that name.
func canExist(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }

// Workload is the Job that is replaced, Replaces its UID.
func (c Carrier) Workload() reloader.Workload {
	return reloader.Workload{Kind: reloader.Job, Namespace: c.object.Namespace, Name: c.note.Name}
}

// Replaces is the UID of the Job that is replaced.
func (c Carrier) Replaces() types.UID { return c.note.UID }

// Ending reports whether the deletion of the Job that is replaced has been
// announced: if that one is gone without it, somebody else wanted it gone.
func (c Carrier) Ending() bool { return c.note.Ending }

// Gone is when the Job that is replaced was first seen to be gone; zero if that
// has not been announced.
func (c Carrier) Gone() time.Time {
	if c.note.Gone == nil {
		return time.Time{}
	}
	return c.note.Gone.Time
}

// Sources that changed.
func (c Carrier) Sources() []reloader.Source {
	sources := make([]reloader.Source, len(c.note.Sources))
	for i, s := range c.note.Sources {
		sources[i] = reloader.Source{Kind: s.Kind, Namespace: c.object.Namespace, Name: s.Name}
	}
	return sources
}

// AnnounceEnd returns the patch of the carrier that makes Ending true.
func (c Carrier) AnnounceEnd() (Patch, error) {
	c.note.Ending = true
	return c.announce()
}

// AnnounceGone returns the patch of the carrier that tells since when the old
// Job is Gone.
func (c Carrier) AnnounceGone(at time.Time) (Patch, error) {
	gone := metav1.NewMicroTime(at)
	c.note.Gone = &gone
	return c.announce()
}

func (c Carrier) announce() (Patch, error) {
	text, err := json.Marshal(c.note)
	if err != nil {
		return Patch{}, fmt.Errorf("encode %s: %w", carrierAnnotation, err)
	}
	p := object{Metadata: metadata{UID: c.object.UID, Annotations: map[string]*string{carrierAnnotation: new(string(text))}}}
	return p.encode(types.MergePatchType)
}

// Replacement returns what is carried.
func (c Carrier) Replacement() *batchv1.Job {
	o := anew(c.object, c.note.Name)
	o.Spec.Suspend = c.note.Suspend
	delete(o.Annotations, carrierAnnotation)
	for i := range o.OwnerReferences {
		if o.OwnerReferences[i].UID == c.note.Controller {
			o.OwnerReferences[i].Controller = new(true)
		}
	}
	return o
}
