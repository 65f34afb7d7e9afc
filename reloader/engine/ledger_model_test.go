package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/fingerprint"
)

// FuzzLedger lets the choices write the history of a small cluster, of which
// the ledger hears late, of some things twice, and of some in another order.
// Once it has heard everything, every pod has to have the newest content, and
// nobody may have been reloaded for content that its pods started with. In half
// of the histories the engine is killed at times, and the next one goes on where
// the stored archive ends.
func FuzzLedger(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		choices := make([]byte, 40+random.IntN(800))
		for i := range choices {
			choices[i] = byte(random.UintN(256))
		}
		f.Add(choices)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		m := newModel(t, choices)
		for len(m.choices) > 0 {
			m.step()
		}
		m.quiesce()
		m.check()
	})
}

// history is one source: what it held from which version on.
type history struct {
	present bool
	value   string
	// version of the last write, data of the last write of data; both 0 if it
	// never was.
	version, data uint64
	// asCreated is true until something is written after the first creation.
	asCreated, everCreated bool
	states                 []state
	// reads counts the readings that were taken.
	reads int
}

type state struct {
	version uint64
	present bool
	value   string
}

// after returns what pods have that started in that version: those that find
// no source wait until there is one.
func (h *history) after(version uint64) (value string, present bool) {
	for i, s := range slices.Backward(h.states) {
		if s.version <= version {
			for _, s := range h.states[i:] {
				if s.present {
					return s.value, h.states[i].present
				}
			}
		}
	}
	for _, s := range h.states {
		if s.present {
			return s.value, false
		}
	}
	return "", false
}

// member is one workload as it really is.
type member struct {
	alive bool
	// incarnation tells those of the same name apart.
	incarnation int
	on          []reloader.Source
	// started is when the pods were started last, other when others had that
	// done, and marks what our patches have brought since.
	started, other uint64
	marks          map[reloader.Source]fingerprint.Fingerprint
	unheard        []func()
	// known is the incarnation of which the engine has heard.
	known int
	// doubtful is true if a patch of ours came before the engine had heard of
	// everything: it cannot know what that one has brought.
	doubtful bool
	// lost are the sources of patches whose answer was lost, and that no other
	// has settled since: the engine cannot know whether they were brought.
	lost map[reloader.Source]bool
	// blind are the sources without an entry when the engine was killed: what the
	// next one sees of those first is adopted.
	blind   map[reloader.Source]bool
	adopted map[reloader.Source]fingerprint.Fingerprint
}

type reading struct {
	content content
	number  int
	// byWorker is true if a worker took it, of which only one has a key at a
	// time; taken if it answers for what the ledger was told.
	byWorker, taken bool
}

type patchUnderWay struct {
	debts       []debt
	incarnation int
	// other is when others had changed the template for which the patch was made,
	// as far as the engine had heard: 0 if there was more to hear.
	other  uint64
	landed bool
}

type model struct {
	t       *testing.T
	choices []byte
	story   []string
	clock   uint64

	sources []reloader.Source
	names   []reloader.Workload
	cluster map[reloader.Source]*history
	members map[reloader.Workload]*member

	// What the engine has: index and ledger, its queues, and what is under way.
	ledger   *ledger
	index    map[reloader.Workload][]reloader.Source
	unheard  map[reloader.Source][]func()
	toRead   map[reloader.Source]bool
	toReload map[reloader.Workload]bool
	readings map[reloader.Source][]*reading
	patches  map[reloader.Workload]*patchUnderWay

	// lifecycle of sources, which counts in some histories.
	lifecycle lifecycle

	// mortal is true if the engine may be killed, standsBy if it has not opened
	// the archive since. kept is the archive in memory, stored what the next
	// engine finds.
	mortal, standsBy bool
	kept, stored     pages
}

func newModel(t *testing.T, choices []byte) *model {
	m := &model{
		t: t, choices: choices, clock: 1,
		sources: []reloader.Source{configMap("a"), configMap("b")},
		names:   []reloader.Workload{web, worker, agent},
		cluster: map[reloader.Source]*history{}, members: map[reloader.Workload]*member{},
		ledger: newLedger(), index: map[reloader.Workload][]reloader.Source{},
		unheard: map[reloader.Source][]func(){}, toRead: map[reloader.Source]bool{}, toReload: map[reloader.Workload]bool{},
		readings: map[reloader.Source][]*reading{}, patches: map[reloader.Workload]*patchUnderWay{},
		kept: pages{}, stored: pages{},
	}
	for _, s := range m.sources {
		m.cluster[s] = new(history)
	}
	for _, w := range m.names {
		m.members[w] = new(member)
	}
	m.mortal = m.choose(2) == 1
	m.lifecycle = lifecycle{onCreate: m.choose(3) == 1, onDelete: m.choose(2) == 1}
	m.ledger.lifecycle = m.lifecycle
	m.ledger.open(m.kept, len(m.kept) == 0)
	return m
}

