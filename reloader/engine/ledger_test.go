package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
)

var (
	web      = reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "web"}
	worker   = reloader.Workload{Kind: reloader.StatefulSet, Namespace: "shop", Name: "worker"}
	agent    = reloader.Workload{Kind: reloader.DaemonSet, Namespace: "shop", Name: "agent"}
	settings = reloader.Source{Kind: reloader.ConfigMap, Namespace: "shop", Name: "settings"}
	password = reloader.Source{Kind: reloader.Secret, Namespace: "shop", Name: "password"}
)

// at is the moment of a version. Versions are far enough apart in time that
// the tolerance between clocks never matters.
func at(version uint64) moment {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return moment{version: version, time: start.Add(time.Duration(version) * 2 * clockTolerance)}
}

// written is a source as it was left by a write of its data in that version.
func written(version uint64, value string) content {
	return content{fingerprint: fingerprint.Fingerprint(value), version: version, written: at(version)}
}

// untouched is a source that nobody has written to since its creation.
func untouched(version uint64, value string) content {
	c := written(version, value)
	c.untouched = true
	return c
}

// book is a ledger with the little of an index that it needs.
type book struct {
	*ledger
	t          *testing.T
	dependents map[reloader.Source][]reloader.Workload
}

func newBook(t *testing.T) *book {
	return &book{ledger: newLedger(), t: t, dependents: map[reloader.Source][]reloader.Workload{}}
}

// before has w depend on the sources since before the engine looked.
func (b *book) before(w reloader.Workload, on ...reloader.Source) []reloader.Source {
	return b.depends(w, moment{}, on...)
}

// starts is the admission of w, or a change of its template, in that version:
// its pods start anew.
func (b *book) starts(w reloader.Workload, version uint64, on ...reloader.Source) []reloader.Source {
	b.enter(w)
	b.refresh(w, at(version))
	return b.depends(w, at(version), on...)
}

func (b *book) depends(w reloader.Workload, since moment, on ...reloader.Source) []reloader.Source {
	for _, s := range on {
		if !slices.Contains(b.dependents[s], w) {
			b.dependents[s] = append(b.dependents[s], w)
		}
	}
	b.enter(w)
	return b.join(w, since, on...)
}

func (b *book) depended(s reloader.Source) bool { return len(b.dependents[s]) > 0 }

// stops has w depend on the sources no longer.
func (b *book) stops(w reloader.Workload, on ...reloader.Source) {
	for _, s := range on {
		b.dependents[s] = slices.DeleteFunc(b.dependents[s], func(d reloader.Workload) bool { return d == w })
	}
	b.part(w, on, b.depended)
}

// ends deletes w.
func (b *book) ends(w reloader.Workload, on ...reloader.Source) {
	for _, s := range on {
		b.dependents[s] = slices.DeleteFunc(b.dependents[s], func(d reloader.Workload) bool { return d == w })
	}
	b.leave(w, on, b.depended)
}

// reads is an event of s, a look at it and what follows from that.
func (b *book) reads(s reloader.Source, c content) (overdue []reloader.Workload) {
	b.t.Helper()
	b.news(s, c.version)
	return b.looks(s, c)
}

// looks is what a worker does that has the key of s.
func (b *book) looks(s reloader.Source, c content) (overdue []reloader.Workload) {
	b.t.Helper()
	due, _ := b.take(s)
	require.True(b.t, due, "%s has to be read", s)
	overdue, outdated := b.look(s, c, b.of(s))
	if !c.absent {
		b.pastOf(s)
		b.lookedBack(s)
	}
	require.False(b.t, outdated, "%s in version %d", s, c.version)
	return overdue
}

// of returns what a look at s asks for.
func (b *book) of(s reloader.Source) func() []reloader.Workload {
	return func() []reloader.Workload { return b.dependents[s] }
}

// overtaken is a look that comes after that of a newer reading.
func (b *book) overtaken(s reloader.Source, c content) {
	b.t.Helper()
	overdue, outdated := b.look(s, c, func() []reloader.Workload {
		assert.Fail(b.t, "nobody is asked for")
		return nil
	})
	assert.True(b.t, outdated)
	assert.Empty(b.t, overdue)
}

