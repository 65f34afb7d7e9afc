package engine

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/report"
)

const (
	// rivalRounds is how many reloads in a row have to be reverted within
	// rivalPeriod before a workload is held back.
	rivalRounds = 3
	rivalPeriod = time.Hour
	// rivalPromptness is the longest time between a reload and its revert. Tools
	// that put back what they know look every few minutes.
	rivalPromptness = 10 * time.Minute
)

// rivals notice who keeps reverting what a reload writes: a GitOps tool or an
// operator that puts the pod template back to what it knows. Each round is two
// rollouts, so after some the reloads have to stop.
//
// A revert is prompt, changes nothing else in the pod template, and nothing new
// is due to the workload at that time. Whatever else takes our marks away is a
// deploy: somebody brings a template of their own, once.
//
// Two steps find one. seen reads from metadata that the marks are gone; judge
// decides when the template of that generation is known, which may need a read.
// It is safe for concurrent use.
type rivals struct {
	clock clock.PassiveClock

	mu      sync.Mutex // guards everything below
	patched map[reloader.Workload]*patched
}

// patched is the last reload of one workload.
type patched struct {
	reload     report.Reload
	at         time.Time
	generation int64
	marks      []string // as managedFields name them
	template   string   // without marks
	// lost is the generation in which the marks were gone; 0 if they are there.
	// by is who wrote that. Until the template of that generation is known, it
	// is open what it was.
	lost int64
	by   string
	open bool
	// reverts are when reloads were reverted, in a row up to this one.
	reverts  []time.Time
	reverted bool
}

func newRivals(c clock.PassiveClock) *rivals {
	return &rivals{clock: c, patched: map[reloader.Workload]*patched{}}
}

// reloaded notes what a reload has written, in which generation, and into which
// template.
func (r *rivals) reloaded(reload report.Reload, generation int64, marks []string, template string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var reverts []time.Time
	if p := r.patched[reload.Workload]; p != nil && p.reverted {
		reverts = p.reverts
	}
	r.patched[reload.Workload] = &patched{
		reload: reload.Brief(), at: r.clock.Now(), generation: generation, marks: marks, template: template, reverts: reverts,
	}
}

// seen reads the metadata of a workload that was written. It returns true if the
// marks of the last reload are gone now, and were there until now.
func (r *rivals) seen(w reloader.Workload, meta metav1.Object) (lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.patched[w]
	if p == nil || p.lost != 0 || meta.GetUID() != p.reload.UID || meta.GetGeneration() <= p.generation {
		return false
	}
	if len(meta.GetManagedFields()) == 0 || owns(meta, p.marks) {
		return false
	}
	p.lost, p.by = meta.GetGeneration(), lastManager(meta)
	p.open = r.clock.Since(p.at) <= rivalPromptness
	return true
}

// suspects reports whether the marks of w went so soon that it may be a revert.
func (r *rivals) suspects(w reloader.Workload) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.patched[w]
	return p != nil && p.open
}

// acquit decides that what took the marks of w away was no revert.
func (r *rivals) acquit(w reloader.Workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.patched[w]; p != nil {
		p.open = false
	}
}

// judge decides what took the marks of w away, given the template of that
// generation or a later one. It returns the last reload, and who reverted it, if
// that makes rivalRounds.
func (r *rivals) judge(w reloader.Workload, template string, generation int64) (reload report.Reload, by string, enough bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.patched[w]
	if p == nil || !p.open || generation < p.lost {
		return report.Reload{}, "", false
	}
	p.open = false
	if template != p.template {
		return report.Reload{}, "", false
	}
	now := r.clock.Now()
	p.reverted = true
	p.reverts = append(slices.DeleteFunc(p.reverts, func(at time.Time) bool { return now.Sub(at) > rivalPeriod }), now)
	if len(p.reverts) < rivalRounds {
		return report.Reload{}, "", false
	}
	p.reverts = nil
	return p.reload, p.by, true
}

// rivalSeen handles the event of a workload, as far as it takes away what a
// reload has written.
func (e *Engine) rivalSeen(w reloader.Workload, meta metav1.Object) {
	if e.rivals.seen(w, meta) {
		e.intake.takenBack(w, meta.GetGeneration())
		if len(e.ledger.due(w)) > 0 {
			e.rivals.acquit(w)
		}
	}
	e.judgeRival(w)
}

// judgeRival decides about a suspected revert as soon as the workload's template
// is known.
func (e *Engine) judgeRival(w reloader.Workload) {
	if !e.rivals.suspects(w) {
		return
	}
	template, generation, known := e.intake.template(w)
	if !known {
		return
	}
	reload, by, enough := e.rivals.judge(w, template, generation)
	if !enough {
		return
	}
	e.limits.open(w)
	e.reporter.TakenBack(reload, by)
	e.log.Info("reloads are reverted; holding back", "workload", w.String(), "by", by)
}

// all returns the workloads of which something is known.
func (r *rivals) all() []reloader.Workload {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.patched))
}

// gone forgets w.
func (r *rivals) gone(w reloader.Workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.patched, w)
}

// owns reports whether the fields that a reload wrote are still ours: who
// removes or overwrites one takes it out of our managedFields. There may be
// several entries of ours: another Reloader has the same name.
//
// The fields may be as many as an object holds and this runs for each event, so
// they are read once, however many marks there are.
func owns(meta metav1.Object, marks []string) bool {
	missing := make(map[string]struct{}, len(marks))
	for _, mark := range marks {
		missing[mark] = struct{}{}
	}
	for _, f := range meta.GetManagedFields() {
		if f.Manager == FieldManager && f.Subresource == "" && f.FieldsV1 != nil {
			take(missing, f.FieldsV1.GetRawString())
		}
	}
	return len(missing) == 0
}

// Of a variable we have to own the value: who overwrites it takes over that only.
// Its fields are {"k:{\"name\":\"X\"}":{".":{},"f:name":{},"f:value":{}}}.
const (
	variablePrefix = `k:{\"name\":\"`
	variableSuffix = `\"}`
)

// take deletes the marks that are among the fields, in the form of managedFields.
func take(marks map[string]struct{}, fields string) {
	for mark := range marks {
		if !strings.HasPrefix(mark, variablePrefix) && strings.Contains(fields, mark) {
			delete(marks, mark) // the annotation, one at most
		}
	}
	for len(marks) > 0 {
		_, rest, found := strings.Cut(fields, variablePrefix)
		if !found {
			return
		}
		fields = rest
		// A mark of ours is not longer.
		end := strings.Index(fields[:min(len(fields), 2*maxLegacyName)], variableSuffix)
		if end < 0 {
			continue
		}
		mark := variablePrefix + fields[:end] + variableSuffix
		if _, wanted := marks[mark]; !wanted {
			continue
		}
		if of, _, _ := strings.Cut(fields[end:], "}}"); strings.Contains(of, `"f:value"`) {
			delete(marks, mark)
		}
	}
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
	if c.Place() == kind.Annotations {
		return []string{"f:" + c.Keys.LastReloadedFrom}
	}
	names := make([]string, len(c.Marks))
	for i, m := range c.Marks {
		names[i] = variablePrefix + m.Env + variableSuffix
	}
	return names
}