// choose returns a number below n.
func (m *model) choose(n int) int {
	if len(m.choices) == 0 {
		return 0
	}
	c := int(m.choices[0])
	m.choices = m.choices[1:]
	return c % n
}

func (m *model) tell(format string, args ...any) {
	m.story = append(m.story, fmt.Sprintf("%4d ", m.clock)+fmt.Sprintf(format, args...))
}

func (m *model) tick() uint64 {
	m.clock++
	return m.clock
}

func (m *model) step() {
	s, w := m.sources[m.choose(len(m.sources))], m.names[m.choose(len(m.names))]
	switch m.choose(21) {
	case 0, 1:
		m.write(s)
	case 2:
		m.label(s)
	case 3:
		m.deleteSource(s)
	case 4, 5:
		m.start(w, m.choose(3))
	case 6:
		m.deleteWorkload(w)
	case 7:
		m.hearOfSource(s)
	case 8:
		m.hearOfWorkload(w)
	case 9:
		m.read(s)
	case 10, 11, 12:
		m.look(s, m.choose(2))
	case 13:
		m.startReload(w)
	case 14, 15:
		m.goOnReloading(w)
	case 16:
		m.search(s)
	case 17:
		m.flush(s)
	case 18:
		// Some time goes by.
		for range 3 {
			m.round()
		}
	case 19, 20:
		switch {
		case m.standsBy:
			m.takeOver()
		case m.mortal && m.choose(2) == 0 && m.mayBeKilled():
			m.kill()
		}
	}
}

// What happens in the cluster.

func (m *model) write(s reloader.Source) {
	h := m.cluster[s]
	value := fmt.Sprint("v", m.tick())
	if len(h.states) > 0 && m.choose(2) == 0 && m.mayReturn(s) {
		back := len(h.states)
		if m.choose(2) == 0 {
			back = min(back, 3)
		}
		value = h.states[len(h.states)-1-m.choose(back)].value
		if value == "" || h.present && value == h.value || m.mortal && m.returnIsMissed(s, value) {
			return
		}
	}
	creates := !h.present
	h.asCreated = !h.everCreated
	h.everCreated = true
	h.present, h.value, h.version, h.data = true, value, m.clock, m.clock
	h.states = append(h.states, state{m.clock, true, value})
	m.event(s, creates)
	m.tell("%s = %s", s.Name, value)
}

// mayReturn reports whether s may go back to a former value. Content that comes
// and goes before anybody has looked, or while pods start of which nobody has
// heard, cannot be told from content that never was.
func (m *model) mayReturn(s reloader.Source) bool {
	h := m.cluster[s]
	if a := m.ledger.sources[s]; a == nil || !a.read || a.version != h.version || a.absent == h.present {
		return false
	}
	for _, w := range m.names {
		if len(m.members[w].unheard) > 0 {
			return false
		}
		if p := m.patches[w]; p != nil && !slices.ContainsFunc(p.debts, func(d debt) bool { return d.source == s }) {
			return false
		}
	}
	return true
}

// returnIsMissed reports whether an engine that is started after a kill may take
// the return of s to a value for no change at all: the stored entry has that
// value, and not yet the mark that it is in motion, or the account closes while
// a patch with another one is on its way.
func (m *model) returnIsMissed(s reloader.Source, value string) bool {
	if m.isStored(s, fingerprint.Fingerprint(value)) {
		return true
	}
	for _, p := range m.patches {
		if slices.ContainsFunc(p.debts, func(d debt) bool { return d.source == s }) {
			return true
		}
	}
	return false
}

// isStored reports whether the next engine takes that content of s for rolled
// out.
func (m *model) isStored(s reloader.Source, is fingerprint.Fingerprint) bool {
	e := m.stored[s]
	return e.Fingerprint == is && e.Version != inMotion
}

