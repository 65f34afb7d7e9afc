package engine

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/scope"
)

func TestADeletionIsOneMoreContent(t *testing.T) {
	gone := content{absent: true}
	tests := map[string]struct {
		happens func(b *book)
		want    fingerprint.Fingerprint
	}{
		"nothing was there": {
			happens: func(b *book) { b.deleted(settings, 3); b.looks(settings, gone) },
		},
		"it is gone": {
			happens: func(b *book) { b.reads(settings, written(2, "a")); b.deleted(settings, 3); b.looks(settings, gone) },
			want:    fingerprint.Deleted,
		},
		"it is gone before its event": {
			happens: func(b *book) {
				b.starts(web, 1, settings)
				b.reads(settings, written(2, "a"))
				b.reads(settings, content{absent: true, version: 3})
				b.deleted(settings, 4)
				b.looks(settings, gone)
			},
			want: fingerprint.Deleted,
		},
		"it is gone and comes back": {
			happens: func(b *book) {
				b.reads(settings, written(2, "a"))
				b.deleted(settings, 3)
				b.looks(settings, gone)
				b.reads(settings, written(4, "a"))
			},
		},
		"it is gone, and the pods start after that": {
			happens: func(b *book) {
				b.reads(settings, written(2, "a"))
				b.deleted(settings, 3)
				b.looks(settings, gone)
				b.starts(web, 4, settings)
			},
		},
		"it comes back after a backup was restored": {
			happens: func(b *book) {
				b.reads(settings, written(2, "a"))
				b.deleted(settings, 9)
				b.looks(settings, gone)
				b.relisted(settings, 3)
				b.looks(settings, written(3, "a"))
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBook(t)
			b.lifecycle.onDelete = true
			b.before(web, settings)
			tc.happens(b)
			var want []debt
			if tc.want != "" {
				want = []debt{{settings, tc.want}}
			}
			assert.Equal(t, want, b.due(web))
		})
	}
}

func TestAReadingOfBeforeTheEndIsRefused(t *testing.T) {
	b := newBook(t)
	b.lifecycle.onDelete = true
	b.before(web, settings)
	b.reads(settings, written(2, "a"))
	b.deleted(settings, 9)
	b.looks(settings, content{absent: true})
	_, outdated := b.look(settings, written(5, "a"), b.of(settings))
	assert.True(t, outdated)
	_, outdated = b.look(settings, written(10, "a"), b.of(settings))
	assert.False(t, outdated)
}

// What a source says of itself holds beyond its end.
func TestAnEndThatIsIgnored(t *testing.T) {
	for _, annotations := range []map[string]string{nil, {keys.Ignore: "true"}, {keys.Ignore: "yes"}, {keys.Match: "true"}} {
		server := play(t, func(request) (int, http.Header, any) {
			return failure(apierrors.NewNotFound(sourceResource(reloader.ConfigMap).GroupResource(), "settings"))
		})
		e := newTestEngine(t, server.config, new(told))
		e.ledger.lifecycle.onDelete = true
		e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
		object := configMapObject("settings", "5", "1")
		object.Annotations = annotations
		require.NoError(t, e.lookAt(t.Context(), settings, e.digest(&object)))
		e.sourceDeleted(settings, 6)
		require.NoError(t, readQueued(t, e))
		assert.Equal(t, annotations[keys.Ignore] == "true", len(e.ledger.due(web)) == 0, "%v", annotations)
		assert.Equal(t, wishes{match: annotations[keys.Match] == "true", ignore: annotations[keys.Ignore] == "true"},
			wishesOf(e.ledger.wishes(settings).annotations(keys), keys))
	}
}

