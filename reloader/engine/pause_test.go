package engine

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
)

func TestWhatAPauseNeedsNext(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	began := kind.Pause{At: new("2026-01-02T03:04:05.678Z")}
	resumed := kind.Pause{Paused: new(false), At: new(""), ResourceVersion: "7"}
	resumedForMore := kind.Pause{Paused: new(false), At: began.At, ResourceVersion: "7"}
	removed := kind.Pause{At: new("")}
	within := pauseView{period: time.Minute, hasAt: true, at: now.Add(-20 * time.Second), version: "7"}
	pausing := func(v pauseView, change func(*pauseView)) pauseView {
		v.paused, v.ours = true, true
		if change != nil {
			change(&v)
		}
		return v
	}
	tests := map[string]struct {
		view     pauseView
		want     *kind.Pause // when nothing is due
		wantDue  *kind.Pause
		wantWait time.Duration
	}{
		"before the first change": {
			view:    pauseView{period: time.Minute, complete: true, version: "7"},
			wantDue: &began,
		},
		"while the first change is rolled out": {
			view:     within,
			wantWait: 40 * time.Second,
		},
		"when it has been rolled out": {
			view:     func() pauseView { v := within; v.complete = true; return v }(),
			want:     &kind.Pause{Paused: new(true), ResourceVersion: "7"},
			wantDue:  &kind.Pause{Paused: new(true), ResourceVersion: "7"},
			wantWait: 40 * time.Second,
		},
		"while it is paused": {
			view:     pausing(within, func(v *pauseView) { v.complete = true }),
			wantWait: 40 * time.Second,
		},
		"when the period is over": {
			view:    pausing(within, func(v *pauseView) { v.at = now.Add(-time.Minute) }),
			want:    &resumed,
			wantDue: &resumedForMore,
		},
		"when the period is over and the rollout is not": {
			view:    func() pauseView { v := within; v.at = now.Add(-time.Minute); return v }(),
			want:    &removed,
			wantDue: &began,
		},
		"when the period was removed": {
			view:    pausing(within, func(v *pauseView) { v.period = 0 }),
			want:    &resumed,
			wantDue: &resumed,
		},
		"when paused-at was removed": {
			view:    pausing(within, func(v *pauseView) { v.hasAt, v.at = false, time.Time{} }),
			want:    &kind.Pause{Paused: new(false), ResourceVersion: "7"},
			wantDue: &resumedForMore,
		},
		"when paused-at cannot be read": {
			view:    pausing(within, func(v *pauseView) { v.at = time.Time{} }),
			want:    &resumed,
			wantDue: &resumedForMore,
		},
		"when paused-at is far in the future": {
			view:    pausing(within, func(v *pauseView) { v.at = now.Add(time.Hour) }),
			want:    &resumed,
			wantDue: &resumedForMore,
		},
		"when another clock is ahead of ours": {
			view:     pausing(within, func(v *pauseView) { v.at = now.Add(10 * time.Second) }),
			wantWait: time.Minute,
		},
		"when somebody has resumed it": {
			view:    func() pauseView { v := within; v.ended, v.complete = true, true; return v }(),
			want:    &removed,
			wantDue: &began,
		},
		"when somebody else has paused it": {
			view: pauseView{period: time.Minute, paused: true, version: "7"},
		},
		"when somebody else has paused it within the period": {
			view:    func() pauseView { v := within; v.paused = true; return v }(),
			want:    &removed,
			wantDue: &removed,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, wait := tc.view.next(now, false)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.wantWait, wait)
			got, wait = tc.view.next(now, true)
			assert.Equal(t, tc.wantDue, got)
			assert.Equal(t, tc.wantWait, wait)
		})
	}
}

func managed(manager, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{Manager: manager, FieldsV1: metav1.NewFieldsV1(fields)}
}

func TestWhoHasPaused(t *testing.T) {
	const paused = `{"f:spec":{"f:paused":{}}}`
	ours, theirs := managed(FieldManager, paused), managed("kubectl-rollout", paused)
	tests := map[string]struct {
		fields   []metav1.ManagedFieldsEntry
		hasAt    bool
		wantOurs bool
	}{
		"we":                                  {[]metav1.ManagedFieldsEntry{managed("kubectl", `{"f:spec":{}}`), ours}, true, true},
		"we, and paused-at is lost":           {[]metav1.ManagedFieldsEntry{ours}, false, true},
		"somebody else":                       {[]metav1.ManagedFieldsEntry{managed(FieldManager, `{"f:spec":{}}`), theirs}, true, false},
		"we and somebody else":                {[]metav1.ManagedFieldsEntry{ours, theirs}, true, false},
		"nobody knows, and paused-at is ours": {nil, true, true},
		"nobody knows":                        {nil, false, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{ManagedFields: tc.fields}}
			if tc.hasAt {
				d.Annotations = map[string]string{annotation.DefaultKeys().PausedAt: "2026-01-02T03:04:05Z"}
			}
			assert.Equal(t, tc.wantOurs, viewPause(d, pauseMarks{}, annotation.DefaultKeys()).ours)
		})
	}
}

