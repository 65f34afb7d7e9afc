package engine

import (
	"errors"
	"hash/maphash"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine/internal/share"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
)

// intake keeps the index and the ledger in step with the workloads of the
// cluster. It does no I/O: what it cannot know from metadata it hands to the
// resolve queue. It is safe for concurrent use.
type intake struct {
	settings policy.Settings
	window   time.Duration // the coalescing window of who does not ask for one
	index    *index.Index
	ledger   *ledger
	queues   *queues
	kinds    kind.Set
	seed     maphash.Seed
	// parse works out what annotations say. It is called under no lock.
	parse  func(reloader.WorkloadKind, annotationSet, policy.Settings) parsed
	edited []string // the annotations that users write on workloads

	// moving is true once a workload with marks of Reloader 1 was read.
	moving atomic.Bool
	// loose is true once a workload had patterns, or was kept by name: it may leave
	// accounts of sources on which nobody depends any more.
	loose atomic.Bool

	mu sync.Mutex // guards everything below
	// workloads of the cluster, also those that never opted in: knowing that
	// saves reading them again.
	workloads  map[reloader.Workload]*tracked
	unresolved int
	// shares are what the workloads of each namespace may cost, and crowded the
	// namespaces that have used theirs up since crowd was asked.
	shares  *share.Book
	crowded []string
	// selection is nil if no labels select namespaces.
	selection *selection
}

// tracked is what is known of one workload besides its index entry.
type tracked struct {
	uid        types.UID
	born       time.Time
	generation int64
	// keys is a hash of the annotations that matter.
	keys uint64
	// writes are those of the first event of this generation.
	writes writes
	// resolved is true if the index has what this generation and these
	// annotations ask for.
	resolved bool
	// active is true if the workload is in the index.
	active bool
	// place is how it is kept; nil while it is not active. Of one that is kept by
	// name only what has a fixed size stays here, and filled is all of it while a
	// reload is under way.
	place  *share.Place
	filled *filling
	// since is the earliest moment at which what is unresolved came in.
	since moment
	// late is when a start went on without it; zero if none has.
	late moment
	// expected is the generation that our own patch under way will make, made
	// the newest that one has made with nobody in between; neither changes a
	// reference.
	expected, made int64
	// back is the generation in which somebody put back an older mark, 0 if
	// nobody has.
	back int64
	// window is the coalescing window that the workload asks for; negative if
	// it asks for none.
	window time.Duration
	// faults are what cannot be used of its annotations.
	faults []reloader.Problem
	// carries is true if the workload has an index record, whatever its worth.
	carries bool
	// ahead is a hash of the last record that was for a later generation; 0 once
	// another one has come.
	ahead uint64
	// version, template, container and annotations are from the record, or what
	// the record should have said.
	version     int
	template    string
	container   string
	annotations map[string]string
	byPlace     bool
	// legacy marks of the template, as far as it was read.
	legacy legacyMarks
}

func newIntake(s policy.Settings, kinds kind.Set, window time.Duration, x *index.Index, l *ledger, q *queues, b *share.Book) *intake {
	return &intake{
		settings:  s,
		window:    window,
		index:     x,
		ledger:    l,
		queues:    q,
		seed:      maphash.MakeSeed(),
		parse:     parseAnnotations,
		kinds:     kinds,
		edited:    s.Keys.On(annotation.Workload),
		workloads: map[reloader.Workload]*tracked{},
		shares:    b,
	}
}

// observe takes in the metadata of w as an event has brought them. What is new
// has come in at or after since; the zero moment means before we looked. It
// reports whether w has a record that was made with other annotation keys.
func (in *intake) observe(w reloader.Workload, meta metav1.Object, since moment) (otherKeys bool) {
	o := observation{Object: meta, keys: in.hash(meta.GetAnnotations())}
	o.text, o.carries = meta.GetAnnotations()[in.settings.Keys.Index]
	for open := in.compare(w, &o); open; {
		if !o.decoded {
			o.record, o.misfit = trusted(o.text, meta, in.settings.Keys)
			o.writes, o.decoded = in.writesOf(meta), true
		}
		switch {
		case o.misfit == nil:
			o.says = in.parse(w.Kind, annotationSet{meta.GetAnnotations(), o.record.Annotations}, in.settings)
		case o.active:
			o.says = in.parse(w.Kind, annotationSet{meta.GetAnnotations(), o.template}, in.settings)
		}
		otherKeys, open = in.note(w, &o, since)
	}
	return otherKeys
}

// compare reports whether an event brings something new of w.
func (in *intake) compare(w reloader.Workload, o *observation) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, ok := in.selection.lets(w, moment{}); !ok {
		return false
	}
	t := in.workloads[w]
	if t == nil || t.uid != o.GetUID() {
		return true
	}
	t.carries = o.carries
	in.doubts(t, o)
	o.active, o.template = t.active, t.annotations
	return !o.isKnown(t)
}

