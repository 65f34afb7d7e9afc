package engine

import (
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
)

// takenBack notes that the marks in w's template are not those of the last
// reload since that generation: the same content has to leave another mark.
func (in *intake) takenBack(w reloader.Workload, generation int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if t := in.workloads[w]; t != nil {
		t.back = generation
	}
}

// template tells the pod template of w from others, without marks, and of which
// generation it is. It reports false if that is an older one, because the newest
// is not known yet.
func (in *intake) template(w reloader.Workload) (template string, generation int64, known bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	if t == nil {
		return "", 0, false
	}
	return t.template, t.generation, t.resolved
}

// marked tells the workload's pod template, with the marks that others have put
// there, from any that it had before.
func (t *tracked) marked() string {
	if t.back == 0 {
		return t.template
	}
	return t.template + "@" + strconv.FormatInt(t.back, 10)
}

// created returns when w was created, and whether nobody has changed it since.
func (in *intake) created(w reloader.Workload) (uid types.UID, at time.Time, untouched bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if t := in.workloads[w]; t != nil {
		return t.uid, t.born, t.generation == 1
	}
	return "", time.Time{}, false
}

// target is what a patch of a workload needs.
type target struct {
	uid       types.UID
	container string
	// template tells the pod template that is patched from others.
	template   string
	references []reloader.Reference
	policy     *policy.Policy
	// byPlace is true if a variable must not be merged into the template, or that
	// is not known: then it is read before.
	byPlace bool
	// record for the generation after the patch; empty if the workload does
	// not carry one.
	record string
}

// aim returns what a patch of w needs and expects the generation that it will
// make. It reports false if w is gone, has opted out or waits for being read,
// after which the workload queue hears of it again. One that is kept by name has
// to be filled before.
func (in *intake) aim(w reloader.Workload) (target, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	if t == nil || !t.resolved || !t.active {
		return target{}, false
	}
	kept, ok := in.fillingOf(w, t)
	if !ok {
		return target{}, false
	}
	entry := kept.entry
	to := target{uid: t.uid, container: kept.container, template: t.marked(), references: entry.References, policy: entry.Policy}
	// Records of the first version do not tell.
	to.byPlace = t.byPlace || t.version < record.Version
	t.expected = max(t.generation, t.made) + 1
	if t.carries {
		text, err := in.forward(w, t, kept).Encode()
		if err == nil {
			to.record = text
		}
	}
	return to, true
}

// forward is the record of w for the generation that a patch of ours makes.
func (in *intake) forward(w reloader.Workload, t *tracked, kept filling) record.Record {
	return record.Record{
		Version:     t.version,
		Namespace:   w.Namespace,
		Name:        w.Name,
		UID:         string(t.uid),
		Generation:  t.expected,
		Template:    t.template,
		Container:   kept.container,
		References:  kept.entry.References,
		Annotations: kept.annotations,
		ByPlace:     t.byPlace,
		Keys:        record.KeysDigest(in.settings.Keys),
	}
}

// landed notes that a patch of ours has been carried out. If it has made the
// generation that was expected, nobody else has written in between: the workload
// references what it did, and the event that comes tells nothing new.
func (in *intake) landed(w reloader.Workload, patched metav1.Object) {
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	if t == nil || t.uid != patched.GetUID() {
		return
	}
	switch {
	case patched.GetGeneration() != t.expected:
	case wroteLast(patched):
		t.made = t.expected
	case t.generation == t.expected && t.resolved:
		// A patch that changed nothing, on somebody else's generation, whose
		// event was taken for ours.
		t.resolved = false
		in.unresolved++
		in.queues.resolve.Add(w)
	}
	t.legacy = nil
	t.expected = 0
}

// wroteLast reports whether, by its managed fields, nobody has written a
// workload after us; the status does not count. What only removes something,
// and a write in the same second, cannot be told.
func wroteLast(meta metav1.Object) bool {
	var ours, others metav1.Time
	for _, f := range meta.GetManagedFields() {
		switch {
		case f.Subresource != "" || f.Time == nil:
		case f.Manager == FieldManager:
			ours = *f.Time
		case others.Before(f.Time):
			others = *f.Time
		}
	}
	return !ours.Before(&others)
}

// missed notes that a patch of ours was refused. What we knew of the workload
// may be wrong, so it is read again.
func (in *intake) missed(w reloader.Workload, lookAgain bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	if t == nil {
		return
	}
	// An event of the expected generation was someone else's.
	lookAgain = lookAgain || t.expected != 0 && t.generation == t.expected
	t.expected = 0
	if lookAgain && t.resolved {
		t.resolved = false
		in.unresolved++
		in.queues.resolve.Add(w)
	}
}