// reloads pays everything that w is due.
func (b *book) reloads(w reloader.Workload) {
	b.t.Helper()
	debts := b.due(w)
	require.NotEmpty(b.t, debts, "nothing is due to %s", w)
	require.False(b.t, b.paid(w, debts), "%s is due more", w)
}

// assertDue compares what every workload has yet to get; if that is nothing,
// it makes sure that nothing is left over either.
func (b *book) assertDue(want map[reloader.Workload][]debt) {
	b.t.Helper()
	got := map[reloader.Workload][]debt{}
	for w := range b.workloads {
		if debts := b.due(w); len(debts) > 0 {
			got[w] = debts
		}
	}
	if want == nil {
		want = map[reloader.Workload][]debt{}
	}
	assert.Equal(b.t, want, got)
	if len(want) == 0 {
		b.assertSettled()
	}
}

// assertSettled checks what holds when nothing is on its way.
func (b *book) assertSettled() {
	b.t.Helper()
	for s, a := range b.sources {
		assert.True(b.t, a.read, "%s is unread", s)
		assert.False(b.t, a.dirty, "%s has to be read", s)
		assert.Empty(b.t, a.waiting, "waiting for %s", s)
		assert.Empty(b.t, a.applied, "applied of %s", s)
		assert.Empty(b.t, a.newcomers, "newcomers to %s", s)
		assert.Equal(b.t, a.current, a.rolledOut, "rolled out of %s", s)
	}
	for w, d := range b.workloads {
		assert.Empty(b.t, d.pending, "pending of %s", w)
	}
	assert.Empty(b.t, b.unread)
	assert.True(b.t, b.allRead())
}

