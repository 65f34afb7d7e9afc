package engine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/fingerprint"
)

// pages are an archive.
type pages map[reloader.Source]checkpoint.Entry

var _ archive = pages(nil)

func (p pages) Lookup(s reloader.Source) (checkpoint.Entry, bool) {
	e, ok := p[s]
	return e, ok
}
func (p pages) Set(s reloader.Source, e checkpoint.Entry) { p[s] = e }
func (p pages) Delete(s reloader.Source)                  { delete(p, s) }

func entry(version uint64, value string) checkpoint.Entry {
	return checkpoint.Entry{Fingerprint: fingerprint.Fingerprint(value), Version: version}
}

func TestGoingOnWhereTheArchiveEnds(t *testing.T) {
	due := func(debts ...debt) []debt { return debts }
	tests := map[string]struct {
		archive pages
		// heard is what a start, or an engine that stands by, hears before.
		heard func(b *book)
		// wantReads are the sources that have to be looked at after the opening.
		wantReads   []reloader.Source
		happens     func(b *book)
		want        map[reloader.Workload][]debt
		wantArchive pages
	}{
		"what is as it was need not be read": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
			},
			wantArchive: pages{settings: entry(5, "a")},
		},
		"what is as it was, and changes then, is due": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
			},
			happens:     func(b *book) { b.reads(settings, written(6, "b")) },
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"an event of the version that the archive has is no news": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
			},
			happens:     func(b *book) { assert.False(b.t, b.news(settings, 5)) },
			wantArchive: pages{settings: entry(5, "a")},
		},
		"what changed while nobody ran is due to everyone": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.relisted(settings, 9)
			},
			wantReads: []reloader.Source{settings},
			happens: func(b *book) {
				assert.Equal(b.t, []reloader.Workload{web, worker}, b.looks(settings, written(9, "b")))
			},
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "b"}), worker: due(debt{settings, "b"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"labels edited while nobody ran are looked at, and due to nobody": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 9)
			},
			wantReads: []reloader.Source{settings},
			happens: func(b *book) {
				b.looks(settings, content{fingerprint: "a", version: 9, written: moment{version: 9, time: at(5).time}})
			},
			wantArchive: pages{settings: entry(9, "a")},
		},
		"deleted and created again with the same data while nobody ran is no change": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 9)
			},
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, written(9, "a")) },
			wantArchive: pages{settings: entry(9, "a")},
		},
		"versions that went back while nobody ran are looked at": {
			archive: pages{settings: entry(9, "b")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
			},
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, written(5, "a")) },
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "a"})},
			wantArchive: pages{settings: entry(inMotion, "b")},
		},
		"what is not there at a start keeps its entry": {
			archive:     pages{settings: entry(5, "a")},
			heard:       func(b *book) { b.before(web, settings) },
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, content{absent: true}) },
			wantArchive: pages{settings: entry(5, "a")},
		},
		"what is not there at a start and comes back with the same data is no change": {
			archive:   pages{settings: entry(5, "a")},
			heard:     func(b *book) { b.before(web, settings) },
			wantReads: []reloader.Source{settings},
			happens: func(b *book) {
				b.looks(settings, content{absent: true})
				b.created(settings)
				b.reads(settings, untouched(9, "a"))
			},
			wantArchive: pages{settings: entry(9, "a")},
		},
		"what is not there at a start and comes back with other data is due": {
			archive:   pages{settings: entry(5, "a")},
			heard:     func(b *book) { b.before(web, settings) },
			wantReads: []reloader.Source{settings},
			happens: func(b *book) {
				b.looks(settings, content{absent: true})
				b.created(settings)
				b.reads(settings, untouched(9, "b"))
			},
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"what a list did not hold is due if it comes back with other data, too": {
			archive:   pages{settings: entry(5, "a")},
			heard:     func(b *book) { b.before(web, settings) },
			wantReads: []reloader.Source{settings},
			happens: func(b *book) {
				b.notFound(b.takeUnread(shelfOf(settings)))
				b.created(settings)
				b.reads(settings, untouched(9, "b"))
			},
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"what was deleted while it stood by is not taken for present": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
				b.news(settings, 0)
			},
			wantReads: []reloader.Source{settings},
			happens: func(b *book) {
				b.looks(settings, content{absent: true})
				assert.False(b.t, b.exists(settings))
			},
			wantArchive: pages{settings: entry(5, "a")},
		},
		"what has no entry is adopted": {
			archive: pages{},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 9)
			},
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, written(9, "a")) },
			wantArchive: pages{settings: entry(9, "a")},
		},
		"what has an entry and what has none go their ways": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings, password)
				b.relisted(settings, 5)
				b.relisted(password, 7)
			},
			wantReads:   []reloader.Source{password},
			happens:     func(b *book) { b.looks(password, written(7, "p")) },
			wantArchive: pages{settings: entry(5, "a"), password: entry(7, "p")},
		},
		"who came while it stood by, after the last write, has it": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
				b.starts(worker, 8, settings)
			},
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, written(5, "a")) },
			wantArchive: pages{settings: entry(5, "a")},
		},
		"who came before the last write, while it stood by, gets it with the others": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
				b.starts(worker, 8, settings)
				b.news(settings, 9)
			},
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, written(9, "b")) },
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "b"}), worker: due(debt{settings, "b"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"who came between the last write and the take-over is not due what the others are": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
				b.news(settings, 8)
				b.starts(worker, 9, settings)
			},
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, written(8, "b")) },
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"who was started anew while it stood by has what was written before": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
				b.news(settings, 8)
				b.refresh(web, at(9))
			},
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, written(8, "b")) },
			wantArchive: pages{settings: entry(8, "b")},
		},
		"the entry is in motion while one still waits": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.relisted(settings, 5)
			},
			happens: func(b *book) {
				b.reads(settings, written(6, "b"))
				b.reloads(web)
			},
			want:        map[reloader.Workload][]debt{worker: due(debt{settings, "b"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"the entry is in motion while an answer is missing": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
			},
			happens: func(b *book) {
				b.reads(settings, written(6, "b"))
				b.doubt(web, b.due(web))
			},
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"the entry is in motion while what was in doubt comes back": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
			},
			happens: func(b *book) {
				b.reads(settings, written(6, "b"))
				b.doubt(web, b.due(web))
				b.reads(settings, written(7, "a"))
			},
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "a"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"what goes back before anybody has it ends the motion": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
			},
			happens: func(b *book) {
				b.reads(settings, written(6, "b"))
				b.reads(settings, written(7, "a"))
			},
			wantArchive: pages{settings: entry(7, "a")},
		},
		"what was in motion is due to everyone, whatever it is": {
			archive: pages{settings: entry(inMotion, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.relisted(settings, 7)
			},
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, written(7, "a")) },
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "a"}), worker: due(debt{settings, "a"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"what was in motion stays so until the last has it": {
			archive: pages{settings: entry(inMotion, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.relisted(settings, 7)
			},
			wantReads: []reloader.Source{settings},
			happens: func(b *book) {
				b.looks(settings, written(7, "b"))
				b.reloads(web)
				assert.Equal(b.t, entry(inMotion, "a"), b.archive.(pages)[settings])
				b.reloads(worker)
			},
			wantArchive: pages{settings: entry(7, "b")},
		},
		"who came after the last write is not due what was in motion": {
			archive: pages{settings: entry(inMotion, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 7)
				b.starts(worker, 8, settings)
			},
			wantReads:   []reloader.Source{settings},
			happens:     func(b *book) { b.looks(settings, written(7, "b")) },
			want:        map[reloader.Workload][]debt{web: due(debt{settings, "b"})},
			wantArchive: pages{settings: entry(inMotion, "a")},
		},
		"the entry moves with the last": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.relisted(settings, 5)
			},
			happens: func(b *book) {
				b.reads(settings, written(6, "b"))
				b.reloads(web)
				b.reloads(worker)
			},
			wantArchive: pages{settings: entry(6, "b")},
		},
		"the entry moves when the last that waits leaves": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.before(worker, settings)
				b.relisted(settings, 5)
			},
			happens: func(b *book) {
				b.reads(settings, written(6, "b"))
				b.reloads(web)
				b.ends(worker, settings)
			},
			wantArchive: pages{settings: entry(6, "b")},
		},
		"the version moves with a label edit": {
			archive: pages{settings: entry(5, "a")},
			heard: func(b *book) {
				b.before(web, settings)
				b.relisted(settings, 5)
			},
			happens: func(b *book) {
				b.reads(settings, content{fingerprint: "a", version: 6, written: moment{version: 6, time: at(5).time}})
			},
			wantArchive: pages{settings: entry(6, "a")},
		},
		"a source that is forgotten takes its entry along": {
			archive: pages{settings: entry(5, "a"), password: entry(5, "p")},
			heard: func(b *book) {
				b.before(web, settings, password)
				b.relisted(settings, 5)
				b.relisted(password, 5)
			},
			happens:     func(b *book) { b.stops(web, settings) },
			wantArchive: pages{password: entry(5, "p")},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBook(t)
			tc.heard(b)
			b.open(tc.archive, len(tc.archive) == 0)
			var reads []reloader.Source
			for s, a := range b.sources {
				assert.Equal(t, a.dirty, !a.read || len(a.newcomers) > 0, s)
				if a.dirty {
					reads = append(reads, s)
				}
			}
			assert.ElementsMatch(t, tc.wantReads, reads)
			assert.Equal(t, len(tc.wantReads) == 0, b.allRead())
			if tc.happens != nil {
				tc.happens(b)
			}
			b.assertDue(tc.want)
			assert.Equal(t, tc.wantArchive, tc.archive)
		})
	}
}

