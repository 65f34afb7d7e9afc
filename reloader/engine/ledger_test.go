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

// created is a source that nobody has written to since its creation.
func created(version uint64, value string) content {
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
	b.refresh(w, at(version))
	return b.depends(w, at(version), on...)
}

func (b *book) depends(w reloader.Workload, since moment, on ...reloader.Source) []reloader.Source {
	for _, s := range on {
		if !slices.Contains(b.dependents[s], w) {
			b.dependents[s] = append(b.dependents[s], w)
		}
	}
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

// reads is a look at s and what follows from it.
func (b *book) reads(s reloader.Source, c content) (overdue []reloader.Workload) {
	b.t.Helper()
	tell, outdated := b.look(s, c)
	require.False(b.t, outdated, "%s in version %d", s, c.version)
	if !tell {
		return nil
	}
	return b.owe(s, c, slices.Clone(b.dependents[s]))
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
		assert.False(b.t, a.open, "%s is open", s)
		assert.Empty(b.t, a.waiting, "waiting for %s", s)
		assert.Empty(b.t, a.applied, "applied of %s", s)
		assert.Empty(b.t, a.newcomers, "newcomers to %s", s)
		assert.Equal(b.t, a.current, a.rolledOut, "rolled out of %s", s)
	}
	for w, d := range b.workloads {
		assert.Empty(b.t, d.pending, "pending of %s", w)
	}
	for on, n := range b.unread {
		assert.Zero(b.t, n, "unread on %v", on)
	}
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
				b.reads(settings, created(10, "a"))
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
		"a label edit after the admission and before the first look is not": {
			happens: func(b *book) {
				b.starts(web, 5, settings)
				b.reads(settings, content{fingerprint: "a", version: 6, written: moment{version: 6, time: at(3).time}})
			},
		},
		"a source created after its workload is not": {
			happens: func(b *book) {
				b.starts(web, 5, settings)
				b.reads(settings, created(6, "a"))
			},
		},
		"a source created after a look that did not find it is not": {
			happens: func(b *book) {
				b.starts(web, 5, settings)
				b.reads(settings, content{absent: true})
				b.created(settings)
				b.reads(settings, created(7, "a"))
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
				b.reads(settings, created(7, "a"))
			},
		},
		"deleted and created again with the same data is no change": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, content{absent: true})
				b.reads(settings, created(3, "a"))
			},
		},
		"deleted and created again with other data is a change": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				b.reads(settings, content{absent: true})
				b.reads(settings, created(3, "b"))
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
		"a newcomer that joins after the dependents were asked for gets the change by the next look": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				change := written(3, "b")
				tell, _ := b.look(settings, change)
				require.True(b.t, tell)
				asked := slices.Clone(b.dependents[settings])
				require.Equal(b.t, []reloader.Source{settings}, b.starts(worker, 2, settings))
				b.owe(settings, change, asked)
				b.reads(settings, change)
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"}), worker: due(debt{settings, "b"})},
		},
		"a look that another overtook does not speak for that one's newcomers": {
			happens: func(b *book) {
				b.starts(web, 2, settings)
				first, second := created(3, "a"), written(4, "b")
				tell, _ := b.look(settings, first)
				require.True(b.t, tell)
				tell, _ = b.look(settings, second)
				require.True(b.t, tell)
				b.owe(settings, first, b.dependents[settings])
				b.owe(settings, second, b.dependents[settings])
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
		},
		"a look that another overtook does not close the change for that one's dependents": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				ignored, second := written(3, "b"), written(4, "c")
				tell, _ := b.look(settings, ignored)
				require.True(b.t, tell)
				tell, _ = b.look(settings, second)
				require.True(b.t, tell)
				b.owe(settings, ignored, nil)
				b.owe(settings, second, b.dependents[settings])
			},
			want: map[reloader.Workload][]debt{web: due(debt{settings, "c"})},
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
		"a template changed by others between look and owe brings it": {
			happens: func(b *book) {
				b.before(web, settings)
				b.reads(settings, written(1, "a"))
				change := written(2, "b")
				tell, _ := b.look(settings, change)
				require.True(b.t, tell)
				b.refresh(web, at(3))
				assert.Empty(b.t, b.owe(settings, change, b.dependents[settings]))
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
				tell, outdated := b.look(settings, written(3, "a"))
				assert.False(b.t, tell)
				assert.False(b.t, outdated)
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

	tell, outdated := b.look(settings, written(4, "a"))
	assert.False(t, tell)
	assert.True(t, outdated)
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
	assert.Equal(t, []reloader.Source{password}, b.unreadSources(shelfOf(password)))
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
