package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
)

// story writes stories: each call is one write, a revision and a second later.
type story struct {
	*Story
	revision int64
	// early is by how much the next write comes before its second.
	early time.Duration
}

// soon has the next write come that long after the one before.
func (s *story) soon(after time.Duration) { s.early = time.Second - after }

var (
	begin   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)                                        //nolint:gochecknoglobals // a constant
	app     = reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "app"}       //nolint:gochecknoglobals // a constant
	source  = reloader.Source{Kind: reloader.ConfigMap, Namespace: "shop", Name: "settings"}     //nolint:gochecknoglobals // a constant
	another = reloader.Source{Kind: reloader.Secret, Namespace: "shop", Name: "password"}        //nolint:gochecknoglobals // a constant
	other   = reloader.Source{Kind: reloader.ConfigMap, Namespace: "shop", Name: "not-depended"} //nolint:gochecknoglobals // a constant
)

func (s *story) next() (int64, time.Time) {
	s.revision++
	early := s.early
	s.early = 0
	return s.revision, begin.Add(time.Duration(s.revision)*time.Second - early)
}

// holds gives a source a content.
func (s *story) holds(of reloader.Source, content Content) {
	revision, seen := s.next()
	s.enterSource(of, Version{revision, seen, content})
}

// template gives the app a template; marks are pairs of a name and a value.
func (s *story) template(by, rest string, marks ...string) {
	revision, seen := s.next()
	t := Template{
		Revision: revision, Seen: seen, By: by, Rest: rest, UID: "1", OptedIn: true,
		Sources: []reloader.Source{source, another}, Marks: map[string]string{},
	}
	for i := 0; i < len(marks); i += 2 {
		t.Marks[marks[i]] = marks[i+1]
	}
	s.enterWorkload(app, t)
}

const (
	settings = "STAKATER_SETTINGS_CONFIGMAP"
	password = "STAKATER_PASSWORD_SECRET"
	unwanted = "STAKATER_NOT_DEPENDED_CONFIGMAP"
)

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		happens func(s *story)
		starts  []time.Duration // since begin
		lists   []time.Duration
		want    []Finding
	}{
		"a change that is rolled out once is right": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.template(Manager, "t", settings, "b-t")
			},
		},
		"a change that never comes is lost": {
			happens: func(s *story) { s.holds(source, "B") },
			want:    []Finding{{Lost, app, source, 4, false}},
		},
		"a change and back that is not rolled out is right": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.holds(source, "A")
			},
		},
		"a way back that is not rolled out is lost": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.template(Manager, "t", settings, "b-t")
				s.holds(source, "A")
			},
			want: []Finding{{Lost, app, source, 6, false}},
		},
		"the owner's own rollout brings what was there before": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.template("kubectl", "u")
			},
		},
		"a reload after the owner's own rollout is extra": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.template("kubectl", "u")
				s.template(Manager, "u", settings, "b-u")
			},
			want: []Finding{{Extra, app, source, 6, false}},
		},
		"an engine that started later could not know": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.template("kubectl", "u")
				s.template(Manager, "u", settings, "b-u")
			},
			starts: []time.Duration{20 * time.Second},
			want:   []Finding{{Extra, app, source, 6, true}},
		},
		"an engine whose watch had a gap could not know, which is counted": {
			happens: func(s *story) {
				s.holds(source, "B")
				for i := range 8 {
					s.template("kubectl", fmt.Sprint("u", i))
				}
				s.template(Manager, "u7", settings, "b-u")
			},
			lists: []time.Duration{time.Minute},
			want:  []Finding{{Gap, app, source, 13, false}},
		},
		"but not in a gap before that": {
			happens: func(s *story) {
				s.holds(source, "B")
				for i := range 8 {
					s.template("kubectl", fmt.Sprint("u", i))
				}
				s.template(Manager, "u7", settings, "b-u")
			},
			lists: []time.Duration{time.Second},
			want:  []Finding{{Extra, app, source, 13, false}},
		},
		"a reload without a change is extra": {
			happens: func(s *story) { s.template(Manager, "t", settings, "a-t") },
			want:    []Finding{{Extra, app, source, 4, false}},
		},
		"a second reload for the same content is extra": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.template(Manager, "t", settings, "b-t")
				s.template(Manager, "t", settings, "b-u")
			},
			want: []Finding{{Extra, app, source, 6, false}},
		},
		"a reload that has crossed with the owner's rollout may be repeated by the next engine": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.template("kubectl", "u")
				s.soon(crossing / 2)
				s.template(Manager, "u", settings, "b-t")
				s.template(Manager, "u", settings, "b-u")
			},
			starts: []time.Duration{6500 * time.Millisecond},
			want:   []Finding{{Split, app, source, 6, true}, {Extra, app, source, 7, true}},
		},
		"a reload whose mark tells of the template before the owner's rollout has crossed with that": {
			happens: func(s *story) {
				s.template(Manager, "t", settings, "a-t")
				s.holds(source, "B")
				s.template("kubectl", "u", settings, "a-t")
				s.template(Manager, "u", settings, "b-t")
			},
			want: []Finding{{Extra, app, source, 4, false}, {Split, app, source, 7, false}},
		},
		"but not if its mark tells of the template after it": {
			happens: func(s *story) {
				s.template(Manager, "t", settings, "a-t")
				s.holds(source, "B")
				s.template("kubectl", "u", settings, "a-t")
				s.template(Manager, "u", settings, "b-u")
			},
			want: []Finding{{Extra, app, source, 4, false}, {Extra, app, source, 7, false}},
		},
		"a reload that has crossed with it is not repeated by the same engine": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.template("kubectl", "u")
				s.soon(crossing / 2)
				s.template(Manager, "u", settings, "b-t")
				s.template(Manager, "u", settings, "b-u")
			},
			want: []Finding{{Split, app, source, 6, false}, {Extra, app, source, 7, false}},
		},
		"two changes that came together and were rolled out apart are split": {
			happens: func(s *story) {
				s.holds(source, "B")
				s.holds(another, "Q")
				s.template(Manager, "t", settings, "b-t")
				s.template(Manager, "t", settings, "b-t", password, "q-t")
			},
			want: []Finding{{Split, app, another, 7, false}},
		},
		"a source that comes back with the same content has not changed": {
			happens: func(s *story) {
				s.holds(source, "")
				s.holds(source, "A")
				s.template(Manager, "t", settings, "a-t")
			},
			want: []Finding{{Extra, app, source, 6, false}},
		},
		"a source that comes back with other content has changed": {
			happens: func(s *story) {
				s.holds(source, "")
				s.holds(source, "B")
			},
			want: []Finding{{Lost, app, source, 5, false}},
		},
		"a reload for what the app does not depend on is foreign": {
			happens: func(s *story) {
				s.holds(other, "X")
				s.template(Manager, "t", unwanted, "x-t")
			},
			want: []Finding{{Foreign, app, other, 5, false}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := &story{Story: newStory()}
			s.holds(source, "A")
			s.holds(another, "P")
			s.template("kubectl", "t")
			tc.happens(s)
			var absences Absences
			for _, start := range tc.starts {
				absences.Starts = append(absences.Starts, begin.Add(start))
			}
			for _, list := range tc.lists {
				absences.Lists = append(absences.Lists, begin.Add(list))
			}
			got := s.Judge(absences)
			assert.Equal(t, tc.want, got, s.Report(got))
		})
	}
}