// Once when it is adopted, once when it gets in motion, and once when all are
// done.
func TestAnEntryIsWrittenOnlyWhenItMoves(t *testing.T) {
	kept := &counting{pages: pages{}}
	b := newBook(t)
	b.before(web, settings)
	b.before(worker, settings)
	b.open(kept, true)
	b.reads(settings, written(1, "a"))
	assert.Equal(t, 1, kept.sets)
	b.reads(settings, written(2, "b"))
	b.reads(settings, written(3, "c"))
	b.doubt(web, b.due(web))
	b.reloads(worker)
	assert.Equal(t, 2, kept.sets)
	assert.Equal(t, pages{settings: entry(inMotion, "a")}, kept.pages)
	b.reloads(web)
	b.before(agent, settings)
	b.stops(agent, settings)
	b.refresh(web, at(9))
	assert.Equal(t, 3, kept.sets)
	assert.Equal(t, pages{settings: entry(3, "c")}, kept.pages)
}

// What came in for the first time has no entry that could be in motion.
func TestWhatHasNoEntryIsNotInMotion(t *testing.T) {
	kept := pages{}
	b := newBook(t)
	b.open(kept, true)
	b.starts(web, 5, settings)
	b.reads(settings, written(9, "b"))
	assert.Equal(t, []debt{{settings, "b"}}, b.due(web))
	assert.Empty(t, kept)
	b.reloads(web)
	assert.Equal(t, pages{settings: entry(9, "b")}, kept)
}

