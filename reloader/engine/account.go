package engine

import (
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/fingerprint"
)

// shelf is all sources of one kind in one namespace.
type shelf struct {
	kind      reloader.SourceKind
	namespace string
}

func shelfOf(s reloader.Source) shelf { return shelf{s.Kind, s.Namespace} }

// account is what is known of one source.
type account struct {
	// read is true if the source has been looked at, or the archive tells that it
	// need not be; dirty if there is a reason for another look.
	read, dirty bool
	// turned is true if its content has changed since the engine began.
	turned bool
	// broken is true if a look at it has ended in a panic.
	broken bool
	// unselected is true if its labels left it alone at the last look: nobody
	// hears then of what becomes of it.
	unselected bool
	// past is what the first look has to look back at.
	past past
	// inherited is true if the change that is due may have been made in part by
	// an engine before this one.
	inherited bool
	// heard is the newest version of which an event has told.
	heard uint64
	// saved is what the archive says.
	saved checkpoint.Entry
	// absent is true if the source did not exist at the last look. Its last
	// fingerprint stays: deleted and created again with the same data is no
	// change.
	absent bool
	// version is the newest one that has been read.
	version uint64
	// current is the newest fingerprint; empty if the source was never seen.
	current fingerprint.Fingerprint
	// written is when current came to be.
	written moment
	// gone is when the source was deleted last, as far as an event has told.
	gone moment
	// wishes of the source at the last look.
	wishes wishes
	// rolledOut is the fingerprint that all workloads have, except those in
	// applied, which have that one (empty: something older). It moves when
	// waiting runs empty.
	rolledOut fingerprint.Fingerprint
	applied   map[reloader.Workload]fingerprint.Fingerprint
	waiting   map[reloader.Workload]struct{}
	// newcomers have brought the source in at that moment and wait for the
	// first look at it.
	newcomers map[reloader.Workload]moment
	// behind is the version that was known of the source when the start went on
	// without a look at it; 0 if it did not. What has been written since is a
	// change.
	behind uint64
	// awaited counts how often the first look has waited for an event.
	awaited int
}

// past is what is known of a source of the time in which no engine ran.
type past int

const (
	// none: nothing that would have to be looked at.
	none past = iota
	// archived: the archive says what it was, and it has been written since.
	archived
	// unknown: the archive, which is not empty, says nothing of it. It was
	// brought in while no engine ran.
	unknown
	// lookingBack: somebody does.
	lookingBack
)

// dependent is what is known of one workload.
type dependent struct {
	// fresh is when its pod template was last changed by others: pods have
	// started, or will, with what was there then.
	fresh moment
	// late is since when changes are due to it of what it had before the start; zero
	// if the start has waited for it.
	late    moment
	pending map[reloader.Source]struct{}
}

// content is what one look at a source has shown.
type content struct {
	absent bool
	// vacant is true if, moreover, no pod is left that has had the content.
	vacant bool
	// untouched is true if nobody has written to the source since its
	// creation.
	untouched   bool
	fingerprint fingerprint.Fingerprint
	version     uint64
	written     moment
	// times are for looking back.
	times  dataTimes
	wishes wishes
}

// debt is one source's content that a workload has yet to get.
type debt struct {
	source      reloader.Source
	fingerprint fingerprint.Fingerprint
}

// had returns what pods have that started at that moment: the present content,
// or something older.
func (a *account) had(since moment, untouched bool) fingerprint.Fingerprint {
	if !untouched && a.written.after(since) {
		return ""
	}
	return a.current
}

// leftBehind returns behind, or 0 if there is content to compare with.
func (a *account) leftBehind() uint64 {
	if a.current != "" {
		return 0
	}
	return a.behind
}

// turn notes whether a look has shown other content.
func (a *account) turn(changed bool) { a.turned = a.turned || changed }

// account returns the account of s, a new one if there is none; in a namespace
// that is not selected, one that nobody keeps. l.mu is held.
func (l *ledger) account(s reloader.Source) *account {
	a := l.sources[s]
	if a == nil {
		a = new(account)
		if !l.selects(s.Namespace) {
			return a
		}
		l.remember(s, a)
		l.sources[s] = a
		l.unread[shelfOf(s)]++
	}
	return a
}

// want notes that w waits for the present content of s, unless it has it, or
// its pods have started anew since. It reports whether w waits.
func want(d *dependent, w reloader.Workload, s reloader.Source, a *account) bool {
	have, other := a.applied[w]
	if !other {
		have = a.rolledOut
	}
	// Nobody waits for content that nobody has any more.
	if a.current == "" || have == a.current || d.fresh != (moment{}) && !a.written.after(d.fresh) {
		settle(d, w, s, a)
		return false
	}
	put(&a.waiting, w, struct{}{})
	put(&d.pending, s, struct{}{})
	return true
}

// settle notes that w has the present content of s. When all of an account is
// done, closeIfSettled follows.
func settle(d *dependent, w reloader.Workload, s reloader.Source, a *account) {
	delete(d.pending, s)
	delete(a.waiting, w)
	delete(a.newcomers, w)
	put(&a.applied, w, a.current)
}

// put makes the map on its first entry: most of them stay empty for ever.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