func TestWhatIsDue(t *testing.T) {
	due := func(debts ...debt) []debt { return debts }
	tests := map[string]struct {
		happens func(b *book)
		want    map[reloader.Workload][]debt
	}{
		"at a start the content is adopted, whenever it was written": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(90, "a"))
			},
		},
		"at a start a source that is not there is adopted, and so is its creation": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, content{absent: true})
				b.created(settings)
				b.reads(settings, untouched(10, "a"))
			},
		},
		"a change after the first look is due": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a change is due to all, and to nobody any more when all have it": {
			happens: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.reads(settings, written(1, "a"))
				assert.Equal(b.t, []reloader.Workload{web, worker}, b.reads(settings, written(2, "b")))
				b.reloads(web)
				b.reloads(worker)
			},
		},
		"changes of two sources are due together, in a fixed order": {
			happens: func(b *book) {
				b.before(web, settings, password)
				b.reads(settings, written(1, "a"))
				b.reads(password, written(1, "p"))
				b.reads(password, written(2, "q"))
				b.reads(settings, written(3, "b"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"}, debt{password, "q"})},
		},
		"a label edit is no change": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, content{fingerprint: "a", version: 7, written: at(1)})
			},
		},
		"a workload that comes after the last write has it": {
			happens: func(b *book) {
				assert.Equal(b.t, []reloader.Source{settings}, b.starts(web, 5, settings))
				b.reads(settings, written(3, "a"))
			},
		},
		"a write after the admission and before the first look is due": {
			happens: func(b *book) {
				b.starts(web, 5, settings)
				b.reads(settings, written(6, "b"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a label edit after the admission and before the first look is: it might be one of the data": {
			happens: func(b *book) {
				b.starts(web, 5, settings)
				b.reads(settings, content{fingerprint: "a", version: 6, written: moment{version: 6, time: at(3).time}})
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "a"})},
		},
		"a source created after its workload is not": {
			happens: func(b *book) {
				b.starts(web, 5, settings)
				b.reads(settings, untouched(6, "a"))
			},
		},
		"a source created after a look that did not find it is not": {
			happens: func(b *book) {
				b.starts(web, 5, settings)
				b.reads(settings, content{absent: true})
				b.created(settings)
				b.reads(settings, untouched(7, "a"))
			},
		},
		"a source created and edited before the look is": {
			happens: func(b *book) {
				b.starts(web, 5, settings)
				b.reads(settings, content{absent: true})
				b.created(settings)
				b.reads(settings, written(8, "b"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a source that only a pattern asks for, created and edited before the look, is": {
			happens: func(b *book) {
				b.before(web, password)
				b.reads(password, written(1, "p"))
				b.dependents[settings] = []reloader.Workload{web}
				b.created(settings)
				b.reads(settings, written(8, "b"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a source that only a pattern asks for, created and left alone, is not": {
			happens: func(b *book) {
				b.before(web, password)
				b.reads(password, written(1, "p"))
				b.dependents[settings] = []reloader.Workload{web}
				b.created(settings)
				b.reads(settings, untouched(7, "a"))
			},
		},
		"deleted and created again with the same data is no change": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, content{absent: true})
				b.reads(settings, untouched(3, "a"))
			},
		},
		"deleted and created again with other data is a change": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, content{absent: true})
				b.reads(settings, untouched(3, "b"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"what is due when a source is deleted stays due": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.reads(settings, content{absent: true})
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"there and back again within the window is no change": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.reads(settings, written(3, "a"))
			},
		},
		"back again after one of two was reloaded is due to that one": {
			happens: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.reloads(web)
				b.reads(settings, written(3, "a"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "a"})},
		},
		"back again while a reload is under way is due when that is done": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.reads(settings, written(3, "a"))
				assert.True(b.t, b.paid(web, underWay))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "a"})},
		},
		"a further change while a reload is under way is due when that is done": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.reads(settings, written(3, "c"))
				assert.True(b.t, b.paid(web, underWay))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "c"})},
		},
		"there and back again while a reload is under way is due nothing, and the account is closed": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.reads(settings, written(3, "a"))
				b.reads(settings, written(4, "b"))
				assert.False(b.t, b.paid(web, underWay))
			},
		},
		"back again while one of two reloads is under way is due to that one alone": {
			happens: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.reads(settings, written(3, "a"))
				assert.True(b.t, b.paid(web, underWay))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "a"})},
		},
		"a reload without an answer stays due": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.doubt(web, b.due(web))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a reload without an answer that is done again is done": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.doubt(web, b.due(web))
				b.reloads(web)
			},
		},
		"back again after a reload without an answer is due, as that may have landed": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.doubt(web, b.due(web))
				b.reads(settings, written(3, "a"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "a"})},
		},
		"back again during a reload without an answer is due, as that may have landed": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.reads(settings, written(3, "a"))
				assert.Empty(b.t, b.due(web))
				b.doubt(web, underWay)
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "a"})},
		},
		"a reload without an answer is doubted for its workload alone": {
			happens: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.doubt(web, b.due(web))
				b.reads(settings, written(3, "a"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "a"})},
		},
		"a template changed by others ends the doubt": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.doubt(web, b.due(web))
				b.refresh(web, at(3))
			},
		},
		"a template changed by others during a reload without an answer leaves no doubt": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.refresh(web, at(3))
				b.doubt(web, underWay)
			},
		},
		"a workload that leaves during a reload without an answer leaves nothing behind": {
			happens: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.ends(web, settings)
				b.doubt(web, underWay)
				b.reloads(worker)
			},
		},
		"a reload without an answer says nothing of a source that was parted from and joined again meanwhile": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.stops(web, settings)
				require.Equal(b.t, []reloader.Source{settings}, b.starts(web, 5, settings))
				b.doubt(web, underWay)
				b.reads(settings, written(9, "c"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "c"})},
		},
		"a reload with an answer says nothing of a source that was parted from and joined again meanwhile": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.stops(web, settings)
				require.Equal(b.t, []reloader.Source{settings}, b.starts(web, 5, settings))
				b.paid(web, underWay)
				b.reads(settings, written(9, "c"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "c"})},
		},
		"a newcomer after a change has it, while it is still due to others": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				assert.Empty(b.t, b.starts(worker, 3, settings))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a newcomer from before a change that is on its way gets it, too": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(3, "b"))
				assert.Equal(b.t, []reloader.Source{settings}, b.starts(worker, 2, settings))
				b.reads(settings, written(3, "b"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"}), worker: due(debt{settings, "b"})},
		},
		"a newcomer from before a change that all others have gets it alone": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(3, "b"))
				b.reloads(web)
				b.starts(worker, 2, settings)
				b.reads(settings, written(3, "b"))
			},
			want: map[reloader.Workload][]debt{worker: due(debt{settings, "b"})},
		},
		"a newcomer that joins right before the look at a change gets it by that look": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				require.Empty(b.t, b.starts(worker, 2, settings))
				assert.Equal(b.t, []reloader.Workload{web, worker}, b.reads(settings, written(3, "b")))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"}), worker: due(debt{settings, "b"})},
		},
		"a newcomer that joins right after the look at a change gets it by the next look": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				change := written(3, "b")
				assert.Equal(b.t, []reloader.Workload{web}, b.reads(settings, change))
				require.Equal(b.t, []reloader.Source{settings}, b.starts(worker, 2, settings))
				assert.Equal(b.t, []reloader.Workload{worker}, b.reads(settings, change))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"}), worker: due(debt{settings, "b"})},
		},
		"a newcomer of the first of two looks is due what the second shows": {
			happens: func(b *book) {
				b.starts(web, 2, settings)
				assert.Empty(b.t, b.reads(settings, untouched(3, "a")))
				assert.Equal(b.t, []reloader.Workload{web}, b.reads(settings, written(4, "b")))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a look that another overtook does not speak for that one's newcomers": {
			happens: func(b *book) {
				b.starts(web, 2, settings)
				first, second := untouched(3, "a"), written(4, "b")
				assert.Equal(b.t, []reloader.Workload{web}, b.reads(settings, second))
				b.overtaken(settings, first)
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a look that another overtook leaves that one's newcomers to the next": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(4, "b"))
				require.Equal(b.t, []reloader.Source{settings}, b.starts(worker, 3, settings))
				b.overtaken(settings, written(2, "a"))
				assert.Equal(b.t, []reloader.Workload{worker}, b.reads(settings, written(4, "b")))
			},
			want: map[reloader.Workload][]debt{worker: due(debt{settings, "b"})},
		},
		"a change that nobody cares for does not close the next one": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.news(settings, 3)
				due, _ := b.take(settings)
				require.True(b.t, due)
				overdue, outdated := b.look(settings, written(3, "b"), func() []reloader.Workload { return nil })
				require.Empty(b.t, overdue)
				require.False(b.t, outdated)
				assert.Equal(b.t, []reloader.Workload{web}, b.reads(settings, written(4, "c")))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "c"})},
		},
		"a look that another overtook does not close the change for that one's dependents": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				assert.Equal(b.t, []reloader.Workload{web}, b.reads(settings, written(4, "c")))
				b.overtaken(settings, written(3, "b"))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "c"})},
		},
		"who is not in the index joins nothing": {
			happens: func(b *book) {
				assert.Empty(b.t, b.join(web, at(2), settings))
				b.refresh(web, at(2))
				assert.Empty(b.t, b.sources)
				assert.Empty(b.t, b.workloads)
			},
		},
		"who has left joins nothing": {
			happens: func(b *book) {
				b.before(web, settings)
				b.ends(web, settings)
				assert.Empty(b.t, b.join(web, at(2), settings))
				assert.Empty(b.t, b.sources)
				assert.Empty(b.t, b.workloads)
			},
		},
		"to enter again takes nothing from what is due": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.enter(web)
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"who joins again what it waits for goes on waiting": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				// Another entry in a named list: its pods do not start anew.
				b.depends(web, at(3), settings)
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"who opts in after a change has no claim to it": {
			happens: func(b *book) {
				b.before(worker, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.reloads(worker)
				b.depends(web, at(3), settings)
			},
		},
		"a template changed by others after the change brings it": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.refresh(web, at(3))
			},
		},
		"a template changed by others before the change does not": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(3, "b"))
				b.refresh(web, at(2))
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a template changed by others between the change and its look brings it": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.refresh(web, at(3))
				b.reads(settings, written(2, "b"))
			},
		},
		"a template changed by others brings only what was written before": {
			happens: func(b *book) {
				b.before(web, settings, password)
				b.reads(settings, written(1, "a"))
				b.reads(password, written(1, "p"))
				b.reads(settings, written(2, "b"))
				b.reads(password, written(4, "q"))
				b.refresh(web, at(3))
			},
			want: map[reloader.Workload][]debt{web: due(debt{password, "q"})},
		},
		"an older change of a template takes nothing back": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.refresh(web, at(5))
				b.refresh(web, at(2))
				b.reads(settings, written(4, "b"))
			},
		},
		"a workload that leaves is due nothing, and holds up nobody": {
			happens: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.reloads(worker)
				b.ends(web, settings)
			},
		},
		"a workload that leaves during its reload leaves nothing behind": {
			happens: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				underWay := b.due(web)
				b.ends(web, settings)
				assert.False(b.t, b.paid(web, underWay))
				b.reloads(worker)
			},
		},
		"a workload that comes back under its name has what was written before": {
			happens: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.ends(web, settings)
				b.starts(web, 3, settings)
			},
			want: map[reloader.Workload][]debt{worker: due(debt{settings, "b"})},
		},
		"a source that a workload parts from is due to it no more": {
			happens: func(b *book) {
				b.before(web, settings, password)
				b.reads(settings, written(1, "a"))
				b.reads(password, written(1, "p"))
				b.reads(settings, written(2, "b"))
				b.stops(web, settings)
			},
		},
		"a source that was forgotten is adopted when it comes back": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.stops(web, settings)
				assert.NotContains(b.t, b.sources, settings)
				b.starts(web, 9, settings)
				b.reads(settings, written(5, "b"))
			},
		},
		"a source that is forgotten before its first look is not waited for": {
			happens: func(b *book) {
				b.starts(web, 2, settings)
				b.ends(web, settings)
				due, _ := b.take(settings)
				assert.False(b.t, due)
				overdue, outdated := b.look(settings, written(3, "a"), b.of(settings))
				assert.Empty(b.t, overdue)
				assert.False(b.t, outdated)
				assert.Empty(b.t, b.sources)
			},
		},
		"a sweep takes what nobody depends on, due or not": {
			happens: func(b *book) {
				b.before(web, settings, password)
				b.reads(settings, written(1, "a"))
				b.reads(settings, written(2, "b"))
				b.dependents[settings], b.dependents[password] = nil, nil
				b.sweep(b.depended)
				assert.Empty(b.t, b.sources)
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBook(t)
			tc.happens(b)
			b.assertDue(tc.want)
		})
	}
}

