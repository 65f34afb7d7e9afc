package room

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// guest is a request in the making.
type guest struct {
	*Place

	ctx context.Context
}

func enter(t *testing.T, r *Room, address string) guest {
	t.Helper()
	ctx, evict := context.WithCancelCause(t.Context())
	t.Cleanup(func() { evict(nil) })
	return guest{r.Enter(address, evict), ctx}
}

// grow waits for a second at most.
func (g guest) grow(by int64) error {
	ctx, cancel := context.WithTimeout(g.ctx, time.Second)
	defer cancel()
	return g.Grow(ctx, by)
}

func (g guest) evicted() bool { return errors.Is(context.Cause(g.ctx), ErrEvicted) }

func TestOneAddressMayHaveAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(100)
		a, b := enter(t, r, "a"), enter(t, r, "a")
		require.NoError(t, a.grow(60))
		require.NoError(t, b.grow(40))
		require.ErrorIs(t, a.grow(1), ErrFull)
		assert.False(t, b.evicted(), "its own address takes nothing from it")
		b.Leave()
		require.NoError(t, a.grow(40))
		a.Leave()
		a.Leave()
		assert.Equal(t, int64(100), r.free)
		assert.Empty(t, r.holders)
	})
}

func TestWhoHasMoreGivesUpItsOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(100)
		var hogs []guest
		for range 10 {
			hogs = append(hogs, enter(t, r, "hog"))
			require.NoError(t, hogs[len(hogs)-1].grow(10))
		}
		require.True(t, hogs[0].Settle())
		other := enter(t, r, "other")
		got := make(chan error)
		go func() { got <- other.grow(25) }()
		synctest.Wait()
		for i, h := range hogs {
			assert.Equal(t, i >= 1 && i <= 3, h.evicted(), "settled ones stay, then the oldest go, and no more than needed: %d", i)
		}
		require.ErrorIs(t, hogs[1].grow(1), ErrEvicted)
		assert.False(t, hogs[1].Settle())
		for _, h := range hogs[1:4] {
			h.Leave()
		}
		require.NoError(t, <-got)
		require.True(t, other.Settle())
	})
}

// A place that is evicted while it waits for more gets nothing of what comes free
// before its sender is told.
func TestWhoIsEvictedWaitsNoMore(t *testing.T) {
	r := New(100)
	first, second := r.Enter("hog", func(error) {}), r.Enter("hog", func(error) {})
	require.NoError(t, first.Grow(t.Context(), 40))
	require.NoError(t, second.Grow(t.Context(), 50))
	more, err := first.ask(20)
	require.NoError(t, err)
	wanted, err := r.Enter("other", func(error) {}).ask(30)
	require.NoError(t, err)
	require.ErrorIs(t, first.Grow(t.Context(), 1), ErrEvicted)

	second.Leave()
	<-wanted.ready
	require.ErrorIs(t, r.withdraw(more), ErrEvicted)
	assert.Equal(t, int64(40), r.holders["hog"].held)
	sound(t, r)
	first.Leave()
	assert.Equal(t, int64(70), r.free)
	assert.Zero(t, r.waiting)
}

func TestAnAddressIsLeftWithAsMuchAsTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(100)
		hogs := []guest{enter(t, r, "hog"), enter(t, r, "hog")}
		for _, h := range hogs {
			require.NoError(t, h.grow(50))
		}
		other := enter(t, r, "other")
		go func() {
			<-hogs[0].ctx.Done()
			hogs[0].Leave()
		}()
		require.NoError(t, other.grow(40))
		second := enter(t, r, "other")
		require.ErrorIs(t, second.grow(20), ErrFull, "it would have 60, and the hog none")
		assert.False(t, hogs[1].evicted())
	})
}

func TestWhoHasTheLeastComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(100)
		hog := enter(t, r, "hog")
		require.NoError(t, hog.grow(100))
		require.True(t, hog.Settle())
		var mu sync.Mutex
		var order []string
		for i, address := range []string{"hog", "hog", "small", "hog", "other"} {
			g := enter(t, r, address)
			name := fmt.Sprint(address, i)
			go func() {
				if g.grow(40) == nil {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, name)
				}
			}()
			synctest.Wait()
		}
		hog.Leave()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		assert.ElementsMatch(t, []string{"small2", "other4"}, order)
	})
}

func TestWhatHasBegunComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(100)
		begun, settled := enter(t, r, "a"), enter(t, r, "a")
		require.NoError(t, begun.grow(10))
		require.NoError(t, settled.grow(90))
		fresh := enter(t, r, "a")
		late, first := make(chan error, 1), make(chan error, 1)
		go func() { late <- fresh.grow(90) }()
		synctest.Wait()
		go func() { first <- begun.grow(90) }()
		synctest.Wait()
		settled.Leave()
		require.NoError(t, <-first)
		require.ErrorIs(t, <-late, ErrFull)
	})
}

func TestTheQueueIsSharedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(100)
		full := enter(t, r, "full")
		require.NoError(t, full.grow(100))
		require.True(t, full.Settle())
		var waiting sync.WaitGroup
		wait := func(address string, want error) {
			g := enter(t, r, address)
			waiting.Go(func() {
				err := g.grow(1)
				g.Leave()
				if want != nil {
					assert.ErrorIs(t, err, want, address)
				}
			})
		}
		for i := range maxWaitingInAll {
			wait(fmt.Sprint("hog", i/maxWaiting), nil)
			synctest.Wait()
		}
		overdue := enter(t, r, "hog0")
		require.ErrorIs(t, overdue.grow(1), ErrFull, "an address has a share of the queue")
		overdue.Leave()
		polite := enter(t, r, "polite")
		got := make(chan error)
		go func() { got <- polite.grow(1) }()
		synctest.Wait()
		assert.Equal(t, maxWaitingInAll, r.waiting)
		full.Leave()
		require.NoError(t, <-got)
		waiting.Wait()
	})
}

// pause takes some time of the test's own clock.
func pause(random *rand.Rand) {
	<-time.After(time.Duration(random.IntN(300)) * time.Millisecond)
}

// sound checks that what is noted of each address can be.
func sound(t *testing.T, r *Room) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.GreaterOrEqual(t, r.free, int64(0))
	waiting := 0
	for address, h := range r.holders {
		assert.GreaterOrEqual(t, h.evicted, int64(0), address)
		assert.LessOrEqual(t, h.evicted, h.held, address)
		waiting += len(h.waiting)
	}
	assert.Equal(t, r.waiting, waiting)
}

// Whatever guests do, the room is whole again when they have left, and was
// never more than full.
func TestNothingIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(1000)
		var guests sync.WaitGroup
		for i := range 200 {
			guests.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(i)))
				for range 20 {
					g := enter(t, r, fmt.Sprint("address", random.IntN(5)))
					for range random.IntN(4) {
						if g.grow(random.Int64N(200)) != nil {
							break
						}
						pause(random)
						sound(t, r)
					}
					if random.IntN(2) == 0 && g.Settle() {
						pause(random)
						assert.False(t, g.evicted())
					}
					g.Leave()
				}
			})
		}
		guests.Wait()
		assert.Equal(t, int64(1000), r.free)
		assert.Zero(t, r.waiting)
		assert.Empty(t, r.holders)
	})
}