// Nobody hears of what becomes of a source that labels leave alone: that a list
// does not have it says nothing of its end.
func TestTheEndOfASourceThatIsNotSelected(t *testing.T) {
	selector, err := scope.ParseSelector("reloader=on")
	require.NoError(t, err)
	on := map[string]string{"reloader": "on"}
	type state struct {
		version, value string // without a version it is not there
		labels         map[string]string
		how            func(t *testing.T, f *feed, meta *metav1.PartialObjectMetadata)
	}
	seen := func(t *testing.T, f *feed, meta *metav1.PartialObjectMetadata) { require.NoError(t, f.Add(meta)) }
	deleted := func(t *testing.T, f *feed, meta *metav1.PartialObjectMetadata) { require.NoError(t, f.Delete(meta)) }
	missed := func(t *testing.T, f *feed, _ *metav1.PartialObjectMetadata) {
		require.NoError(t, f.Replace(nil, "100"))
	}
	tests := map[string]struct {
		then []state
		want bool
	}{
		"it is selected, and gone when a list comes": {[]state{{how: missed}}, true},
		"it is not, and stays":                       {[]state{{"6", "1", nil, deleted}, {"6", "1", nil, missed}}, false},
		"it is not, and is gone when a list comes":   {[]state{{"6", "1", nil, deleted}, {how: missed}}, false},
		"it is not, and is gone when two lists come": {[]state{{"6", "1", nil, deleted}, {how: missed}, {how: missed}}, false},
		"it comes back as it was":                    {[]state{{"6", "1", nil, deleted}, {how: missed}, {"8", "1", on, seen}}, false},
		"it comes back as something else":            {[]state{{"6", "1", nil, deleted}, {how: missed}, {"8", "2", on, seen}}, true},
		"it is selected again, and gone then":        {[]state{{"6", "1", nil, deleted}, {"7", "1", on, seen}, {how: missed}}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			now := state{version: "5", value: "1", labels: on}
			object := func() corev1.ConfigMap {
				o := configMapObject("settings", now.version, now.value)
				o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
				o.Labels = now.labels
				return o
			}
			server := play(t, func(request) (int, http.Header, any) {
				if now.version == "" {
					return failure(apierrors.NewNotFound(corev1.Resource("configmaps"), "settings"))
				}
				return http.StatusOK, nil, object()
			})
			e := newTestEngine(t, server.config, new(told))
			e.scope.SourceSelector = selector
			e.ledger.lifecycle.onDelete = true
			e.intake.observe(web, newApp(web).recorded(t).meta(), moment{})
			f := e.sourceFeed(reloader.ConfigMap, area{})
			require.NoError(t, readQueued(t, e))
			for _, now = range tc.then {
				now.how(t, f, &metav1.PartialObjectMetadata{ObjectMeta: object().ObjectMeta})
				require.NoError(t, readQueued(t, e))
			}
			assert.Equal(t, tc.want, len(e.ledger.due(web)) > 0)
		})
	}
}

func TestWhatWasCreatedWhileNoEngineRan(t *testing.T) {
	born := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		lifecycle lifecycle
		created   time.Duration // after the workload
		want      bool
	}{
		"later than its workload, and that counts": {lifecycle{onCreate: true, afterRestart: true}, 10 * time.Second, true},
		"together with it":                         {lifecycle{onCreate: true, afterRestart: true}, clockTolerance, false},
		"earlier":                                  {lifecycle{onCreate: true, afterRestart: true}, -time.Hour, false},
		"later, and only what is seen counts":      {lifecycle{onCreate: true}, 10 * time.Second, false},
		"later, and creation does not count":       {lifecycle{afterRestart: true}, 10 * time.Second, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, unreachable(t), new(told))
			e.ledger.lifecycle = tc.lifecycle
			meta := newApp(web).recorded(t).meta()
			meta.CreationTimestamp = metav1.Time{Time: born}
			e.intake.observe(web, meta, moment{})
			event(e, "settings", "9", listed)
			e.ledger.open(pages{password: entry(1, "p")}, false)
			object := configMapObject("settings", "9", "1")
			object.CreationTimestamp = metav1.Time{Time: born.Add(tc.created)}
			taken, _ := e.ledger.take(settings)
			require.True(t, taken)
			require.NoError(t, e.lookAt(t.Context(), settings, e.digest(&object)))
			assert.Equal(t, tc.want, len(e.ledger.due(web)) > 0)
		})
	}
}
