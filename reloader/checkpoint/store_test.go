package checkpoint

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
)

func TestNewRefuses(t *testing.T) {
	good := Options{Namespace: "ops", Name: "c", KeyID: "k"}
	tests := map[string]struct {
		client  ConfigMaps
		edit    func(*Options)
		wantErr string
	}{
		"no client":                 {nil, func(*Options) {}, "checkpoint: no client"},
		"no namespace":              {newFake(), func(o *Options) { o.Namespace = "" }, "checkpoint: no namespace of the checkpoint"},
		"no name":                   {newFake(), func(o *Options) { o.Name = "" }, "checkpoint: no name of the checkpoint"},
		"no key ID":                 {newFake(), func(o *Options) { o.KeyID = "" }, "checkpoint: no ID of the fingerprint key"},
		"a negative flush interval": {newFake(), func(o *Options) { o.FlushInterval = -1 }, "checkpoint: flush interval -1ns is negative"},
		"a negative grace":          {newFake(), func(o *Options) { o.Grace = -time.Second }, "checkpoint: grace -1s is negative"},
		"several things at once": {
			newFake(), func(o *Options) { o.Name, o.KeyID = "", "" },
			"checkpoint: no name of the checkpoint\nno ID of the fingerprint key",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := good
			tc.edit(&o)
			s, err := New(tc.client, o)
			require.EqualError(t, err, tc.wantErr)
			assert.Nil(t, s)
		})
	}
	_, err := New(newFake(), good)
	require.NoError(t, err)
}

func TestLookupReturnsWhatWasSet(t *testing.T) {
	r := newRig(t, newFake())
	_, ok := r.Lookup(source(1))
	assert.False(t, ok)

	r.Set(source(1), entry(1))
	r.Set(source(2), entry(2))
	r.Set(source(1), entry(3))
	got, ok := r.Lookup(source(1))
	assert.True(t, ok)
	assert.Equal(t, entry(3), got)

	r.Delete(source(1))
	r.Delete(source(7))
	_, ok = r.Lookup(source(1))
	assert.False(t, ok)
	_, ok = r.Lookup(source(2))
	assert.True(t, ok)
}

func TestSetForgetsWhatItCannotKeep(t *testing.T) {
	r := newRig(t, newFake())
	r.Set(source(1), entry(1))
	r.Set(source(1), Entry{Fingerprint: "sha256:abc", Version: 2})
	_, ok := r.Lookup(source(1))
	assert.False(t, ok, "an old entry would roll the workloads at the next start")
	assert.Len(t, r.logs.all(), 1)
}

func TestRetainForgetsTheDead(t *testing.T) {
	r := loaded(t, newFake())
	var live []reloader.Source
	for n := range 1000 {
		r.Set(source(n), entry(n))
		if n%3 == 0 {
			live = append(live, source(n))
		}
	}
	live = append(live, source(5000))
	require.NoError(t, r.Flush(t.Context()))

	assert.Equal(t, 666, r.Retain(slices.Values(live)))
	for n := range 1000 {
		_, ok := r.Lookup(source(n))
		assert.Equal(t, n%3 == 0, ok, n)
	}
	assert.Zero(t, r.Retain(slices.Values(live)))

	require.NoError(t, r.Flush(t.Context()))
	other := newRig(t, r.fake)
	assert.Equal(t, 334, other.load(t).Entries)
}

func TestRetainKeepsWhatIsSetMeanwhile(t *testing.T) {
	r := newRig(t, newFake())
	r.Set(source(1), entry(1))
	r.Set(source(2), entry(2))
	live := func(func(reloader.Source) bool) {
		r.Set(source(3), entry(3))
		r.Set(source(2), entry(2)) // the same again
	}
	assert.Equal(t, 1, r.Retain(live))
	for n, want := range map[int]bool{1: false, 2: true, 3: true} {
		_, ok := r.Lookup(source(n))
		assert.Equal(t, want, ok, n)
	}
	assert.Equal(t, 2, r.Retain(func(func(reloader.Source) bool) {}), "touched does not stick")
}

// TestConcurrentUse is for the race detector, and holds that the ConfigMaps end
// up with what is in memory.
func TestConcurrentUse(t *testing.T) {
	r := loaded(t, newFake())
	stop := r.run(t)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range 500 {
				k := n*4 + worker
				r.Set(source(k), entry(k))
				if e, ok := r.Lookup(source(k)); ok && e != entry(k) {
					t.Errorf("source %d has %v", k, e)
				}
				switch {
				case n%10 == 0:
					r.Delete(source(k))
				case n%100 == 1:
					r.clock.Step(time.Second)
				case n%200 == 2:
					r.Retain(func(yield func(reloader.Source) bool) {
						for k := range 2000 {
							if !yield(source(k)) {
								return
							}
						}
					})
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, stop())

	other := newRig(t, r.fake)
	assert.Equal(t, 1800, other.load(t).Entries)
	for n := range r.shards {
		assert.Equal(t, r.shards[n].entries, other.shards[n].entries)
	}
}
