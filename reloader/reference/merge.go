package reference

import (
	"cmp"
	"math"
	"slices"

	"k8s-reloader/reloader"
)

// use is one place of a spec that names a source.
type use struct {
	kind     reloader.SourceKind
	name     string
	how      reloader.How
	optional bool
}

// container is who uses a source: its name and its place in the spec.
type container struct {
	rank  int
	name  string
	inner bool // an init or ephemeral container
}

// nobody uses a source that no container mounts; it comes after the others.
var nobody = container{rank: math.MaxInt}

// identity is what two uses must share to become one reference.
type identity struct {
	kind  reloader.SourceKind
	name  string
	how   reloader.How
	user  string
	inner bool
}

// merger collects uses and joins related ones into one reference.
// The zero value is ready.
type merger struct {
	found []ranked
	at    map[identity]int // in found
}

// ranked is a reference with what it is sorted by.
type ranked struct {
	reloader.Reference
	rank int
	all  bool // some use takes all keys
}

// add adds u by c, for keys of it. No keys, or an empty one, stand for all.
func (m *merger) add(u use, c container, keys []string) {
	if u.name == "" {
		return
	}
	all := len(keys) == 0 || slices.Contains(keys, "")
	id := identity{kind: u.kind, name: u.name, how: u.how, user: c.name, inner: c.inner}
	i, known := m.at[id]
	if !known {
		if m.at == nil {
			m.at = make(map[identity]int)
		}
		i = len(m.found)
		m.at[id] = i
		m.found = append(m.found, ranked{rank: c.rank, Reference: reloader.Reference{
			Kind: u.kind, Name: u.name, Container: c.name, Init: c.inner, How: u.how, Optional: true,
		}})
	}
	r := &m.found[i]
	r.rank = min(r.rank, c.rank)
	r.all = r.all || all
	r.Keys = append(r.Keys, keys...)
	r.Optional = r.Optional && u.optional
}

// references returns the references, sorted; nil if there are none.
func (m *merger) references() []reloader.Reference {
	if len(m.found) == 0 {
		return nil
	}
	slices.SortFunc(m.found, func(a, b ranked) int {
		return cmp.Or(
			cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.rank, b.rank),
			cmp.Compare(a.How, b.How),
		)
	})
	refs := make([]reloader.Reference, len(m.found))
	for i, r := range m.found {
		refs[i] = r.Reference
		if r.all {
			refs[i].Keys = nil
			continue
		}
		slices.Sort(refs[i].Keys)
		refs[i].Keys = slices.Clip(slices.Compact(refs[i].Keys))
	}
	return refs
}
