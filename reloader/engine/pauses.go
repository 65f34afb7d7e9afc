package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// pauses know which Deployments have to be looked at before they are reloaded:
// those that ask for a pause period, and those that we have paused. It does no
// I/O and is safe for concurrent use.
type pauses struct {
	keys annotation.Keys

	mu sync.Mutex // guards everything below
	// concerned are few: others cost two look-ups in their annotations.
	concerned map[reloader.Workload]pauseMarks
	// within counts those that are within a period.
	within int
}

// pauseMarks are what the metadata of a Deployment tell of its pause.
type pauseMarks struct {
	period, at       string // as pauseText has them
	hasPeriod, hasAt bool
	// owned is true if we have set spec.paused, and nobody else has since.
	owned bool
	// ended is true if somebody has resumed it in the period that began at.
	ended bool
	// left is true if its namespace is not watched any more: what we have
	// paused is resumed, and then forgotten.
	left bool
}

func newPauses(keys annotation.Keys) *pauses {
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
	now.period, now.at = pauseText(now.period), pauseText(now.at)
	now.owned = len(pauseOwners(meta.GetManagedFields())) > 0

	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.concerned[w]
	p.forget(w)
	if now == (pauseMarks{}) {
		return before.hasAt || before.owned
	}
	now.ended = now.hasAt && now.at == before.at && (before.ended || before.owned && !now.owned)
	p.concerned[w] = now
	if now.hasAt {
		p.within++
	}
	// Until it is paused every event may tell that its rollout is complete.
	return now != before && (now.hasAt || now.owned || before.hasAt || before.owned) || now.hasAt && !now.owned
}

// mostPauseText is how long a value is that pauses keep as it is: longer than any
// that can be used.
const mostPauseText = 64

// pauseText tells a value from others, in few bytes however long it is.
func pauseText(value string) string {
	if len(value) <= mostPauseText {
		return strings.Clone(value)
	}
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// of returns what is known of w, and whether it has to be looked at before it
// is reloaded.
func (p *pauses) of(w reloader.Workload) (pauseMarks, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	marks, ok := p.concerned[w]
	return marks, ok
}

// leave notes that the namespace of w is not watched any more; of one that has
// left already, that it is gone. It reports whether w has to be looked at.
func (p *pauses) leave(w reloader.Workload) (look bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	marks := p.concerned[w]
	if !marks.hasAt && !marks.owned || marks.left {
		p.forget(w)
		return false
	}
	marks.left = true
	p.concerned[w] = marks
	return true
}

// gone forgets w.
func (p *pauses) gone(w reloader.Workload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(w)
}

// forget is gone. p.mu is held.
func (p *pauses) forget(w reloader.Workload) {
	if p.concerned[w].hasAt {
		p.within--
	}
	delete(p.concerned, w)
}

// count returns how many Deployments are within a pause period.
func (p *pauses) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.within
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
