package engine

import (
	"context"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/pattern"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
)

// What the workloads of a namespace cost in memory is counted, and those beyond
// its share are kept by name: the index has what they may depend on, in a form of
// a fixed size, and the intake what tells their states apart. Everything but the
// reload itself goes its usual way. A change of a source is due to all that may
// depend on it; in its own turn of the queue of workloads each is read, what does
// not concern it is dropped, and the rest is rolled out. So:
//
//   - Nothing is lost: what a workload depends on it may depend on.
//   - A source that does not concern it reloads nothing: that is decided anew,
//     with the workload as it has been read.
//   - A read that fails is a failure of that workload's key, and what is due stays
//     due.
//
// A workload that is taken in anew, by an event or a verifying pass, is kept in
// full again if it fits in.

// What things cost, roughly, and rather too much.
const (
	// bytesPerWorkload is that without its references and annotations.
	bytesPerWorkload = 1 << 10
	// bytesPerSource is an account in the ledger and its places in the index.
	bytesPerSource = 1500
	// bytesPerReference is one without its text, bytesPerText what a string takes
	// besides its own length.
	bytesPerReference = 96
	bytesPerText      = 32
	// mostMarks is how many marks of Reloader 1 are kept of a workload that is kept
	// by name. What one with more has been reloaded for may be reloaded once more.
	mostMarks = 16
)

// byName reports whether a workload is kept by name.
func (t *tracked) byName() bool { return t.place != nil && !t.place.InFull }

// stays reports whether all stays as it is of a workload that is kept by name, given
// an event: its record cannot be trusted, but template and annotations are the same.
func (t *tracked) stays(o *observation, now writes) bool {
	return t.byName() && o.misfit != nil && t.keys == o.keys && t.sameTemplate(o.GetGeneration(), now)
}

// cost returns about how many bytes it takes to keep a workload in full.
func (t *tracked) cost(entry index.Entry) int {
	bytes, names := entry.Policy.Size()
	bytes += bytesPerWorkload + names*bytesPerSource
	bytes += len(t.template) + len(t.container)
	for _, r := range entry.References {
		bytes += bytesPerReference + bytesPerSource + 2*len(r.Name)
		for _, key := range r.Keys {
			bytes += bytesPerText + len(key)
		}
	}
	for key, value := range t.annotations {
		bytes += 2*bytesPerText + len(key) + len(value)
	}
	for name, mark := range t.legacy {
		bytes += 2*bytesPerText + len(name) + len(mark)
	}
	for _, fault := range t.faults {
		bytes += 4*bytesPerText + len(fault.Message)
	}
	return bytes
}

// findPlace finds out how w can be kept with that entry. It reports whether that is
// in full. in.mu is held.
func (in *intake) findPlace(w reloader.Workload, t *tracked, entry index.Entry) (inFull bool) {
	var first bool
	if t.place, first = in.shares.Enter(w.Namespace, t.place, t.cost(entry)); first {
		in.crowded = append(in.crowded, w.Namespace)
	}
	t.filled = nil
	return t.place.InFull
}

// connectByName is connect for a workload that is kept by name, or was. in.mu is
// held.
func (in *intake) connectByName(w reloader.Workload, t *tracked, entry index.Entry) {
	before, all := in.index.DependsOn(w), in.index.DependsOnAll(w, entry)
	wasExactly := make(map[reloader.Source]struct{}, len(before))
	for _, s := range before {
		wasExactly[s] = struct{}{}
	}
	var gained []reloader.Source
	for _, s := range all {
		if _, had := wasExactly[s]; !had && !in.index.Reached(w, s) {
			gained = append(gained, s)
		}
	}
	searched := map[reloader.SourceKind]bool{}
	for _, k := range reloader.SourceKinds() {
		if entry.Policy.HasPatterns(k) && in.settings.Enabled(k) {
			searched[k] = in.newPatterns(w, k, entry)
		}
	}
	if t.place.InFull {
		in.index.Set(w, entry)
		// What was not there has no account if only those depend on it that are
		// kept by name. That is from before this event.
		in.read(in.ledger.join(w, moment{}, in.ledger.strangers(missing(all, gained))...))
	} else {
		in.loose.Store(true)
		if exact := in.index.SetByName(w, entry); !exact {
			for _, s := range gained {
				searched[s.Kind] = true
			}
			gained = nil
		}
		t.container, t.annotations = "", nil
		if len(t.legacy) > mostMarks {
			t.legacy = nil
		}
	}
	in.read(in.ledger.join(w, t.since, gained...))
	for _, k := range reloader.SourceKinds() {
		if searched[k] {
			in.search(w, t, k)
		}
	}
	in.ledger.part(w, missing(before, all), in.index.Depended)
	for _, s := range before {
		in.ledger.abandon(s, in.index.Depended)
	}
}

