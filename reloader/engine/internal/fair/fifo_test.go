package fair

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAFIFOKeepsLittle(t *testing.T) {
	var f FIFO[int]
	for i := range 100_000 {
		f.Push(i)
	}
	for i := range 99_990 {
		require.Equal(t, i, f.Head())
		require.Equal(t, i, f.Pop())
	}
	for i := range 1_000_000 { // it is never empty
		f.Push(i)
		f.Pop()
	}
	assert.Equal(t, 10, f.Len())
	assert.LessOrEqual(t, cap(f.items), 200_000, "it grows with what waits, and not with what has passed")
	for f.Len() > 0 {
		f.Pop()
	}
	assert.LessOrEqual(t, cap(f.items), keptRoom, "room of what has waited is given back")
}
