package room

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// maxWaiting bounds the requests of one address that wait, and maxWaitingInAll
// those of all. Each costs some memory while it waits.
const (
	maxWaiting      = 256
	maxWaitingInAll = 1024
)

// Why there is no place for a request.
var (
	// ErrFull means that no memory came free in time.
	ErrFull = errors.New("too many requests at a time")
	// ErrEvicted means that another address has got the place.
	ErrEvicted = errors.New("too slow while others wait")
)

// Room is an amount of memory. It is safe for concurrent use.
type Room struct {
	mu sync.Mutex
	// All fields below need mu. Nothing is called out under it.
	free    int64
	waiting int
	holders map[string]*holder
	turn    uint64
	evicted []*Place // whose senders are notified by unlock
}

// holder is an address that has places, or waits for one.
type holder struct {
	places int
	// held is what its places have, evicted what of that is about to be free.
	held, evicted int64
	// receiving are its places that may be taken away, oldest first.
	receiving []*Place
	waiting   []*waiter
}

// waiter is a place that wants more.
type waiter struct {
	place *Place
	want  int64
	turn  uint64
	ready chan struct{} // closed when it has got it
}

// Place is the part of a Room that one request has. Its methods are for one
// goroutine. Leave has to be called.
type Place struct {
	room    *Room
	address string
	evict   context.CancelCauseFunc

	// The fields below need the room's mu.
	held int64
	gone bool // evicted
	left bool
}

// New returns a Room of that many bytes.
func New(size int64) *Room {
	return &Room{free: size, holders: make(map[string]*holder)}
}

// Enter returns an empty place for a request from the address. evict is called
// with ErrEvicted if the place goes to another address: at most once, and not for
// one that is settled.
func (r *Room) Enter(address string, evict context.CancelCauseFunc) *Place {
	r.mu.Lock()
	defer r.unlock()
	p := &Place{room: r, address: address, evict: evict}
	h := r.holders[address]
	if h == nil {
		h = new(holder)
		r.holders[address] = h
	}
	h.places++
	h.receiving = append(h.receiving, p)
	return p
}

// unlock releases mu and notifies the evicted places.
func (r *Room) unlock() {
	evicted := r.evicted
	r.evicted = nil
	r.mu.Unlock()
	for _, p := range evicted {
		p.evict(ErrEvicted)
	}
}

// Grow adds to what the place has, and waits for that until ctx is done, as it
// has to be when the place is evicted. The error is ErrFull or ErrEvicted; the
// place then has what it had.
func (p *Place) Grow(ctx context.Context, by int64) error {
	w, err := p.ask(by)
	if err != nil {
		return err
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		return p.room.withdraw(w)
	}
}

// ask gets in the queue. It does not wait if there is room.
func (p *Place) ask(by int64) (*waiter, error) {
	r := p.room
	r.mu.Lock()
	defer r.unlock()
	h := r.holders[p.address]
	switch {
	case p.gone:
		return nil, ErrEvicted
	case len(h.waiting) >= maxWaiting:
		return nil, ErrFull
	case r.waiting >= maxWaitingInAll && !r.crowdedOutLocked(h):
		return nil, ErrFull
	}
	r.turn++
	w := &waiter{place: p, want: by, turn: r.turn, ready: make(chan struct{})}
	// A request that already holds memory comes first: when it finishes, that
	// memory is free.
	at := len(h.waiting)
	if p.held > 0 {
		at = slices.IndexFunc(h.waiting, func(w *waiter) bool { return w.place.held == 0 })
		if at < 0 {
			at = len(h.waiting)
		}
	}
	h.waiting = slices.Insert(h.waiting, at, w)
	r.waiting++
	r.shareLocked()
	return w, nil
}

