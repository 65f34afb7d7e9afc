package fair

// fifo is a queue that uses its memory again, and gives it back after it was long.
type fifo[T any] struct {
	items []T
	head  int
}

// keptRoom is how much room an empty fifo keeps.
const keptRoom = 64

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) push(item T) {
	if f.head > 0 && len(f.items) == cap(f.items) && f.head >= len(f.items)/2 {
		// At least half of it is free: moving costs less than it has saved.
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, item)
}

func (f *fifo[T]) pop() T {
	item := f.items[f.head]
	clear(f.items[f.head : f.head+1])
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > keptRoom {
			f.items = nil
		}
	}
	return item
}