// newPatterns reports whether the patterns of an entry may match what w did not
// depend on. in.mu is held.
func (in *intake) newPatterns(w reloader.Workload, k reloader.SourceKind, entry index.Entry) bool {
	if old, inFull := in.index.Get(w); inFull {
		return !old.Policy.HasPatterns(k) || !old.Policy.Equal(entry.Policy)
	}
	return !in.index.Reached(w, reloader.Source{Kind: k, Namespace: w.Namespace})
}

// read has sources read.
func (in *intake) read(sources []reloader.Source) {
	for _, s := range sources {
		in.queues.sources.Add(s)
	}
}

// verifyByName is verify for a workload that is kept by name: there is nothing to
// compare but what it may depend on. in.mu is held.
func (in *intake) verifyByName(w reloader.Workload, t *tracked, says parsed, rec record.Record) (wrong bool) {
	entry := index.Entry{Policy: says.policy, References: rec.References}
	wrong = !entry.Policy.Active() || slices.ContainsFunc(in.index.DependsOnAll(w, entry), func(s reloader.Source) bool {
		return !in.index.Reached(w, s)
	})
	in.admit(w, t, says, rec, nil)
	return wrong
}

// filling is what is not kept of a workload that is kept by name.
type filling struct {
	entry       index.Entry
	container   string
	annotations map[string]string
	// What follows belongs to the worker that has the workload: its patterns, if
	// they had to be tried, and what of what is due concerns it.
	matchers map[reloader.SourceKind]*pattern.Matcher
	wanted   map[reloader.Source]struct{}
}

// fillingOf returns the filling of w, and false if it is kept by name and is not
// filled. in.mu is held.
func (in *intake) fillingOf(w reloader.Workload, t *tracked) (filling, bool) {
	switch {
	case !t.byName():
		entry, _ := in.index.Get(w)
		return filling{entry: entry, container: t.container, annotations: t.annotations}, true
	case t.filled == nil:
		return filling{}, false
	}
	return *t.filled, true
}

// hollow reports whether w is kept by name and has to be read before it can be
// reloaded.
func (in *intake) hollow(w reloader.Workload) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	return t != nil && t.byName() && t.resolved
}

// fill fills a workload that is kept by name with what has been read of it, until
// it is emptied. It reports false if that is another state than the last event's.
func (in *intake) fill(m *kind.Manifest) bool {
	w, rec, says, keys := in.readOf(m)
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	if t == nil || t.uid != m.Meta.UID || t.generation != m.Meta.Generation || t.keys != keys {
		return false
	}
	if t.byName() && t.resolved {
		t.filled = &filling{
			entry:       index.Entry{Policy: says.policy, References: rec.References},
			container:   rec.Container,
			annotations: rec.Annotations,
		}
	}
	return true
}

// empty drops what w was filled with.
func (in *intake) empty(w reloader.Workload) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if t := in.workloads[w]; t != nil {
		t.filled = nil
	}
}

// errOtherState is a workload of which an event tells something else than what was
// read: one of the two is about to follow.
var errOtherState = errors.New("another state of it has been read than events tell of")

// fill reads w, if it is kept by name, for a reload, and drops what is due to it of
// sources that it does not depend on. It reports false if there is no reload: w is
// gone, or comes back to the queue.
func (e *Engine) fill(ctx context.Context, k kind.Kind, w reloader.Workload) (filled bool, err error) {
	if !e.intake.hollow(w) {
		return true, nil
	}
	m, err := e.client.workload(ctx, k, w)
	switch {
	case apierrors.IsNotFound(err):
		// The event of its deletion comes, and forgets what was due. If it does not
		// come, w is there after all.
		e.queues.workloads.failed(w, err)
		return false, nil
	case err != nil:
		return false, err
	}
	read, err := e.complete(ctx, m)
	if err != nil {
		return false, err
	}
	if at, changed := e.lenders.newer(w, read); changed {
		e.intake.again(w, at) // and when that is read, it comes back
		return false, nil
	}
	if !e.intake.fill(m) {
		e.queues.workloads.failed(w, errOtherState)
		return false, nil
	}
	e.dropForeign(w)
	return true, nil
}

