package checkpoint

import (
	"cmp"
	"hash/maphash"
	"slices"
)

// owner identifies a namespace by a hash of its name. 0 is an unknown namespace:
// an entry contains only a hash of its source.
type owner uint32

// selector chooses the entries that a full shard leaves out. Its order depends on a
// seed of this process, so that a tenant cannot choose names that come first.
type selector struct{ seed maphash.Seed }

func newSelector() selector { return selector{maphash.MakeSeed()} }

// owner returns what stands for a namespace. It is never 0.
func (s selector) owner(namespace string) owner {
	return owner(maphash.String(s.seed, namespace)) | 1 //nolint:gosec // half of a hash will do
}

// fit returns at most room of the records, and how many it left out. Those are
// of the namespaces with most records: none that has fewer than another loses
// one. It reorders records.
func (s selector) fit(records []record, owners map[id]owner, room int) (kept []record, leftOut int) {
	if len(records) <= room {
		return records, 0
	}
	groups := map[owner][]record{}
	for _, r := range records {
		o := owners[id(r[:idSize])]
		groups[o] = append(groups[o], r)
	}
	order := make([]owner, 0, len(groups))
	for o := range groups {
		order = append(order, o)
	}
	slices.SortFunc(order, func(a, b owner) int {
		return cmp.Or(cmp.Compare(len(groups[a]), len(groups[b])), cmp.Compare(a, b))
	})
	leftOut = len(records) - room
	kept = records[:0]
	for i, o := range order {
		group := groups[o]
		// What smaller namespaces do not need is shared by the larger ones.
		share := (room - len(kept)) / (len(order) - i)
		if len(group) > share {
			slices.SortFunc(group, func(a, b record) int {
				return cmp.Compare(maphash.Bytes(s.seed, a[:idSize]), maphash.Bytes(s.seed, b[:idSize]))
			})
			group = group[:share]
		}
		kept = append(kept, group...)
	}
	return kept, leftOut
}
