package kind

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/pattern"
)

// jobCarrierAnnotation makes a suspended Job a carrier as engines made them before
// there was Carrier. Its value is a note as JSON.
const jobCarrierAnnotation = "reloader.stakater.com/carrier"

// note is what a Job carrier tells beside what it carries. It had more fields,
// which the Job that is replaced tells, too, for as long as it is there.
type note struct {
	// Name and UID of the Job that is replaced.
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
	// Ending is true from right before that one is deleted.
	Ending  bool             `json:"ending,omitempty"`
	Sources []reloadedSource `json:"sources"`
}

// JobCarrier is a suspended Job that holds the one that is to take the place of
// another. Whoever may create Jobs can have made it, so that it proves nothing:
// what it carries is taken for ours only if it is the Job that is replaced, but
// for marks.
type JobCarrier struct {
	object *batchv1.Job
	note   note
}

// JobCarrierKey is the annotation that makes a Job a carrier.
const JobCarrierKey = jobCarrierAnnotation

// IsJobCarrier reports whether a Job is one, by its metadata alone.
func IsJobCarrier(meta metav1.Object) bool {
	_, ok := meta.GetAnnotations()[jobCarrierAnnotation]
	return ok
}

// Why a Job is not taken for a carrier.
var (
	errNoNote    = errors.New("its annotation is not what an engine writes")
	errRuns      = errors.New("it is not suspended: it may have been started")
	errOtherUID  = errors.New("the Job that it names is another one by now")
	errOtherSpec = errors.New("its spec is not that of the Job that it names, but for marks")
)

// JobCarrierOf looks into a Job carrier. The error says why the Job m is none.
func JobCarrierOf(m *Manifest) (JobCarrier, error) {
	o, ok := m.object.(*batchv1.Job)
	if !ok {
		return JobCarrier{}, errNoNote
	}
	n, ok := parseNote(o.Annotations[jobCarrierAnnotation])
	switch {
	case !ok:
		return JobCarrier{}, errNoNote
	case !ptr.Deref(o.Spec.Suspend, false):
		return JobCarrier{}, errRuns
	}
	return JobCarrier{object: o, note: n}, nil
}

// maxNote is what the API server allows all annotations of an object.
const maxNote = 256 << 10

// parseNote reads a note, which anybody can have written who may create Jobs. It
// reports false for what no engine has made: unknown kinds, and names that no
// object has.
func parseNote(text string) (n note, ok bool) {
	if len(text) > maxNote || strings.Count(text, "{") > maxObjects || json.Unmarshal([]byte(text), &n) != nil {
		return note{}, false
	}
	if n.UID == "" || !pattern.ValidName(n.Name) || len(n.Sources) == 0 {
		return note{}, false
	}
	for _, s := range n.Sources {
		if _, known := reloader.ParseSourceKind(string(s.Kind)); !known || !pattern.ValidName(s.Name) {
			return note{}, false
		}
	}
	return n, true
}

// Workload is the Job that is replaced.
func (c JobCarrier) Workload() reloader.Workload {
	return reloader.Workload{Kind: reloader.Job, Namespace: c.object.Namespace, Name: c.note.Name}
}

// Ending reports whether the deletion of the Job that is replaced has been
// announced.
func (c JobCarrier) Ending() bool { return c.note.Ending }

// Sources that changed.
func (c JobCarrier) Sources() []reloader.Source {
	sources := make([]reloader.Source, len(c.note.Sources))
	for i, s := range c.note.Sources {
		sources[i] = reloader.Source{Kind: s.Kind, Namespace: c.object.Namespace, Name: s.Name}
	}
	return sources
}

// Replacement returns the Job that takes the place of old. All of it is of old,
// but for the marks of its pod template, which are the carrier's. The error says
// why the carrier is not one of old.
func (c JobCarrier) Replacement(old *Manifest, change Change) (*batchv1.Job, error) {
	o, ok := old.object.(*batchv1.Job)
	if !ok || o.UID != c.note.UID || o.Namespace != c.object.Namespace {
		return nil, errOtherUID
	}
	replacement, carried := anew(o, o.Name), anew(c.object, o.Name)
	carried.Spec.Suspend = replacement.Spec.Suspend
	for i := range replacement.OwnerReferences {
		replacement.OwnerReferences[i].BlockOwnerDeletion = nil
	}
	delete(replacement.Annotations, change.Keys.Index)
	if change.Record != "" {
		replacement.Annotations[change.Keys.Index] = change.Record
	}
	template, marked := &replacement.Spec.Template, &carried.Spec.Template
	if len(template.Spec.Containers) != len(marked.Spec.Containers) {
		return nil, errOtherSpec
	}
	for i := range marked.Spec.Containers {
		takeMarks(&template.Spec.Containers[i], &marked.Spec.Containers[i])
	}
	takeReloadedFrom(template, marked, change.Keys.LastReloadedFrom)
	if !apiequality.Semantic.DeepEqual(replacement.Spec, carried.Spec) {
		return nil, errOtherSpec
	}
	return replacement, nil
}

// markForm is what engines wrote that made Job carriers.
var markForm = regexp.MustCompile(`^v1-[0-9a-f]{32}-[0-9a-f]{8}$`) //nolint:gochecknoglobals // a constant

// takeMarks puts the marks of one container into another, in the way that
// markTemplate does.
func takeMarks(into, from *corev1.Container) {
	for _, v := range from.Env {
		if slices.ContainsFunc(into.Env, func(present corev1.EnvVar) bool { return apiequality.Semantic.DeepEqual(present, v) }) {
			continue
		}
		if !markName.MatchString(v.Name) || v.ValueFrom != nil || !markForm.MatchString(v.Value) {
			continue
		}
		into.Env = slices.DeleteFunc(into.Env, func(present corev1.EnvVar) bool { return present.Name == v.Name })
		into.Env = append(into.Env, v)
	}
}

// markName is the name of a variable that is a mark.
var markName = regexp.MustCompile(`^STAKATER_[A-Z0-9_]+_(CONFIGMAP|SECRET|SECRETPROVIDERCLASS)$`) //nolint:gochecknoglobals // a constant

// takeReloadedFrom takes over what the annotation of a template tells, if it is in
// the form that engines write, or that there is none any more.
func takeReloadedFrom(into, from *corev1.PodTemplateSpec, key string) {
	text, ok := from.Annotations[key]
	if !ok {
		delete(into.Annotations, key)
		return
	}
	var marks reloadedFrom
	if json.Unmarshal([]byte(text), &marks) != nil {
		return
	}
	for _, m := range append([]reloadedFrom{marks}, marks.Also...) {
		if !markForm.MatchString(m.Hash) || !pattern.ValidName(m.Name) {
			return
		}
	}
	if again, err := json.Marshal(marks); err != nil || string(again) != text {
		return
	}
	if into.Annotations == nil {
		into.Annotations = make(map[string]string, 1)
	}
	into.Annotations[key] = text
}
