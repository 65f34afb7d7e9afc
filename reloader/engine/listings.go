package engine

import (
	"sync"

	"k8s-reloader/reloader"
)

// listings have those who want the same list of workloads wait for the one who
// makes it. They are safe for concurrent use.
type listings struct {
	mu sync.Mutex // guards everything below
	of map[listOf]*turnAtList
}

// listOf names a list of workloads.
type listOf struct {
	kind reloader.WorkloadKind
	in   area
}

// turnAtList is a list that is being made, or about to be.
type turnAtList struct {
	mu sync.Mutex // held by who makes it
	// users are all who want it, and made is how often it was made for them; both
	// are guarded by listings.mu.
	users, made int
}

func newListings() *listings { return &listings{of: map[listOf]*turnAtList{}} }

// enter returns when nobody else makes the list, and has others wait until leave is
// called, with whether it was made. first is false if it was made while the caller
// waited: what is not in it is not worth another one.
func (l *listings) enter(list listOf) (first bool, leave func(made bool)) {
	l.mu.Lock()
	turn := l.of[list]
	if turn == nil {
		turn = new(turnAtList)
		l.of[list] = turn
	}
	turn.users++
	before := turn.made
	l.mu.Unlock()

	turn.mu.Lock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return turn.made == before, func(made bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		defer turn.mu.Unlock()
		if made {
			turn.made++
		}
		if turn.users--; turn.users == 0 {
			delete(l.of, list)
		}
	}
}