func TestAnOlderReadingCountsForNothing(t *testing.T) {
	b := newBook(t)
	b.before(web, settings)
	b.reads(settings, written(1, "a"))
	b.reads(settings, written(5, "b"))
	b.reloads(web)

	b.overtaken(settings, written(4, "a"))
	b.assertDue(nil)
}

// After a restore of the API server's data versions go back. The list that
// follows says so; until then what is read counts for older.
func TestVersionsGoBackAfterARestore(t *testing.T) {
	tests := map[string]struct {
		happens  func(b *book)
		version  uint64
		want     bool
		wantRead content
		wantDue  []debt
	}{
		"to a version with other content: it is due": {
			happens: func(*book) {}, version: 3, want: true,
			wantRead: written(3, "a"), wantDue: []debt{{settings, "a"}},
		},
		"to a version with the same content: nothing is": {
			happens: func(*book) {}, version: 3, want: true,
			wantRead: written(3, "b"),
		},
		"to a version from before what is still due: that is not due any more": {
			happens: func(b *book) { b.reads(settings, written(8, "c")) }, version: 3, want: true,
			wantRead: written(3, "b"),
		},
		"and events were missed: a newer version is news": {
			happens: func(*book) {}, version: 9, want: true,
			wantRead: written(9, "c"), wantDue: []debt{{settings, "c"}},
		},
		"and nothing has changed: the same version is none": {
			happens: func(*book) {}, version: 5,
			wantRead: written(5, "b"),
		},
		"and it was gone: whatever comes is news": {
			happens: func(b *book) { b.reads(settings, content{absent: true}) }, version: 5, want: true,
			wantRead: written(5, "b"),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBook(t)
			b.before(web, settings)
			b.reads(settings, written(5, "b"))
			tc.happens(b)
			if tc.wantRead.version < 5 {
				b.overtaken(settings, tc.wantRead)
			}
			assert.Equal(t, tc.want, b.relisted(settings, tc.version))
			if tc.want {
				b.looks(settings, tc.wantRead)
			}
			due, _ := b.take(settings)
			assert.False(t, due, "it has been read")
			assert.Equal(t, tc.wantDue, b.due(web))
			assert.False(t, b.news(settings, tc.version))
			assert.True(t, b.news(settings, tc.version+1))
		})
	}
}

