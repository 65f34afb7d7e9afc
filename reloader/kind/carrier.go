package kind

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/pattern"
)

// CarrierLabel is the one label of a carrier, by which it is watched among all
// ControllerRevisions. No other label of the Job is on its carrier, so that
// nothing that selects Jobs by label selects their carriers.
const CarrierLabel = "reloader.stakater.com/carrier"

// carrierValue is the value of CarrierLabel.
const carrierValue = "job"

// CarrierResource is what carriers are.
func CarrierResource() schema.GroupVersionResource {
	return appsv1.SchemeGroupVersion.WithResource("controllerrevisions")
}

// CarrierSelector selects carriers.
func CarrierSelector() string { return CarrierLabel + "=" + carrierValue }

// Step is how far the exchange of a Job is.
type Step string

// The steps, in their order.
const (
	// Held: the carrier holds the new Job, and the old one is as it was.
	Held Step = "held"
	// Taken is in place of Held if the old Job was being deleted for the new one
	// when the carrier was made.
	Taken Step = "taken"
	// Ending: the old Job is about to be deleted, or has been. If it is gone
	// without this, somebody else wanted it gone.
	Ending Step = "ending"
	// Gone: the old Job was seen to be gone.
	Gone Step = "gone"
)

// Carrier is a ControllerRevision that holds the Job that is to take the place of
// another. It is created before that one is deleted, so that whatever dies in
// between, nothing is lost. No controller starts, queues, counts or prunes it.
//
// Its data cannot be changed, and its annotation holds the step and a code over
// everything that matters, made with a key that only engines have: whoever may
// write ControllerRevisions cannot have a Job deleted or created by that. From the
// step Ending on the code covers the carrier's own UID, so that no copy of a
// carrier is one. Before, a copy has no effect: the Job with the UID that it names
// is gone, and was not announced to be.
//
// A Carrier is a value; its methods change nothing of it.
type Carrier struct {
	namespace, name string
	uid             types.UID // empty before it is created
	owners          []metav1.OwnerReference
	data            []byte // load, encoded
	load            load
	job             *batchv1.Job
	step            Step
	gone            time.Time
}

// load is the data of a carrier. The fields are in the order of their names, and
// all are text: whoever decodes the data and encodes it again changes no byte.
type load struct {
	// Job is the new Job in JSON, for people, too:
	// kubectl get controllerrevision NAME -o 'jsonpath={.data.job}'.
	Job string `json:"job,omitempty"`
	// JobGzip is in place of Job if that is large.
	JobGzip  []byte           `json:"jobGzip,omitempty"`
	Replaces types.UID        `json:"replaces"`
	Sources  []reloadedSource `json:"sources"`
}

// reloadedSource names a source that changed.
type reloadedSource struct {
	Kind reloader.SourceKind `json:"kind"`
	Name string              `json:"name"`
}

// state is the annotation of a carrier.
type state struct {
	Step Step              `json:"step"`
	Gone *metav1.MicroTime `json:"gone,omitempty"`
	Code string            `json:"code"`
}

const (
	// compressed is from which size on a Job is held in a form that people
	// cannot read.
	compressed = 512 << 10
	// maxLoad is how much an object can hold: etcd takes requests of 1.5 MiB, of
	// which the metadata need a little.
	maxLoad = 1536<<10 - 16<<10
	// maxJob bounds what a carrier is unpacked to.
	maxJob = 32 << 20
	// maxState bounds the annotation; ours has 150 bytes.
	maxState = 1 << 10
)

var (
	// ErrTooLarge is wrapped by the error of a Job that no object can hold
	// beside its own.
	ErrTooLarge = errors.New("the Job is too large to be kept while it is replaced; make it smaller, or replace it by hand")
	// ErrUntrusted is wrapped by the error of a carrier that no engine with the
	// same key has made as it stands.
	ErrUntrusted = errors.New("not a carrier of this engine")
)