// withdraw ends a waiting. It may have got what it waited for by now.
func (r *Room) withdraw(w *waiter) error {
	r.mu.Lock()
	defer r.unlock()
	select {
	case <-w.ready:
		return nil
	default:
	}
	h := r.holders[w.place.address]
	if at := slices.Index(h.waiting, w); at >= 0 {
		r.dropLocked(h, at)
	}
	r.shareLocked()
	if w.place.gone {
		return ErrEvicted
	}
	return ErrFull
}

// dropLocked takes one who waits out of the queue.
func (r *Room) dropLocked(h *holder, at int) {
	h.waiting = slices.Delete(h.waiting, at, at+1)
	r.waiting--
}

// Settle has the place kept until Leave: all has arrived. It reports false if it
// went to another address before.
func (p *Place) Settle() bool {
	p.room.mu.Lock()
	defer p.room.unlock()
	if p.gone {
		return false
	}
	h := p.room.holders[p.address]
	h.receiving = without(h.receiving, p)
	return true
}

// Leave gives all of the place back. More than one call is one.
func (p *Place) Leave() {
	r := p.room
	r.mu.Lock()
	defer r.unlock()
	if p.left {
		return
	}
	h := r.holders[p.address]
	h.held -= p.held
	r.free += p.held
	if p.gone {
		h.evicted -= p.held
	}
	p.held, p.left = 0, true
	h.receiving = without(h.receiving, p)
	if h.places--; h.places == 0 {
		delete(r.holders, p.address)
	}
	r.shareLocked()
}

// shareLocked gives free memory to waiting requests.
func (r *Room) shareLocked() {
	for r.waiting > 0 {
		h := r.nextLocked()
		w := h.waiting[0]
		if w.want > r.free {
			r.makeRoomLocked(h, w.want)
			return // leave calls it again
		}
		r.dropLocked(h, 0)
		r.free -= w.want
		h.held += w.want
		w.place.held += w.want
		close(w.ready)
	}
}

// nextLocked returns the waiting holder that has the least; of those, the one
// that waits the longest.
func (r *Room) nextLocked() *holder {
	var next *holder
	for _, h := range r.holders {
		if len(h.waiting) == 0 {
			continue
		}
		if next == nil || h.held < next.held || h.held == next.held && h.waiting[0].turn < next.waiting[0].turn {
			next = h
		}
	}
	return next
}

// makeRoomLocked takes places of those who have the most away, as long as that
// is more than h would have with what it wants.
func (r *Room) makeRoomLocked(h *holder, want int64) {
	missing := want - r.free
	for _, other := range r.holders {
		missing -= other.evicted
	}
	for missing > 0 {
		var most *holder
		for _, other := range r.holders {
			if other != h && len(other.receiving) > 0 && (most == nil || other.held-other.evicted > most.held-most.evicted) {
				most = other
			}
		}
		if most == nil || most.held-most.evicted <= h.held+want {
			return
		}
		p := most.receiving[0]
		r.evictLocked(most, p)
		missing -= p.held
	}
}

// evictLocked takes a place away. Its memory is free when its request has left, and
// it gets no more: what it waits for is not given to it meanwhile.
func (r *Room) evictLocked(h *holder, p *Place) {
	p.gone = true
	if at := slices.IndexFunc(h.waiting, func(w *waiter) bool { return w.place == p }); at >= 0 {
		r.dropLocked(h, at)
	}
	h.evicted += p.held
	h.receiving = without(h.receiving, p)
	r.evicted = append(r.evicted, p)
}

// crowdedOutLocked makes room in the queue for one more of h, if another has
// more in it: the newest of the one with the most gives up.
func (r *Room) crowdedOutLocked(h *holder) bool {
	var most *holder
	for _, other := range r.holders {
		if most == nil || len(other.waiting) > len(most.waiting) {
			most = other
		}
	}
	if len(most.waiting) <= len(h.waiting)+1 {
		return false
	}
	r.evictLocked(most, most.waiting[len(most.waiting)-1].place)
	return true
}

func without(places []*Place, p *Place) []*Place {
	if at := slices.Index(places, p); at >= 0 {
		return slices.Delete(places, at, at+1)
	}
	return places
}