// goesOn is the next engine, which finds settings in that version.
func goesOn(t *testing.T, kept pages, c content) *book {
	t.Helper()
	b := newBook(t)
	b.before(web, settings)
	b.before(worker, settings)
	b.relisted(settings, c.version)
	b.open(kept, false)
	if due, _ := b.take(settings); due {
		b.look(settings, c, b.of(settings))
		b.pastOf(settings)
		b.lookedBack(settings)
	}
	return b
}

// Content that comes back after an end in the middle of a change is what the
// entry has, and not what everybody has.
func TestContentThatCameBackAfterAnEndInMotionIsDue(t *testing.T) {
	tests := map[string]func(b *book){
		"one of two was reloaded, and nobody ran when it came back": func(b *book) {
			b.reads(settings, written(6, "b"))
			b.reloads(web)
		},
		"the patch was refused at the shutdown": func(b *book) {
			b.reads(settings, written(6, "b"))
			underWay := b.due(web)
			b.reads(settings, written(7, "a"))
			b.doubt(web, underWay)
		},
		"the patch was answered late, which brought what is not there any more": func(b *book) {
			b.reads(settings, written(6, "b"))
			underWay := b.due(web)
			b.reads(settings, written(7, "a"))
			b.paid(web, underWay)
		},
	}
	for name, happens := range tests {
		t.Run(name, func(t *testing.T) {
			kept := pages{settings: entry(5, "a")}
			first := goesOn(t, kept, written(5, "a"))
			happens(first)
			assert.Equal(t, entry(inMotion, "a"), kept[settings])
			assert.Equal(t, []debt{{settings, "a"}}, goesOn(t, kept, written(7, "a")).due(web))
		})
	}
}

// Content that the entry has already is still due to somebody: who started
// before it and joined after the others had it, and who is denied for hours.
func TestWhatIsStillDueOfAnEntrysOwnContentOutlivesARestart(t *testing.T) {
	kept := pages{settings: entry(9, "b")}
	first := newBook(t)
	first.before(web, settings)
	first.relisted(settings, 9)
	first.open(kept, false)
	first.starts(worker, 8, settings)
	first.looks(settings, written(9, "b"))
	require.Equal(t, []debt{{settings, "b"}}, first.due(worker))

	assert.Equal(t, []debt{{settings, "b"}}, goesOn(t, kept, written(9, "b")).due(worker))
}

type counting struct {
	pages
	sets int
}

func (c *counting) Set(s reloader.Source, e checkpoint.Entry) { c.sets++; c.pages.Set(s, e) }

// A source that only a pattern names has no account while it does not exist.
// What the archive has of it is compared with when it comes back.
func TestASourceThatOnlyAPatternNamesComesBackAfterTheStart(t *testing.T) {
	tests := map[string]struct {
		kept     checkpoint.Entry
		comes    content
		want     []debt
		wantKept checkpoint.Entry
	}{
		"with other data":                     {entry(5, "a"), untouched(9, "b"), []debt{{settings, "b"}}, entry(inMotion, "a")},
		"with the same data":                  {entry(5, "a"), untouched(9, "a"), nil, entry(9, "a")},
		"when its last change was on its way": {entry(inMotion, "a"), untouched(9, "a"), []debt{{settings, "a"}}, entry(inMotion, "a")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			kept := pages{settings: tc.kept}
			b := newBook(t)
			b.before(web, password)
			b.open(kept, false)
			b.created(settings)
			b.dependents[settings] = append(b.dependents[settings], web)
			b.reads(settings, tc.comes)
			assert.Equal(t, tc.want, b.due(web))
			assert.Equal(t, tc.wantKept, kept[settings])
		})
	}
}
