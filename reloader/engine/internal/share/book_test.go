package share

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhoIsKeptInFull(t *testing.T) {
	b := New(10)
	small, first := b.Enter("shop", nil, 4)
	assert.True(t, small.InFull)
	assert.False(t, first)
	large, first := b.Enter("shop", nil, 7)
	assert.False(t, large.InFull, "11 bytes of 10")
	assert.True(t, first, "the episode begins")
	_, first = b.Enter("shop", nil, 100)
	assert.False(t, first)
	other, _ := b.Enter("bank", nil, 10)
	assert.True(t, other.InFull, "another namespace has its own share")

	same, _ := b.Enter("shop", small, 10)
	assert.True(t, same.InFull, "what it had is free for it")
	b.Leave("shop", same)
	large, first = b.Enter("shop", large, 7)
	assert.True(t, large.InFull, "there is room again")
	assert.False(t, first)
	large, first = b.Enter("shop", large, 11)
	assert.False(t, large.InFull)
	assert.False(t, first, "another one is kept by name still")
	b.Leave("nowhere", nil)
}

func TestNothingFitsIntoNoShare(t *testing.T) {
	b := New(-1)
	place, first := b.Enter("shop", nil, 0)
	assert.False(t, place.InFull)
	assert.True(t, first)
}

func TestAnUnlimitedShareHasRoomForEverything(t *testing.T) {
	b := New(Unlimited)
	for range 3 {
		place, _ := b.Enter("shop", nil, Unlimited/4)
		assert.True(t, place.InFull)
	}
}

// FuzzBook holds that what is kept in full of a namespace never costs more than
// the share, and that the book is the sum of what is in it.
func FuzzBook(f *testing.F) {
	f.Add([]byte("\x00\x01\x30\x01\x02\x40\x00\x01\x00\x81\x01\x20"), 64)
	f.Add([]byte("abcdefghijklmnopqrstuvwxyz"), 200)
	f.Fuzz(func(t *testing.T, program []byte, share int) {
		b := New(share)
		type key struct{ namespace, name string }
		in := map[key]*Place{}
		for ; len(program) >= 3; program = program[3:] {
			k := key{string(rune('a' + program[0]%3)), string(rune('a' + program[1]%8))}
			if program[1] >= 128 {
				b.Leave(k.namespace, in[k])
				delete(in, k)
				continue
			}
			byName := 0
			for other, place := range in {
				if other.namespace == k.namespace && !place.InFull {
					byName++
				}
			}
			now, first := b.Enter(k.namespace, in[k], int(program[2]))
			in[k] = now
			require.Equal(t, byName == 0 && !now.InFull, first)
		}
		want := map[string]namespace{}
		for k, place := range in {
			n := want[k.namespace]
			if place.InFull {
				n.used += place.cost
				n.inFull++
			} else {
				n.byName++
			}
			want[k.namespace] = n
			require.LessOrEqual(t, n.used, max(share, 0))
		}
		got := map[string]namespace{}
		for name, n := range b.namespaces {
			got[name] = *n
		}
		maps.DeleteFunc(got, func(_ string, n namespace) bool { return n == namespace{} })
		require.Equal(t, want, got)
	})
}