func TestSameMarks(t *testing.T) {
	second := reloader.Workload{Kind: reloader.DaemonSet, Namespace: "shop", Name: "second"}
	elsewhere := reloader.Workload{Kind: reloader.Deployment, Namespace: "bank", Name: "app"}
	tests := map[string]struct {
		marks   map[reloader.Workload]string
		wantErr string
	}{
		"the same content, in templates that differ": {marks: map[reloader.Workload]string{app: "a-t", second: "a-u"}},
		"another content": {marks: map[reloader.Workload]string{app: "a-t", second: "b-t"}, wantErr: "DaemonSet shop/second has b"},
		"another content of another source of that name": {marks: map[reloader.Workload]string{app: "a-t", elsewhere: "b-t"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			for w, mark := range tc.marks {
				// What was there before does not count.
				s.enterWorkload(w, Template{Revision: 1, Marks: map[string]string{settings: "old-" + w.Name}})
				s.enterWorkload(w, Template{Revision: 2, Marks: map[string]string{settings: mark}})
			}
			if tc.wantErr == "" {
				assert.NoError(t, s.SameMarks())
				return
			}
			assert.ErrorContains(t, s.SameMarks(), tc.wantErr)
		})
	}
}

func TestReloadsAreCountedFromARevisionOn(t *testing.T) {
	s := &story{Story: newStory()}
	s.template("kubectl", "t")
	s.template(Manager, "t", settings, "a-t")
	s.template("kubectl", "u", settings, "a-t")
	s.template(Manager, "u", settings, "b-u")
	s.template(Manager, "u", settings, "c-u")
	for after, want := range map[int64]int{0: 3, 1: 3, 2: 2, 4: 1, 5: 0} {
		assert.Len(t, s.Reloads(app, after), want, "after %d", after)
		assert.Equal(t, min(want, 1), s.Reloaded(after), "workloads after %d", after)
	}
}
