package engine

import (
	"sync"

	"k8s-reloader/reloader"
)

// recent remembers the versions in which the latest sources were created,
// also of those that nobody depends on yet: a Deployment and its ConfigMap are
// often applied together, in either order. Its size is bounded.
type recent struct {
	mu       sync.Mutex // guards everything below
	versions map[reloader.Source]uint64
	ring     []reloader.Source
	next     int
}

// recentSize sources created within the time between the creation of a
// workload and the first look at its sources are more than any tool makes.
const recentSize = 1024

func newRecent() *recent {
	return &recent{
		versions: make(map[reloader.Source]uint64, recentSize),
		ring:     make([]reloader.Source, recentSize),
	}
}

// created notes that s was created in that version.
func (r *recent) created(s reloader.Source, version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.versions[s]; again {
		// Pods may have what the first one held.
		r.versions[s] = 0
		return
	}
	delete(r.versions, r.ring[r.next])
	r.ring[r.next] = s
	r.next = (r.next + 1) % len(r.ring)
	r.versions[s] = version
}

// untouched reports whether s is known to be as it was created, for the first
// time in a while.
func (r *recent) untouched(s reloader.Source, version uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	created, ok := r.versions[s]
	return ok && created == version
}
