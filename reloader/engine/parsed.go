package engine

import (
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
)

// annotationSet are the annotations of a workload's metadata, and of its template
// as far as its record keeps them. Neither map is changed.
type annotationSet struct {
	metadata, template map[string]string
}

// parsed is what the annotations of a workload say. They are a tenant's text,
// so that it is worked out before any lock is taken.
type parsed struct {
	of     annotationSet
	policy *policy.Policy
	// window is the coalescing window that they ask for; negative if none.
	window time.Duration
	// faults are what cannot be used of them.
	faults []reloader.Problem
}

func parseAnnotations(of reloader.WorkloadKind, a annotationSet, s policy.Settings) parsed {
	r := parsed{
		of:     a,
		policy: policy.Parse(a.metadata, a.template, s),
		window: -1,
		faults: policy.Faults(of, a.metadata, a.template, s),
	}
	if window, ok := policy.Window(a.metadata, s.Keys); ok {
		r.window = window
	}
	return r
}

// covers reports whether r is of the template that t is known to have.
func (r *parsed) covers(t *tracked) bool {
	return r.policy != nil && maps.Equal(r.of.template, t.annotations)
}

// observation is an event of a workload.
type observation struct {
	metav1.Object
	// keys is a hash of the annotations that matter.
	keys uint64
	// text is the index record, carries is true if there is one, whatever its worth.
	text    string
	carries bool

	// What follows costs more, and is known only if decoded is true.
	decoded bool
	record  record.Record
	// misfit is why the record cannot be trusted; nil if it can.
	misfit error
	writes writes
	// says is what the annotations say, together with those of the record, or, if
	// that cannot be trusted and the workload is in the index, with those that its
	// template is known to have.
	says     parsed
	active   bool
	template map[string]string
}

// isKnown reports whether t has taken in what the event shows.
func (o *observation) isKnown(t *tracked) bool {
	return t.resolved && t.generation == o.GetGeneration() && t.keys == o.keys
}
