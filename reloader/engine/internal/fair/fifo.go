package fair

// FIFO is a queue that uses its memory again, and gives it back after it was long.
// The zero FIFO is empty. It is not safe for concurrent use.
type FIFO[T any] struct {
	items []T
	head  int
}

// keptRoom is how much room an empty FIFO keeps.
const keptRoom = 64

// Len returns how many items there are.
func (f *FIFO[T]) Len() int { return len(f.items) - f.head }

// Push adds an item at the end.
func (f *FIFO[T]) Push(item T) {
	if f.head > 0 && len(f.items) == cap(f.items) && f.head >= len(f.items)/2 {
		// At least half of it is free: moving costs less than it has saved.
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, item)
}

// Head returns the first item. There must be one.
func (f *FIFO[T]) Head() T { return f.items[f.head] }

// Pop takes the first item out. There must be one.
func (f *FIFO[T]) Pop() T {
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
