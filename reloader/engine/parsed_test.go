package engine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
)

// watched counts how often the annotations of a workload are parsed. Meanwhile the
// intake's lock must be free, so that a tenant's text, however long it takes,
// blocks no other event; meanwhile is called then, once.
func watched(t *testing.T, in *intake, meanwhile func()) (times *int) {
	t.Helper()
	times = new(int)
	in.parse = func(of reloader.WorkloadKind, a annotationSet, s policy.Settings) parsed {
		*times++
		if assert.True(t, in.mu.TryLock(), "annotations are parsed under the intake's lock") {
			in.mu.Unlock()
		}
		if f := meanwhile; f != nil {
			meanwhile = nil
			f()
		}
		return parseAnnotations(of, a, s)
	}
	return times
}

func TestAnnotationsAreParsedUnderNoLock(t *testing.T) {
	named := func(a *app) { a.annotations[keys.ConfigMapNamed] = "one,two,x[" }
	next := func(a *app) { a.generation++ }
	tests := map[string]struct {
		// before is what is known; nil is nothing.
		before *app
		comes  func(t *testing.T, in *intake, a app)
		now    app
		want   int
	}{
		"a workload with a record": {
			comes: func(_ *testing.T, in *intake, a app) { in.observe(web, a.meta(), at(5)) },
			now:   newApp(web).with(named).recorded(t), want: 1,
		},
		"one without a record, which has to be read": {
			comes: func(_ *testing.T, in *intake, a app) { in.observe(web, a.meta(), at(5)) },
			now:   newApp(web).with(named), want: 0,
		},
		"one that is read": {
			comes: func(t *testing.T, in *intake, a app) {
				in.observe(web, a.meta(), at(5))
				require.True(t, in.supply(a.manifest(t)))
			},
			now: newApp(web).with(named), want: 1,
		},
		"an event that changes nothing": {
			before: new(newApp(web).with(named).recorded(t)),
			comes:  func(_ *testing.T, in *intake, a app) { in.observe(web, a.meta(), at(5)) },
			now:    newApp(web).with(named).recorded(t), want: 0,
		},
		"other annotations of a template that is known": {
			before: new(newApp(web)),
			comes:  func(_ *testing.T, in *intake, a app) { in.observe(web, a.meta(), at(5)) },
			now:    newApp(web).with(named), want: 1,
		},
		"a template that is not known": {
			before: new(newApp(web)),
			comes: func(t *testing.T, in *intake, a app) {
				in.observe(web, a.meta(), at(5))
				require.True(t, in.supply(a.manifest(t)))
			},
			now: newApp(web).with(next).with(named), want: 2,
		},
		"a verifying pass": {
			before: new(newApp(web).with(named)),
			comes:  func(t *testing.T, in *intake, a app) { in.verify(a.manifest(t)) },
			now:    newApp(web).with(named), want: 1,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			if tc.before != nil {
				settled(t, in, *tc.before)
			}
			times := watched(t, in, nil)
			tc.comes(t, in, tc.now)
			assert.Equal(t, tc.want, *times)
		})
	}
}

// What is known of a workload may change while its annotations are parsed.
func TestWhatChangesWhileAnnotationsAreParsed(t *testing.T) {
	before := newApp(web)
	now := before.with(func(a *app) { a.annotations[keys.ConfigMapNamed] = "named" })
	tests := map[string]struct {
		meanwhile func(in *intake)
		// want to be followed, and parsed so often.
		want   []reloader.Source
		parsed int
		open   bool
	}{
		"nothing": {meanwhile: func(*intake) {}, want: []reloader.Source{configMap("named"), settings}, parsed: 1},
		"its template is found to have annotations": {
			meanwhile: func(in *intake) {
				in.workloads[web].annotations = map[string]string{keys.Auto: "true"}
			},
			want: []reloader.Source{configMap("named"), settings}, parsed: 2,
		},
		"it broke, and is read again": {
			meanwhile: func(in *intake) { in.broke(web, nil) },
			want:      []reloader.Source{settings}, parsed: 1, open: true,
		},
		"it was deleted": {meanwhile: func(in *intake) { in.deleted(web) }, parsed: 1, open: true},
		"the event was taken in": {
			meanwhile: func(in *intake) { in.observe(web, now.meta(), at(5)) },
			want:      []reloader.Source{configMap("named"), settings}, parsed: 2,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			settled(t, in, before)
			times := watched(t, in, func() { tc.meanwhile(in) })
			in.observe(web, now.meta(), at(5))
			assert.Equal(t, tc.parsed, *times)
			assert.ElementsMatch(t, tc.want, in.index.DependsOn(web))
			assert.Equal(t, tc.open, in.open(web))
		})
	}
}