// note is observe for an event whose annotations have been read. It reports
// whether they have to be read again, because what is known of w has changed
// meanwhile.
func (in *intake) note(w reloader.Workload, o *observation, since moment) (otherKeys, again bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	since, ok := in.selection.lets(w, since)
	if !ok {
		return false, false
	}
	t := in.workloads[w]
	if t != nil && t.uid != o.GetUID() {
		in.drop(w, t)
		t = nil
	}
	if t == nil {
		t = &tracked{uid: o.GetUID(), born: o.GetCreationTimestamp().Time}
		in.workloads[w] = t
		in.unresolved++
	}
	t.carries = o.carries
	if in.doubts(t, o) && o.misfit == nil {
		o.misfit = record.MisfitGeneration
	}
	if o.isKnown(t) {
		return false, false
	}
	generation := o.GetGeneration()
	written := t.writes
	if t.generation != generation {
		written = o.writes
	}
	if t.stays(o, written) {
		t.generation, t.writes = generation, written
		return false, false
	}
	sameTemplate := hasKnownTemplate(t, generation, written)
	if o.misfit != nil && sameTemplate && !o.says.covers(t) {
		o.active, o.template = true, t.annotations
		return false, true
	}
	if t.resolved || t.generation == 0 {
		t.since = since
	}
	if generation < t.generation {
		t.made = 0 // restored from a backup: what follows may be anybody's
	}
	t.generation, t.keys, t.writes = generation, o.keys, written
	switch {
	case o.misfit == nil:
		in.admit(w, t, o.says, o.record, nil)
	case sameTemplate:
		entry, _ := in.index.Get(w)
		in.admit(w, t, o.says, record.Record{
			Version:     t.version,
			Template:    t.template,
			Container:   t.container,
			Annotations: t.annotations,
			ByPlace:     t.byPlace,
			References:  entry.References,
		}, nil)
	default:
		if t.resolved {
			t.resolved = false
			in.unresolved++
		}
		in.queues.resolve.Add(w)
		return errors.Is(o.misfit, record.MisfitKeys), false
	}
	return false, false
}

// hasKnownTemplate reports whether what is in the index of a workload is right for
// another generation, too.
func hasKnownTemplate(t *tracked, generation int64, now writes) bool {
	return !t.byName() && t.sameTemplate(generation, now)
}

// sameTemplate reports whether a workload in the index has the template of its last
// state.
func (t *tracked) sameTemplate(generation int64, now writes) bool {
	return t.resolved && t.active &&
		(t.generation == generation || scaled(t, generation, now) || t.expected == generation || t.generation < generation && generation <= t.made)
}

// supply takes in a workload that has been read. It reports whether that
// answered what was open: a read of another state than the last event's does
// not, and the event of that state comes.
func (in *intake) supply(m *kind.Manifest) bool {
	w, rec, says, keys := in.readOf(m)
	legacy := legacyMarksOf(m.Template, in.settings.Keys)
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	if t == nil || t.uid != m.Meta.UID || t.generation != m.Meta.Generation || t.keys != keys {
		return false
	}
	in.admit(w, t, says, rec, legacy)
	if len(t.legacy) > 0 {
		in.moving.Store(true)
	}
	return true
}

// readOf works out what a workload that was read has to say.
func (in *intake) readOf(m *kind.Manifest) (w reloader.Workload, rec record.Record, says parsed, keys uint64) {
	w, rec = m.Workload(), in.recordOf(m)
	return w, rec, in.parse(w.Kind, annotationSet{m.Meta.Annotations, rec.Annotations}, in.settings), in.hash(m.Meta.Annotations)
}

// recordOf works out what the record of a workload that was read should say.
func (in *intake) recordOf(m *kind.Manifest) record.Record {
	return record.New(record.Identity{}, m.Template, in.hashOf(m), in.settings.Keys)
}

// hashOf returns the hash of a template that was read. One that cannot be hashed
// is told from no other, so that a change of it costs a reload that was not
// needed, rather than one that was.
func (in *intake) hashOf(m *kind.Manifest) string {
	hash, err := m.TemplateHash(in.settings.Keys)
	if err != nil {
		return ""
	}
	return hash
}

// verify takes in a workload that has been read although nothing was open. It
// reports whether the index had it wrong. What is not resolved, or has changed
// since the last event, is left to its event.
func (in *intake) verify(m *kind.Manifest) bool {
	w, rec, says, keys := in.readOf(m)
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	if t == nil || !t.resolved || t.uid != m.Meta.UID || t.generation != m.Meta.Generation || t.keys != keys {
		return false
	}
	if t.byName() {
		return in.verifyByName(w, t, says, rec)
	}
	before, _ := in.index.Get(w)
	wasActive := t.active
	in.admit(w, t, says, rec, nil)
	return wasActive != t.active || t.active && !reflect.DeepEqual(before.References, rec.References)
}

