package engine

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
)

func TestUntouched(t *testing.T) {
	tests := map[string]struct {
		happens func(*recent)
		version uint64
		want    bool
	}{
		"as it was created":                 {func(r *recent) { r.created(settings, 5) }, 5, true},
		"written to since":                  {func(r *recent) { r.created(settings, 5) }, 6, false},
		"created again, as it is now":       {func(r *recent) { r.created(settings, 5); r.created(settings, 9) }, 9, false},
		"created a third time, as it is":    {func(r *recent) { r.created(settings, 5); r.created(settings, 9); r.created(settings, 12) }, 12, false},
		"created again, as it was before":   {func(r *recent) { r.created(settings, 5); r.created(settings, 9) }, 5, false},
		"never seen being created":          {func(*recent) {}, 5, false},
		"never seen, and without a version": {func(*recent) {}, 0, false},
		"another one was created":           {func(r *recent) { r.created(password, 5) }, 5, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRecent()
			tc.happens(r)
			assert.Equal(t, tc.want, r.untouched(settings, tc.version))
		})
	}
}

func TestRecentForgetsTheOldestFirst(t *testing.T) {
	named := func(i int) reloader.Source {
		return reloader.Source{Kind: reloader.Secret, Namespace: "shop", Name: strconv.Itoa(i)}
	}
	r := newRecent()
	for round := range 3 {
		for i := range recentSize {
			r.created(named(round*recentSize+i), uint64(i))
		}
		assert.Len(t, r.versions, recentSize)
	}
	last := 3*recentSize - 1
	assert.True(t, r.untouched(named(last), recentSize-1))
	assert.True(t, r.untouched(named(2*recentSize+1), 1))

	// To be created again takes no room.
	r.created(named(last), 9)
	assert.False(t, r.untouched(named(last), 9))
	assert.Len(t, r.versions, recentSize)
	assert.True(t, r.untouched(named(2*recentSize), 0))

	r.created(named(last+1), 7)
	assert.False(t, r.untouched(named(2*recentSize), 0))
	assert.True(t, r.untouched(named(2*recentSize+1), 1))
	assert.True(t, r.untouched(named(last+1), 7))
	assert.Len(t, r.versions, recentSize)
}