func TestAListOfWhatWasNeverReadIsNews(t *testing.T) {
	b := newBook(t)
	b.before(web, settings)
	assert.True(t, b.relisted(settings, 0))
	assert.True(t, b.relisted(settings, 5))
}

func TestNotFound(t *testing.T) {
	b := newBook(t)
	b.starts(web, 2, settings, password)
	b.reads(password, written(3, "p"))
	b.reloads(web)
	other := configMap("other")

	require.Equal(t, []reloader.Source{settings}, b.takeUnread(shelfOf(settings)))
	// A list knows nothing of what was read meanwhile, nor of what was forgotten.
	b.notFound([]reloader.Source{settings, password, other})
	assert.False(t, b.exists(settings))
	assert.True(t, b.exists(password))
	assert.False(t, b.exists(other))
	assert.NotContains(t, b.sources, other)
	b.notFound([]reloader.Source{settings})
	b.assertDue(nil)

	b.created(settings)
	b.reads(settings, untouched(4, "a"))
	assert.True(t, b.exists(settings))
	b.assertDue(nil)
	b.reads(settings, content{absent: true})
	assert.False(t, b.exists(settings))
}

func TestAbandon(t *testing.T) {
	b := newBook(t)
	b.before(web, settings)
	b.reads(settings, written(1, "a"))
	b.reads(settings, written(2, "b"))
	// An event comes of a source that nobody asks for any more.
	b.news(password, 5)
	require.False(t, b.allRead())
	b.abandon(password, b.depended)
	b.abandon(password, b.depended)
	b.abandon(settings, b.depended)
	assert.True(t, b.allRead())
	assert.NotContains(t, b.sources, password)
	b.assertDue(map[reloader.Workload][]debt{web: {{settings, "b"}}})

	b.dependents[settings] = nil
	b.abandon(settings, b.depended)
	assert.Empty(t, b.sources)
	b.assertDue(nil)
}

