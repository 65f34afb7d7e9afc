package engine

import (
	"maps"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
)

// pauses know which Deployments have to be looked at before they are reloaded:
// those that ask for a pause period, and those that we have paused. It does no
// I/O and is safe for concurrent use.
type pauses struct {
	keys policy.Keys

	mu sync.Mutex // guards everything below
	// concerned are few: others cost two look-ups in their annotations.
	concerned map[reloader.Workload]pauseMarks
}

// pauseMarks are what the metadata of a Deployment tell of its pause.
type pauseMarks struct {
	period, at       string
	hasPeriod, hasAt bool
	// owned is true if we have set spec.paused, and nobody else has since.
	owned bool
	// ended is true if somebody has resumed it in the period that began at.
	ended bool
}

func newPauses(keys policy.Keys) *pauses {
	return &pauses{keys: keys, concerned: map[reloader.Workload]pauseMarks{}}
}

// seen takes in the metadata of a Deployment. It reports whether it has to be
// looked at, which is not so while nothing has to be done until its period
// ends, and there is a look at that end already.
func (p *pauses) seen(w reloader.Workload, meta metav1.Object) (look bool) {
	var now pauseMarks
	annotations := meta.GetAnnotations()
	now.period, now.hasPeriod = annotations[p.keys.PausePeriod]
	now.at, now.hasAt = annotations[p.keys.PausedAt]
	now.owned = len(pauseOwners(meta.GetManagedFields())) > 0

	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.concerned[w]
	if now == (pauseMarks{}) {
		delete(p.concerned, w)
		return before.hasAt || before.owned
	}
	now.ended = now.hasAt && now.at == before.at && (before.ended || before.owned && !now.owned)
	p.concerned[w] = now
	// Until it is paused every event may tell that its rollout is complete.
	return now != before && (now.hasAt || now.owned || before.hasAt || before.owned) || now.hasAt && !now.owned
}

// of returns what is known of w, and whether it has to be looked at before it
// is reloaded.
func (p *pauses) of(w reloader.Workload) (pauseMarks, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	marks, ok := p.concerned[w]
	return marks, ok
}

// gone forgets w.
func (p *pauses) gone(w reloader.Workload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.concerned, w)
}

// goneExcept forgets all of a namespace, or of all namespaces if that is empty,
// that are not in present.
func (p *pauses) goneExcept(namespace string, present map[reloader.Workload]struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.concerned, func(w reloader.Workload, _ pauseMarks) bool {
		_, ok := present[w]
		return !ok && (namespace == "" || w.Namespace == namespace)
	})
}

// count returns how many Deployments are within a pause period.
func (p *pauses) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, marks := range p.concerned {
		if marks.hasAt {
			n++
		}
	}
	return n
}

// pauseOwners returns the entries of managed fields by which we own
// spec.paused. No other field of a Deployment has that name.
func pauseOwners(fields []metav1.ManagedFieldsEntry) (ours []metav1.ManagedFieldsEntry) {
	for _, f := range fields {
		if f.Manager == FieldManager && f.Subresource == "" && pausesField(f) {
			ours = append(ours, f)
		}
	}
	return ours
}

// pausedByOthers reports whether somebody else owns spec.paused, perhaps
// together with us.
func pausedByOthers(fields []metav1.ManagedFieldsEntry) bool {
	for _, f := range fields {
		if f.Manager != FieldManager && pausesField(f) {
			return true
		}
	}
	return false
}

func pausesField(f metav1.ManagedFieldsEntry) bool {
	return f.FieldsV1 != nil && strings.Contains(f.FieldsV1.GetRawString(), `"f:paused"`)
}
