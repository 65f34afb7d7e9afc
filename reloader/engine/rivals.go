package engine

import (
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/report"
)

// rivalRounds is how many reloads in a row have to be taken back before a
// workload is held back.
const rivalRounds = 3

// rivals notice who keeps taking back what a reload writes: a GitOps tool or
// an operator that puts the pod template back to what it knows. Each round is
// two rollouts, so after some the reloads have to stop. It is safe for
// concurrent use.
type rivals struct {
	mu      sync.Mutex // guards everything below
	patched map[reloader.Workload]*patched
}

// patched is the last reload of one workload.
type patched struct {
	reload     report.Reload
	generation int64
	marks      []string // as managedFields name them
	takenBack  bool
	rounds     int // in a row
}

func newRivals() *rivals { return &rivals{patched: map[reloader.Workload]*patched{}} }

// reloaded notes what a reload has written, and in which generation.
func (r *rivals) reloaded(reload report.Reload, generation int64, marks []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.patched[reload.Workload]
	if p == nil {
		p = new(patched)
		r.patched[reload.Workload] = p
	}
	if !p.takenBack {
		p.rounds = 0
	}
	p.reload, p.generation, p.marks, p.takenBack = reload, generation, marks, false
}

// seen looks at a workload that was written, and returns how many reloads in a
// row have been taken back if that did it again, the last of them, and by whom.
func (r *rivals) seen(w reloader.Workload, meta metav1.Object) (rounds int, reload report.Reload, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.patched[w]
	if p == nil || p.takenBack || meta.GetUID() != p.reload.UID || meta.GetGeneration() <= p.generation {
		return 0, report.Reload{}, ""
	}
	if len(meta.GetManagedFields()) == 0 || owns(meta, p.marks) {
		return 0, report.Reload{}, ""
	}
	p.takenBack = true
	p.rounds++
	return p.rounds, p.reload, lastManager(meta)
}

// gone forgets w.
func (r *rivals) gone(w reloader.Workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.patched, w)
}

// owns reports whether the fields that a reload wrote are still ours: who
// removes or overwrites one takes it out of our managedFields.
func owns(meta metav1.Object, marks []string) bool {
	for _, f := range meta.GetManagedFields() {
		if f.Manager != FieldManager || f.Subresource != "" || f.FieldsV1 == nil {
			continue
		}
		fields := f.FieldsV1.GetRawString()
		return !slices.ContainsFunc(marks, func(mark string) bool { return !ownsField(fields, mark) })
	}
	return false
}

// ownsField reports whether a field, or the value of a variable, is among the
// fields in the form of managedFields. Who overwrites a variable takes over its
// value only: {"k:{\"name\":\"X\"}":{".":{},"f:name":{},"f:value":{}}}.
func ownsField(fields, mark string) bool {
	_, rest, found := strings.Cut(fields, mark)
	if !found || strings.HasPrefix(mark, "f:") {
		return found
	}
	of, _, _ := strings.Cut(rest, "}}")
	return strings.Contains(of, `"f:value"`)
}

// lastManager is who wrote last, we and the status apart.
func lastManager(meta metav1.Object) string {
	var last metav1.ManagedFieldsEntry
	for _, f := range meta.GetManagedFields() {
		if f.Manager == FieldManager || f.Subresource != "" || f.Time == nil {
			continue
		}
		if last.Time == nil || f.Time.After(last.Time.Time) {
			last = f
		}
	}
	return last.Manager
}

// marked returns what the change writes, in the words of managedFields.
func marked(c kind.Change) []string {
	if c.Strategy == kind.Annotations {
		return []string{"f:" + c.Keys.LastReloadedFrom}
	}
	names := make([]string, len(c.Marks))
	for i, m := range c.Marks {
		names[i] = `k:{\"name\":\"` + m.Env + `\"}`
	}
	return names
}