func (m *model) label(s reloader.Source) {
	h := m.cluster[s]
	if !h.present {
		return
	}
	h.version, h.asCreated = m.tick(), false
	m.event(s, false)
	m.tell("%s labelled", s.Name)
}

func (m *model) deleteSource(s reloader.Source) {
	h := m.cluster[s]
	if !h.present || m.lifecycle.onDelete && !m.mayBeDeleted(s) {
		return
	}
	h.present = false
	version := m.tick()
	h.states = append(h.states, state{version: version})
	m.unheard[s] = append(m.unheard[s], func() {
		if m.depended(s) && m.ledger.deleted(s, version) {
			m.toRead[s] = true
		}
	})
	m.tell("%s deleted", s.Name)
}

// mayBeDeleted is mayReturn for a source that goes once more, if that counts.
func (m *model) mayBeDeleted(s reloader.Source) bool {
	again := slices.ContainsFunc(m.cluster[s].states, func(s state) bool { return !s.present })
	return !again || m.mayReturn(s) && (!m.mortal || !m.returnIsMissed(s, string(fingerprint.Deleted)))
}

func (m *model) event(s reloader.Source, creates bool) {
	version := m.cluster[s].version
	m.unheard[s] = append(m.unheard[s], func() {
		if !m.depended(s) {
			return
		}
		if creates {
			m.ledger.created(s)
		}
		if m.ledger.news(s, version) {
			m.toRead[s] = true
		}
	})
}

// start creates w, or changes its template, and with that maybe what it
// depends on.
func (m *model) start(w reloader.Workload, which int) {
	d := m.members[w]
	version := m.tick()
	if !d.alive {
		d.alive, d.incarnation = true, d.incarnation+1
	}
	d.started, d.other, d.marks = version, version, map[reloader.Source]fingerprint.Fingerprint{}
	d.doubtful = false
	d.lost = map[reloader.Source]bool{}
	before := d.on
	d.on = [][]reloader.Source{m.sources[:1], m.sources[1:], m.sources}[which]
	d.adopted = map[reloader.Source]fingerprint.Fingerprint{}
	if d.blind == nil {
		d.blind = map[reloader.Source]bool{}
	}
	maps.DeleteFunc(d.blind, func(s reloader.Source, _ bool) bool {
		return !slices.Contains(before, s) || !slices.Contains(d.on, s)
	})
	on, incarnation := d.on, d.incarnation
	d.unheard = append(d.unheard, func() {
		d.known = incarnation
		m.ledger.enter(w)
		m.ledger.refresh(w, at(version))
		before := m.index[w]
		m.index[w] = on
		for _, s := range m.ledger.join(w, at(version), missing(on, before)...) {
			m.toRead[s] = true
		}
		m.ledger.part(w, missing(before, on), m.depended)
		if len(m.ledger.due(w)) > 0 {
			m.toReload[w] = true
		}
	})
	m.tell("%s starts, on %v", w.Name, on)
}

func (m *model) deleteWorkload(w reloader.Workload) {
	d := m.members[w]
	if !d.alive {
		return
	}
	m.tick()
	d.alive, d.on = false, nil
	d.unheard = append(d.unheard, func() {
		before := m.index[w]
		delete(m.index, w)
		m.ledger.leave(w, before, m.depended)
	})
	m.tell("%s deleted", w.Name)
}

// What the engine does.

func (m *model) depended(s reloader.Source) bool {
	for _, on := range m.index {
		if slices.Contains(on, s) {
			return true
		}
	}
	return false
}

func (m *model) hearOfSource(s reloader.Source) {
	if events := m.unheard[s]; len(events) > 0 {
		m.unheard[s] = events[1:]
		m.tell("the engine hears of %s", s.Name)
		events[0]()
	}
}

func (m *model) hearOfWorkload(w reloader.Workload) {
	d := m.members[w]
	if len(d.unheard) > 0 {
		event := d.unheard[0]
		d.unheard = d.unheard[1:]
		m.tell("the engine hears of %s", w.Name)
		event()
	}
}

// read takes a reading, as a worker does that has the key of s.
func (m *model) read(s reloader.Source) {
	if m.standsBy || !m.toRead[s] || slices.ContainsFunc(m.readings[s], func(r *reading) bool { return r.byWorker }) {
		return
	}
	delete(m.toRead, s)
	if !m.depended(s) {
		m.ledger.abandon(s, m.depended)
		return
	}
	if due, _ := m.ledger.take(s); due {
		m.takeReading(s, true, true)
	}
}