// NewCarrier returns the carrier of the Job that takes the place of the Job m
// because the sources changed. The step is Held or Taken. There is one name for
// each Job that is replaced, and other keys give other names. The carrier has the
// owners of the Job, to be collected with them, but none controls it.
func NewCarrier(key fingerprint.Key, m *Manifest, sources []reloader.Source, replacement *batchv1.Job, step Step) (Carrier, error) {
	if key.IsZero() {
		return Carrier{}, fmt.Errorf("replace Job %s/%s: there is no key", m.Meta.Namespace, m.Meta.Name)
	}
	c := Carrier{
		namespace: m.Meta.Namespace,
		name:      m.Meta.Name + "-" + key.MAC("name", string(m.Meta.UID))[:10],
		owners:    slices.Clone(replacement.OwnerReferences),
		load:      load{Replaces: m.Meta.UID},
		job:       replacement,
		step:      step,
	}
	for i := range c.owners {
		c.owners[i].Controller = nil
	}
	for _, s := range sources {
		c.load.Sources = append(c.load.Sources, reloadedSource{s.Kind, s.Name})
	}
	text, err := json.Marshal(replacement)
	if err != nil {
		return Carrier{}, fmt.Errorf("encode Job %s/%s: %w", m.Meta.Namespace, m.Meta.Name, err)
	}
	if len(text) < compressed {
		c.load.Job = string(text)
	} else if c.load.JobGzip, err = pack(text); err != nil {
		return Carrier{}, fmt.Errorf("pack Job %s/%s: %w", m.Meta.Namespace, m.Meta.Name, err)
	}
	if c.data, err = json.Marshal(c.load); err != nil {
		return Carrier{}, fmt.Errorf("encode the carrier of Job %s/%s: %w", m.Meta.Namespace, m.Meta.Name, err)
	}
	if len(c.data) > maxLoad {
		return Carrier{}, fmt.Errorf("replace Job %s/%s: %w (%d bytes, at most %d)", m.Meta.Namespace, m.Meta.Name, ErrTooLarge, len(c.data), maxLoad)
	}
	return c, nil
}

// OpenCarrier looks into a carrier. The error wraps ErrUntrusted and never quotes
// the object.
func OpenCarrier(key fingerprint.Key, o *appsv1.ControllerRevision) (Carrier, error) {
	c := Carrier{namespace: o.Namespace, name: o.Name, uid: o.UID, owners: o.OwnerReferences}
	var s state
	if text := o.Annotations[CarrierLabel]; len(text) > maxState || json.Unmarshal([]byte(text), &s) != nil {
		return Carrier{}, fmt.Errorf("%w: its annotation cannot be read", ErrUntrusted)
	}
	switch s.Step {
	case Held, Taken, Ending:
	case Gone:
		if s.Gone == nil {
			return Carrier{}, fmt.Errorf("%w: it has no time", ErrUntrusted)
		}
		c.gone = s.Gone.Time
	default:
		return Carrier{}, fmt.Errorf("%w: its step is unknown", ErrUntrusted)
	}
	c.step = s.Step
	// The data are decoded only if the code is right: decoded, a forged text takes a
	// hundred times its length.
	c.data = o.Data.Raw
	if key.IsZero() || !hmac.Equal([]byte(s.Code), []byte(c.code(key))) {
		return Carrier{}, fmt.Errorf("%w: its code was made with another key, or for something else", ErrUntrusted)
	}
	return c.Unpacked()
}

// Packed returns c as far as its data are not decoded, which may take a hundred
// times as much memory. It has no Replacement, Sources and Replaces before
// Unpacked.
func (c Carrier) Packed() Carrier {
	c.load, c.job = load{}, nil
	return c
}

// Unpacked returns c with its data decoded. The error is that of OpenCarrier.
func (c Carrier) Unpacked() (Carrier, error) {
	c.load = load{}
	if json.Unmarshal(c.data, &c.load) != nil {
		return Carrier{}, fmt.Errorf("%w: its data cannot be read", ErrUntrusted)
	}
	if err := c.unpack(); err != nil {
		return Carrier{}, err
	}
	return c, nil
}

// code is the proof that an engine made c as it is.
func (c Carrier) code(key fingerprint.Key) string {
	uid := c.uid
	if c.step == Held || c.step == Taken {
		// It is created with its code, before it has one.
		uid = ""
	}
	return key.MAC("carrier", c.namespace, c.name, string(uid), string(c.step), goneText(c.gone), string(c.data))
}

// goneText has the precision of the annotation.
func goneText(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(metav1.RFC3339Micro)
}