func TestNews(t *testing.T) {
	tests := map[string]struct {
		before  func(b *book)
		version uint64
		want    bool
	}{
		"a source that was never read is": {
			before: func(*book) {}, version: 1, want: true,
		},
		"an event of the version that was read is not": {
			before: func(b *book) { b.reads(settings, written(5, "a")) }, version: 5,
		},
		"an event of an older version is not": {
			before: func(b *book) { b.reads(settings, written(5, "a")) }, version: 4,
		},
		"an event of a newer version is": {
			before: func(b *book) { b.reads(settings, written(5, "a")) }, version: 6, want: true,
		},
		"a deletion is": {
			before: func(b *book) { b.reads(settings, written(5, "a")) }, version: 0, want: true,
		},
		"whatever comes of an absent source is": {
			before: func(b *book) {
				b.reads(settings, written(5, "a"))
				b.reads(settings, content{absent: true})
			}, version: 5, want: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBook(t)
			b.before(web, settings)
			tc.before(b)
			assert.Equal(t, tc.want, b.news(settings, tc.version))
		})
	}
}

func TestUnreadSourcesAreCountedPerShelf(t *testing.T) {
	b := newBook(t)
	other := reloader.Source{Kind: reloader.ConfigMap, Namespace: "bank", Name: "settings"}
	b.before(web, settings, password)
	b.before(worker, settings, other)
	assert.Equal(t, 1, b.unreadOn(shelfOf(settings)))
	assert.Equal(t, 1, b.unreadOn(shelfOf(other)))
	assert.Equal(t, []reloader.Source{password}, b.takeUnread(shelfOf(password)))
	assert.ElementsMatch(t, []reloader.Source{settings, other}, b.known(reloader.ConfigMap))
	assert.False(t, b.allRead())

	b.reads(settings, written(1, "a"))
	b.reads(settings, written(2, "b"))
	b.reads(other, content{absent: true})
	assert.Zero(t, b.unreadOn(shelfOf(settings)))
	assert.False(t, b.allRead())
	b.stops(web, password)
	assert.True(t, b.allRead())
}