// search takes a reading, as a search of the shelf does that somebody else has
// asked for.
func (m *model) search(s reloader.Source) {
	if m.standsBy || len(m.readings[s]) >= 2 || !m.depended(s) {
		return
	}
	taken := false
	if a := m.ledger.sources[s]; a != nil && !a.read {
		taken, _ = m.ledger.take(s)
	}
	m.takeReading(s, false, taken)
}

func (m *model) takeReading(s reloader.Source, byWorker, taken bool) {
	h := m.cluster[s]
	h.reads++
	c := content{absent: true}
	if h.present {
		c = content{
			untouched:   h.asCreated,
			fingerprint: fingerprint.Fingerprint(h.value),
			version:     h.version,
			written:     moment{version: h.version, time: at(h.data).time},
		}
	}
	m.readings[s] = append(m.readings[s], &reading{content: c, number: h.reads, byWorker: byWorker, taken: taken})
	m.tell("reading %d of %s: %q", h.reads, s.Name, c.fingerprint)
}

func (m *model) look(s reloader.Source, which int) {
	if len(m.readings[s]) == 0 {
		return
	}
	which %= len(m.readings[s])
	r := m.readings[s][which]
	m.readings[s] = slices.Delete(m.readings[s], which, which+1)
	if r.content.absent && (r.number != m.cluster[s].reads || !r.taken) {
		// That something is not there has no version; it is not reordered. A
		// search tells it only of what it was to find.
		if r.taken {
			m.ledger.putBack(s)
			m.toRead[s] = true
		}
		return
	}
	m.adopt(s, r.content)
	overdue, outdated := m.ledger.look(s, r.content, func() []reloader.Workload { return m.dependents(s) })
	if !outdated {
		m.ledger.pastOf(s)
		m.ledger.lookedBack(s)
	}
	m.tell("look %d at %s: overdue %v, outdated %t", r.number, s.Name, overdue, outdated)
	if outdated && r.taken {
		m.ledger.putBack(s)
		m.toRead[s] = true
	}
	for _, w := range overdue {
		m.toReload[w] = true
	}
}

// adopt notes what the first look after a kill shows of a source without an
// entry.
func (m *model) adopt(s reloader.Source, c content) {
	if a := m.ledger.sources[s]; a == nil || c.absent || c.version < a.version {
		return
	}
	for _, d := range m.members {
		if d.blind[s] {
			delete(d.blind, s)
			d.adopted[s] = c.fingerprint
		}
	}
}

// flush stores what the archive has of s: it lags behind, one source more than
// another.
func (m *model) flush(s reloader.Source) {
	if m.standsBy {
		return
	}
	m.tell("what the archive has of %s is stored: %v", s.Name, m.kept[s])
	store(m.stored, m.kept, s)
}

func store(to, from pages, s reloader.Source) {
	if e, ok := from[s]; ok {
		to[s] = e
	} else {
		delete(to, s)
	}
}

// mayBeKilled reports whether what somebody has yet to get is told by the stored
// archive. It is not of those who joined, or are heard of, before their first
// look, nor if the mark that the entry is in motion has not been stored yet.
func (m *model) mayBeKilled() bool {
	for _, d := range m.members {
		if len(d.unheard) > 0 {
			return false
		}
	}
	for s, a := range m.ledger.sources {
		if len(a.newcomers) > 0 || len(a.waiting) > 0 && m.isStored(s, a.current) {
			return false
		}
	}
	return true
}

// kill is a kill -9, and the start of the next engine: what it lists came in
// before it looked.
func (m *model) kill() {
	for _, w := range m.names {
		if p, d := m.patches[w], m.members[w]; p != nil && !p.landed && d.alive && d.incarnation == p.incarnation && m.choose(2) == 0 {
			m.land(w, p)
		}
	}
	m.tell("the engine is killed; stored is %v", m.stored)
	m.ledger, m.index, m.kept = newLedger(), map[reloader.Workload][]reloader.Source{}, maps.Clone(m.stored)
	m.unheard, m.toRead, m.toReload = map[reloader.Source][]func(){}, map[reloader.Source]bool{}, map[reloader.Workload]bool{}
	m.readings, m.patches = map[reloader.Source][]*reading{}, map[reloader.Workload]*patchUnderWay{}
	m.ledger.lifecycle = m.lifecycle
	m.standsBy = true
	for _, w := range m.names {
		d := m.members[w]
		d.unheard = nil
		if !d.alive {
			continue
		}
		d.known, m.index[w] = d.incarnation, d.on
		m.ledger.enter(w)
		for _, s := range m.ledger.join(w, moment{}, d.on...) {
			m.toRead[s] = true
		}
		for _, s := range m.sources {
			d.lost[s] = true
			if _, ok := m.stored[s]; !ok {
				d.blind[s] = true
				delete(d.adopted, s)
			}
		}
	}
	for _, s := range m.sources {
		if h := m.cluster[s]; h.present && m.depended(s) && m.ledger.relisted(s, h.version) {
			m.toRead[s] = true
		}
	}
}

