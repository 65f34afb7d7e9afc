package podrunner

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAddressesAreNotSharedAndReusedLate(t *testing.T) {
	a, err := newAddresses(t.Context())
	require.NoError(t, err)
	defer a.close()
	b, err := newAddresses(t.Context())
	require.NoError(t, err)
	defer b.close()
	assert.NotEqual(t, a.network, b.network, "two runners")

	seen := map[string]bool{}
	first, err := a.take()
	require.NoError(t, err)
	seen[first] = true
	a.release(first)
	for range 252 {
		address, err := a.take()
		require.NoError(t, err)
		assert.False(t, seen[address], address)
		seen[address] = true
	}
	again, err := a.take()
	require.NoError(t, err)
	assert.Equal(t, first, again, "the released one comes last")
	_, err = a.take()
	require.Error(t, err)
}