// admit brings the index and the ledger up to what the annotations and the record
// say, and keeps the marks of Reloader 1. in.mu is held.
func (in *intake) admit(w reloader.Workload, t *tracked, says parsed, rec record.Record, marks legacyMarks) {
	pol := says.policy
	// Created, or its template changed. Two versions of a record have two texts
	// for one template: then it is not known, and what is due stays due.
	restarted := t.template != rec.Template && (t.version == 0 || t.version == rec.Version)
	t.window = says.window
	t.version, t.template, t.container, t.annotations = rec.Version, rec.Template, rec.Container, rec.Annotations
	t.byPlace = rec.ByPlace
	t.legacy = marks
	in.judge(w, t, says.faults)
	if !t.resolved {
		t.resolved = true
		in.unresolved--
	}
	if !pol.Active() {
		t.legacy = nil
		in.retire(w, t)
		return
	}
	in.ledger.enter(w)
	if t.late != (moment{}) {
		in.ledger.late(w, t.late)
		t.late = moment{}
	}
	if restarted && t.since != (moment{}) && in.startsPods(w.Kind) {
		in.ledger.refresh(w, t.since)
	}
	entry := index.Entry{Policy: pol, References: rec.References}
	if wasByName := t.byName(); !in.findPlace(w, t, entry) || wasByName {
		in.connectByName(w, t, entry)
	} else {
		in.connect(w, t, entry)
	}
	t.active = true
	if len(in.ledger.due(w)) > 0 {
		in.queues.reload(w, in.windowOf(t))
	}
}

// connect brings the index and the ledger up to an entry that is kept in full.
// in.mu is held.
func (in *intake) connect(w reloader.Workload, t *tracked, entry index.Entry) {
	before := in.index.DependsOn(w)
	gained, patterns := in.index.Set(w, entry)
	for _, s := range in.ledger.join(w, t.since, gained...) {
		in.queues.sources.Add(s)
	}
	if patterns {
		in.loose.Store(true)
		for _, k := range reloader.SourceKinds() {
			if entry.Policy.HasPatterns(k) && in.settings.Enabled(k) {
				in.search(w, t, k)
			}
		}
	}
	in.ledger.part(w, missing(before, in.index.DependsOn(w)), in.index.Depended)
}

// search has all sources of a kind searched for those that w depends on. in.mu is
// held.
func (in *intake) search(w reloader.Workload, t *tracked, k reloader.SourceKind) {
	in.ledger.search(w, t.since, shelf{k, w.Namespace})
	in.queues.sources.Add(reloader.Source{Kind: k, Namespace: w.Namespace})
}

// startsPods reports whether a new template of such a workload starts pods.
func (in *intake) startsPods(of reloader.WorkloadKind) bool {
	k, ok := in.kinds.ByName(of)
	return ok && k.StartsPods
}

// reload has w reloaded when its coalescing window ends.
func (in *intake) reload(w reloader.Workload) {
	in.mu.Lock()
	window := in.windowOf(in.workloads[w])
	in.mu.Unlock()
	in.queues.reload(w, window)
}

// windowOf returns the coalescing window of a workload; nil is one that is
// gone.
func (in *intake) windowOf(t *tracked) time.Duration {
	if t == nil || t.window < 0 {
		return in.window
	}
	return t.window
}

// missing returns what is in before and not in now, both sorted alike.
func missing(before, now []reloader.Source) []reloader.Source {
	still := make(map[reloader.Source]struct{}, len(now))
	for _, s := range now {
		still[s] = struct{}{}
	}
	var lost []reloader.Source
	for _, s := range before {
		if _, ok := still[s]; !ok {
			lost = append(lost, s)
		}
	}
	return lost
}

// retire takes w out of the index. in.mu is held.
func (in *intake) retire(w reloader.Workload, t *tracked) {
	if !t.active {
		return
	}
	t.active = false
	in.shares.Leave(w.Namespace, t.place)
	t.place, t.filled = nil, nil
	before := in.index.DependsOn(w)
	in.index.Delete(w)
	in.ledger.leave(w, before, in.index.Depended)
}

// drop forgets w. in.mu is held.
func (in *intake) drop(w reloader.Workload, t *tracked) {
	in.retire(w, t)
	if !t.resolved {
		in.unresolved--
	}
	delete(in.workloads, w)
}

// deleted forgets w.
func (in *intake) deleted(w reloader.Workload) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.selection.touch(w)
	if t := in.workloads[w]; t != nil {
		in.drop(w, t)
	}
}

// allExcept returns the workloads of a kind in a namespace, or in all of them if
// it is empty, that are not in present.
func (in *intake) allExcept(k reloader.WorkloadKind, namespace string, present map[reloader.Workload]struct{}) (rest []reloader.Workload) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for w := range in.workloads {
		if _, ok := present[w]; !ok && w.Kind == k && (namespace == "" || w.Namespace == namespace) {
			rest = append(rest, w)
		}
	}
	return rest
}

// open reports whether w waits for being read.
func (in *intake) open(w reloader.Workload) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	t := in.workloads[w]
	return t != nil && !t.resolved
}

// hash covers the annotations that users write.
func (in *intake) hash(annotations map[string]string) uint64 {
	var h maphash.Hash
	h.SetSeed(in.seed)
	for _, key := range in.edited {
		value, ok := annotations[key]
		if ok {
			maphash.WriteComparable(&h, value)
		}
		maphash.WriteComparable(&h, ok)
	}
	return h.Sum64()
}