// unpack decodes the Job of a carrier whose code is right.
func (c *Carrier) unpack() error {
	text := []byte(c.load.Job)
	if len(c.load.JobGzip) > 0 {
		r, err := gzip.NewReader(bytes.NewReader(c.load.JobGzip))
		if err == nil {
			text, err = io.ReadAll(io.LimitReader(r, maxJob))
		}
		if err != nil {
			return fmt.Errorf("%w: its Job cannot be unpacked", ErrUntrusted)
		}
	}
	c.job = new(batchv1.Job)
	if json.Unmarshal(text, c.job) != nil || c.job.Namespace != c.namespace || !pattern.ValidName(c.job.Name) {
		return fmt.Errorf("%w: its Job cannot be read", ErrUntrusted)
	}
	for _, s := range c.load.Sources {
		if _, known := reloader.ParseSourceKind(string(s.Kind)); !known || !pattern.ValidName(s.Name) {
			return fmt.Errorf("%w: a source is unknown", ErrUntrusted)
		}
	}
	return nil
}

func pack(text []byte) ([]byte, error) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// Object is what to create.
func (c Carrier) Object(key fingerprint.Key) (*appsv1.ControllerRevision, error) {
	text, err := c.annotation(key)
	if err != nil {
		return nil, err
	}
	return &appsv1.ControllerRevision{
		TypeMeta: metav1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "ControllerRevision"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       c.namespace,
			Name:            c.name,
			Labels:          map[string]string{CarrierLabel: carrierValue},
			Annotations:     map[string]string{CarrierLabel: text},
			OwnerReferences: c.owners,
		},
		Data: runtime.RawExtension{Raw: c.data},
	}, nil
}

func (c Carrier) annotation(key fingerprint.Key) (string, error) {
	s := state{Step: c.step, Code: c.code(key)}
	if !c.gone.IsZero() {
		s.Gone = new(metav1.NewMicroTime(c.gone))
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", CarrierLabel, err)
	}
	return string(text), nil
}

// Created returns c with the UID that it was created with.
func (c Carrier) Created(uid types.UID) Carrier {
	c.uid = uid
	return c
}

// At returns c at a later step; at is the time, which Gone remembers.
func (c Carrier) At(step Step, at time.Time) Carrier {
	c.step = step
	if step == Gone {
		c.gone = at.Truncate(time.Microsecond)
	}
	return c
}

// Announce returns the patch that tells the carrier's step.
func (c Carrier) Announce(key fingerprint.Key) (Patch, error) {
	text, err := c.annotation(key)
	if err != nil {
		return Patch{}, err
	}
	p := object{Metadata: metadata{UID: c.uid, Annotations: map[string]*string{CarrierLabel: &text}}}
	return p.encode(types.MergePatchType)
}

// Namespace of the carrier, which is that of its Jobs.
func (c Carrier) Namespace() string { return c.namespace }

// Name of the carrier.
func (c Carrier) Name() string { return c.name }

// UID of the carrier; empty before it was created.
func (c Carrier) UID() types.UID { return c.uid }

// Workload is the Job that is replaced.
func (c Carrier) Workload() reloader.Workload {
	return reloader.Workload{Kind: reloader.Job, Namespace: c.namespace, Name: c.job.Name}
}

// Replaces is the UID of the Job that is replaced.
func (c Carrier) Replaces() types.UID { return c.load.Replaces }

// Step is how far the exchange is.
func (c Carrier) Step() Step { return c.step }

// Ends reports whether the deletion of the Job that is replaced has been
// announced.
func (c Carrier) Ends() bool { return c.step == Ending || c.step == Gone }

// GoneAt is when the Job that is replaced was first seen to be gone; zero before
// the step Gone.
func (c Carrier) GoneAt() time.Time { return c.gone }

// Sources that changed.
func (c Carrier) Sources() []reloader.Source {
	sources := make([]reloader.Source, len(c.load.Sources))
	for i, s := range c.load.Sources {
		sources[i] = reloader.Source{Kind: s.Kind, Namespace: c.namespace, Name: s.Name}
	}
	return sources
}

// Replacement is what is carried. It must not be changed.
func (c Carrier) Replacement() *batchv1.Job { return c.job }

// Size is about how much memory c takes once it is packed.
func (c Carrier) Size() int {
	const fields = 512 // of c itself
	size := fields + len(c.namespace) + len(c.name) + len(c.data)
	for _, o := range c.owners {
		size += fields/4 + len(o.APIVersion) + len(o.Kind) + len(o.Name) + len(o.UID)
	}
	return size
}