// takeOver has the engine go on where the archive ends.
func (m *model) takeOver() {
	m.tell("the engine takes over")
	m.standsBy = false
	m.ledger.open(m.kept, len(m.kept) == 0)
	for s := range m.kept {
		if m.ledger.sources[s] == nil {
			delete(m.kept, s)
		}
	}
}

func (m *model) dependents(s reloader.Source) []reloader.Workload {
	return slices.DeleteFunc(slices.Clone(m.names), func(w reloader.Workload) bool { return !slices.Contains(m.index[w], s) })
}

func (m *model) startReload(w reloader.Workload) {
	if m.standsBy || !m.toReload[w] || m.patches[w] != nil {
		return
	}
	delete(m.toReload, w)
	debts := m.ledger.due(w)
	if _, known := m.index[w]; !known || len(debts) == 0 {
		return
	}
	m.tell("reload of %s: %v", w.Name, debts)
	m.isNeeded(w, debts)
	d := m.members[w]
	m.patches[w] = &patchUnderWay{debts: debts, incarnation: d.known, other: d.other}
	if len(d.unheard) > 0 {
		m.patches[w].other = 0
	}
}

// isNeeded checks that nothing is due that the pods have, as far as that can
// be known.
func (m *model) isNeeded(w reloader.Workload, debts []debt) {
	d := m.members[w]
	if len(d.unheard) > 0 || d.doubtful {
		return
	}
	for _, b := range debts {
		if d.lost[b.source] {
			continue
		}
		mark, marked := d.marks[b.source]
		if marked {
			m.require(mark != b.fingerprint, "%s is reloaded twice for %s", w, b.source)
			continue
		}
		h := m.cluster[b.source]
		if b.fingerprint == fingerprint.Deleted && !h.present && !m.mortal {
			deleted := h.states[len(h.states)-1].version
			m.require(d.other < deleted || m.ledger.sources[b.source].written.version == someVersion,
				"%s is reloaded for the end of %s, before its pods started", w, b.source)
		}
		value, present := h.after(d.other)
		// A label edit cannot be told from one of the data.
		had := present && m.cluster[b.source].version <= d.other && value == string(b.fingerprint)
		m.require(!had, "%s is reloaded for %s, with which its pods started", w, b.source)
	}
}

func (m *model) goOnReloading(w reloader.Workload) {
	p, d := m.patches[w], m.members[w]
	if p == nil {
		return
	}
	if !p.landed {
		if m.choose(5) == 1 {
			m.tell("the patch of %s never arrives", w.Name)
			m.loseAnswer(w)
			return
		}
		p.landed = true
		if !d.alive || d.incarnation != p.incarnation {
			delete(m.patches, w) // refused: its uid is not there any more
			return
		}
		m.land(w, p)
		return
	}
	if m.choose(3) == 1 {
		m.tell("the answer to the patch of %s is lost", w.Name)
		m.loseAnswer(w)
		return
	}
	delete(m.patches, w)
	more := m.ledger.paid(w, p.debts)
	m.tell("%s has paid; more: %t", w.Name, more)
	for _, b := range p.debts {
		delete(d.lost, b.source)
		delete(d.blind, b.source)
		delete(d.adopted, b.source)
	}
	if more {
		m.toReload[w] = true
	}
}

// land has the API server take a patch. One that brings no other mark starts no
// pods.
func (m *model) land(w reloader.Workload, p *patchUnderWay) {
	d := m.members[w]
	d.doubtful = d.doubtful || p.other != d.other
	news := false
	for _, b := range p.debts {
		news = news || d.marks[b.source] != b.fingerprint
		d.marks[b.source] = b.fingerprint
	}
	m.tick()
	if news {
		d.started = m.clock
	}
	m.tell("%s is patched, and starts: %t", w.Name, news)
}