// dropForeign drops what is due to w, which is filled, of sources that it does not
// depend on. What its namespace has no time for now, since it takes patterns to be
// tried, stays due and has w come back.
func (e *Engine) dropForeign(w reloader.Workload) {
	f := e.intake.filled(w)
	if f == nil {
		return
	}
	var foreign []reloader.Source
	steps, undecided := min(e.matching.allowance(w.Namespace), turnSteps), false
	spent := 0
	for _, d := range e.ledger.due(w) {
		if f.entry.Policy.HasPatterns(d.source.Kind) && spent >= steps {
			undecided = true
			continue
		}
		wants, took := f.wants(d.source, e.ledger.wishes(d.source), e.settings)
		if spent += took; !wants {
			foreign = append(foreign, d.source)
			continue
		}
		put(&f.wanted, d.source, struct{}{})
	}
	if spent > 0 {
		e.matching.spend(w.Namespace, spent)
	}
	e.ledger.part(w, foreign, e.index.Depended)
	if undecided && len(f.wanted) == 0 {
		e.queues.workloads.AddAfter(w, e.matching.pause(w.Namespace))
	}
}

// wants reports whether a change of s, which has those wishes, reloads the
// workload, and in how many steps of patterns that was found out.
func (f *filling) wants(s reloader.Source, of wishes, settings policy.Settings) (wants bool, steps int) {
	matched := false
	if f.entry.Policy.HasPatterns(s.Kind) {
		m := f.matchers[s.Kind]
		if m == nil {
			m = f.entry.Policy.Patterns(s.Kind).Compile()
			put(&f.matchers, s.Kind, m)
			steps = index.CompileSteps(m)
		}
		matched = m.Match(s.Name)
		steps += index.TrialSteps(m, s.Name)
	}
	referenced := slices.ContainsFunc(f.entry.References, func(r reloader.Reference) bool {
		return r.Kind == s.Kind && r.Name == s.Name && settings.Follows(r.How)
	})
	return f.entry.Policy.DecideMatched(s.Kind, s.Name, of.annotations(settings.Keys), referenced, matched).Reload, steps
}

// filled returns what w is filled with; nil if it is not.
func (in *intake) filled(w reloader.Workload) *filling {
	in.mu.Lock()
	defer in.mu.Unlock()
	if t := in.workloads[w]; t != nil && t.byName() {
		return t.filled
	}
	return nil
}

// dueNow returns what is due to w, as far as it is known to concern it.
func (e *Engine) dueNow(w reloader.Workload) []debt {
	debts := e.ledger.due(w)
	if len(debts) == 0 || !e.intake.keptByName(w) {
		return debts
	}
	f := e.intake.filled(w)
	return slices.DeleteFunc(debts, func(d debt) bool {
		if f == nil {
			return true
		}
		_, wanted := f.wanted[d.source]
		return !wanted
	})
}

// keptByName reports whether w is.
func (in *intake) keptByName(w reloader.Workload) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	return t != nil && t.byName()
}

// disown forgets s, which no workload depends on, when it changes. Dependents with
// patterns, or that are kept by name, leave without doing so, and the next dependent
// would take the last change of s for one that is due.
func (e *Engine) disown(s reloader.Source) {
	if e.intake.loose.Load() {
		e.ledger.abandon(s, e.index.Depended)
	}
}

// crowd returns the namespaces that have used up their share since it was last
// asked.
func (in *intake) crowd() (namespaces []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	namespaces, in.crowded = in.crowded, nil
	return namespaces
}

// tellCrowded logs which namespaces have used up their share of memory, once each
// time that this begins.
func (e *Engine) tellCrowded() {
	for _, namespace := range e.intake.crowd() {
		e.log.Info("a namespace has used up its share of memory: its other workloads are read when a source changes, so that their reloads come later; "+
			"shorten their lists and references, or raise the memory limit of the engine", "namespace", namespace)
	}
}
