package checkpoint

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
)

// recordsOwned returns so many records per owner. Those of a greedy one have the first
// IDs of all.
func recordsOwned(sizes map[owner]int, greedy owner) ([]record, map[id]owner) {
	var records []record
	owners := map[id]owner{}
	for o, size := range sizes {
		for n := range size {
			var r record
			if o != greedy {
				r[0] = 0xff
			}
			binary.BigEndian.PutUint32(r[1:], uint32(o))
			binary.BigEndian.PutUint32(r[5:], uint32(n))
			r[idSize] = 1
			records = append(records, r)
			owners[id(r[:idSize])] = o
		}
	}
	return records, owners
}

func TestWhatAFullShardLeavesOut(t *testing.T) {
	tests := map[string]struct {
		sizes       map[owner]int
		room        int
		want        map[owner]int
		wantLeftOut int
	}{
		"nothing, if there is room":                 {map[owner]int{1: 60, 3: 40}, 100, map[owner]int{1: 60, 3: 40}, 0},
		"entries of the only namespace":             {map[owner]int{1: 105}, 100, map[owner]int{1: 100}, 5},
		"entries of the namespace with most of all": {map[owner]int{1: 1000, 3: 20, 5: 10}, 100, map[owner]int{1: 70, 3: 20, 5: 10}, 930},
		"entries of the two largest alike":          {map[owner]int{1: 500, 3: 400, 5: 20}, 100, map[owner]int{1: 40, 3: 40, 5: 20}, 820},
		"entries of sources that nobody has named":  {map[owner]int{0: 200, 3: 20}, 100, map[owner]int{0: 80, 3: 20}, 120},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			records, owners := recordsOwned(tc.sizes, 1)
			s := newSelector()
			kept, leftOut := s.fit(records, owners, tc.room)
			got := map[owner]int{}
			for _, r := range kept {
				got[owners[id(r[:idSize])]]++
			}
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.wantLeftOut, leftOut)

			records, owners = recordsOwned(tc.sizes, 1)
			again, _ := s.fit(records, owners, tc.room)
			assert.ElementsMatch(t, kept, again, "the same ones each time")
		})
	}
}

func TestNobodyCanChooseToBeKept(t *testing.T) {
	first := map[string]bool{}
	for range 20 {
		records, owners := recordsOwned(map[owner]int{1: 10}, 1)
		kept, _ := newSelector().fit(records, owners, 1)
		first[string(kept[0][:idSize])] = true
	}
	assert.Greater(t, len(first), 1, "another order in each process")
}

func TestAFullShardCountsWhatItLeavesOut(t *testing.T) {
	fake := newFake()
	r := loaded(t, fake)
	leftOut := 0
	r.options.LeftOut = func(n int) { leftOut = n }
	victim := reloader.Source{Kind: reloader.Secret, Namespace: "bank", Name: "key"}
	r.Set(victim, entry(1))
	for n := range Shards * maxEntries * 11 / 10 {
		r.Set(reloader.Source{Kind: reloader.ConfigMap, Namespace: "evil", Name: fmt.Sprint("c", n)}, entry(n))
	}
	require.ErrorContains(t, r.Flush(t.Context()), "do not fit")
	assert.InDelta(t, Shards*maxEntries/10, leftOut, Shards*100)

	next := newRig(t, fake)
	next.load(t)
	_, ok := next.Lookup(victim)
	assert.True(t, ok, "the entry of another namespace stays")
	for n := range Shards * maxEntries * 11 / 10 {
		r.Delete(reloader.Source{Kind: reloader.ConfigMap, Namespace: "evil", Name: fmt.Sprint("c", n)})
	}
	require.NoError(t, r.Flush(t.Context()))
	assert.Zero(t, leftOut)
}