func TestWhenADeploymentIsLookedAt(t *testing.T) {
	keys := annotation.DefaultKeys()
	w := reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "web"}
	meta := func(period, at string, owned bool) *metav1.ObjectMeta {
		m := &metav1.ObjectMeta{Annotations: map[string]string{}}
		if period != "" {
			m.Annotations[keys.PausePeriod] = period
		}
		if at != "" {
			m.Annotations[keys.PausedAt] = at
		}
		if owned {
			m.ManagedFields = []metav1.ManagedFieldsEntry{managed(FieldManager, `{"f:spec":{"f:paused":{}}}`)}
		}
		return m
	}
	const first, second = "2026-01-02T03:04:05Z", "2026-01-02T03:05:05Z"
	type event struct {
		meta *metav1.ObjectMeta
		want bool
	}
	tests := map[string]struct {
		events        []event
		wantConcerned bool
		wantEnded     bool
	}{
		"that asks for nothing": {events: []event{{meta("", "", false), false}}},
		"that has not been reloaded yet": {
			events:        []event{{meta("5m", "", false), false}, {meta("6m", "", false), false}},
			wantConcerned: true,
		},
		"until it is paused, and no more": {
			events: []event{
				{meta("5m", first, false), true}, {meta("5m", first, false), true},
				{meta("5m", first, true), true}, {meta("5m", first, true), false},
			},
			wantConcerned: true,
		},
		"when its period changes or goes": {
			events:        []event{{meta("5m", first, true), true}, {meta("6m", first, true), true}, {meta("", first, true), true}},
			wantConcerned: true,
		},
		"when paused-at goes, or all of it": {
			events: []event{
				{meta("5m", first, true), true}, {meta("5m", "", true), true}, {meta("5m", "", true), false},
				{meta("", "", false), true}, {meta("", "", false), false},
			},
		},
		"when somebody has resumed it": {
			events:        []event{{meta("5m", first, true), true}, {meta("5m", first, false), true}, {meta("5m", first, false), true}},
			wantConcerned: true,
			wantEnded:     true,
		},
		"when we have, for the next period": {
			events:        []event{{meta("5m", first, true), true}, {meta("5m", second, false), true}},
			wantConcerned: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPauses(keys)
			for i, e := range tc.events {
				assert.Equal(t, e.want, p.seen(w, e.meta), "event %d", i)
				_, within := e.meta.Annotations[keys.PausedAt]
				assert.Equal(t, within, p.count() == 1, "event %d", i)
			}
			marks, concerned := p.of(w)
			assert.Equal(t, tc.wantConcerned, concerned)
			assert.Equal(t, tc.wantEnded, marks.ended)
			p.gone(w)
			_, concerned = p.of(w)
			assert.False(t, concerned)
			assert.Zero(t, p.count())
			p.seen(w, meta("5m", first, true))
			p.gone(w)
			p.gone(w)
			assert.Zero(t, p.count())
		})
	}
}

// Whoever denies a pause chooses the code: it stays a denial.
func TestAPauseThatIsDeniedIsTriedAgainSlowly(t *testing.T) {
	for name, code := range map[string]int32{"as forbidden": http.StatusForbidden, "as a conflict": http.StatusConflict, "as not found": http.StatusNotFound} {
		t.Run(name, func(t *testing.T) {
			reasons := map[int32]metav1.StatusReason{
				http.StatusForbidden: metav1.StatusReasonForbidden, http.StatusConflict: metav1.StatusReasonConflict, http.StatusNotFound: metav1.StatusReasonNotFound,
			}
			server := play(t, func(request) (int, http.Header, any) {
				return failure(&apierrors.StatusError{ErrStatus: metav1.Status{
					Status: metav1.StatusFailure, Code: code, Reason: reasons[code], Message: `admission webhook "policy.example.com" denied the request: no`,
				}})
			})
			e := newTestEngine(t, server.config, new(told))
			settled(t, e.intake, newApp(web))
			d := newApp(web).object().(*appsv1.Deployment)
			err := e.writePause(t.Context(), web, d, &kind.Pause{Paused: new(true)})
			_, stalled := errors.AsType[stalledError](err)
			assert.True(t, stalled, "%v", err)
		})
	}
}