// loseAnswer has the engine wait in vain for the answer to a patch: it may have
// arrived or not, and is tried again.
func (m *model) loseAnswer(w reloader.Workload) {
	p, d := m.patches[w], m.members[w]
	delete(m.patches, w)
	m.ledger.doubt(w, p.debts)
	m.toReload[w] = true
	if d.incarnation == p.incarnation {
		for _, b := range p.debts {
			d.lost[b.source] = true
		}
	}
}

func (m *model) quiesce() {
	if m.standsBy {
		m.takeOver()
	}
	for range 1000 {
		m.round()
		if m.quiet() {
			return
		}
	}
	m.require(false, "it never comes to rest")
}

// round has everything go on by a step.
func (m *model) round() {
	for _, s := range m.sources {
		m.hearOfSource(s)
		m.read(s)
		m.look(s, 0)
		m.flush(s)
	}
	for _, w := range m.names {
		m.hearOfWorkload(w)
		m.startReload(w)
		m.goOnReloading(w)
	}
}

func (m *model) quiet() bool {
	for _, s := range m.sources {
		if len(m.unheard[s])+len(m.readings[s]) > 0 || m.toRead[s] {
			return false
		}
	}
	for _, w := range m.names {
		if len(m.members[w].unheard) > 0 || m.toReload[w] || m.patches[w] != nil {
			return false
		}
	}
	return true
}

func (m *model) check() {
	for _, w := range m.names {
		d := m.members[w]
		for _, s := range d.on {
			h := m.cluster[s]
			if !h.present {
				m.checkDeletion(w, s)
				continue
			}
			started, had := h.after(d.started)
			is := fingerprint.Fingerprint(h.value)
			isNew := !had && h.states[0].version > d.started
			m.require(!m.lifecycle.onCreate || m.mortal || !isNew || d.marks[s] == is,
				"%s was there before %s, and is not reloaded", w, s)
			m.require(started == h.value || d.marks[s] == is || d.adopted[s] == is,
				"%s started with %s and was given %q; %s is %s", w, started, d.marks[s], s, h.value)
		}
	}
	for s, a := range m.ledger.sources {
		m.require(m.depended(s), "%s has an account and no dependents", s)
		m.require(a.read, "%s is unread", s)
		m.require(!a.dirty, "%s has to be read, and nobody does", s)
		if a.version != 0 {
			m.require(m.kept[s] == checkpoint.Entry{Fingerprint: a.current, Version: a.version}, "the archive has %v of %s", m.kept[s], s)
		}
		m.require(len(a.waiting)+len(a.applied)+len(a.newcomers) == 0,
			"%s keeps waiting %v, applied %v, newcomers %v", s, a.waiting, a.applied, slices.Collect(maps.Keys(a.newcomers)))
		m.require(a.rolledOut == a.current, "%s is not rolled out", s)
	}
	for s := range m.kept {
		m.require(m.ledger.sources[s] != nil, "the archive has %s, which is forgotten", s)
	}
	for w, d := range m.ledger.workloads {
		_, known := m.index[w]
		m.require(known, "%s is not forgotten", w)
		m.require(len(d.pending) == 0, "%s has something pending", w)
	}
	m.require(len(m.ledger.unread) == 0, "unread on %v", m.ledger.unread)
}

// checkDeletion checks that w has heard of the end of a source, if that counts
// and somebody knew the source before.
func (m *model) checkDeletion(w reloader.Workload, s reloader.Source) {
	d, h, a := m.members[w], m.cluster[s], m.ledger.sources[s]
	if !m.lifecycle.onDelete || len(h.states) == 0 || a.current == "" {
		return
	}
	deleted := h.states[len(h.states)-1].version
	m.require(a.current == fingerprint.Deleted, "nobody has noticed that %s is gone", s)
	m.require(d.started > deleted || d.marks[s] == fingerprint.Deleted, "%s still has %s, which is gone", w, s)
}

func (m *model) require(holds bool, format string, args ...any) {
	m.t.Helper()
	if holds {
		return
	}
	for _, line := range m.story {
		m.t.Log(line)
	}
	require.Fail(m.t, fmt.Sprintf(format, args...))
}