func TestAShelfIsSearchedForEverybodyWhoAsked(t *testing.T) {
	on := shelfOf(settings)
	b := newBook(t)
	b.search(web, at(1), on)
	asked := b.searchersOn(on)
	assert.Equal(t, map[reloader.Workload]moment{web: at(1)}, asked)

	// Both come while the search is under way: one is new, one has other patterns.
	b.search(worker, at(2), on)
	b.search(web, at(3), on)
	b.searched(on, asked)
	assert.Equal(t, map[reloader.Workload]moment{web: at(3), worker: at(2)}, b.searchersOn(on))
	assert.False(t, b.allRead())

	b.searched(on, b.searchersOn(on))
	assert.Empty(t, b.searchers)
	assert.True(t, b.allRead())
}

// A workload whose template was changed before a restore is not fresh for ever:
// what is written after it has lower versions.
func TestWhatIsWrittenAfterARestoreIsDueToWhoWasFreshBeforeIt(t *testing.T) {
	tests := map[string]struct {
		restored, now content
		want          []debt
	}{
		"the restore brought other content": {
			restored: written(80, "a"), now: written(80, "a"), want: []debt{{settings, "a"}},
		},
		"it is written to after the restore": {
			restored: written(80, "b"), now: written(85, "c"), want: []debt{{settings, "c"}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBook(t)
			b.starts(web, 100, settings)
			b.reads(settings, written(90, "b"))
			require.Empty(t, b.due(web))
			require.True(t, b.relisted(settings, tc.restored.version))
			b.looks(settings, tc.restored)
			if tc.now != tc.restored {
				b.reads(settings, tc.now)
			}
			assert.Equal(t, tc.want, b.due(web))
		})
	}
}

// What is retained in the archive is what has an account when that is asked:
// an account that is opened before counts.
func TestAllAreThoseOfTheMomentOfAsking(t *testing.T) {
	b := newBook(t)
	all := b.all()
	b.before(web, settings, password)
	assert.ElementsMatch(t, []reloader.Source{settings, password}, slices.Collect(all))
	for range all {
		break
	}
	assert.ElementsMatch(t, []reloader.Source{settings, password}, slices.Collect(all), "it can be asked again")
}

func TestHowLongALookWaitsForItsEvent(t *testing.T) {
	tests := map[string]struct {
		heard, version uint64
		newcomer       bool
		want           []time.Duration // of one look after the other
	}{
		"for one that has not come":         {0, 12, true, []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond}},
		"not for one that has":              {12, 12, true, []time.Duration{0}},
		"not if the source was there first": {0, 9, true, []time.Duration{0}},
		"not if nobody has brought it in":   {0, 12, false, []time.Duration{0}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			l.enter(web)
			if tc.newcomer {
				l.join(web, at(10), settings)
			} else {
				l.join(web, moment{}, settings)
			}
			if tc.heard > 0 {
				l.news(settings, tc.heard)
			}
			for _, want := range tc.want {
				assert.Equal(t, want, l.early(settings, tc.version))
			}
		})
	}
	t.Run("not for ever", func(t *testing.T) {
		l := newLedger()
		l.enter(web)
		l.join(web, at(10), settings)
		for range mostAwaits {
			require.Positive(t, l.early(settings, 12))
		}
		assert.Zero(t, l.early(settings, 12))
	})
}
