package guard

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatAPanicSaysOfItself(t *testing.T) {
	require.NoError(t, Call(func() error { return nil }))
	plain := errors.New("plain")
	require.ErrorIs(t, Call(func() error { return plain }), plain)
	assert.False(t, Panicked(plain))
	assert.Empty(t, Stack(plain))

	tests := map[string]struct {
		of   func() error
		want string
	}{
		"of the runtime":                  {of: func() error { var none map[string]int; none["a"] = 1; return nil }, want: "panic: assignment to entry in nil map"}, //nolint:staticcheck // on purpose
		"text, which may quote an object": {of: func() error { panic("password=secret") }, want: "panic: a string"},
		"an error, which may quote one":   {of: func() error { panic(plain) }, want: "panic: a *errors.errorString"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := Call(tc.of)
			require.EqualError(t, err, tc.want)
			assert.True(t, Panicked(err))
			assert.Contains(t, Stack(err), "TestWhatAPanicSaysOfItself")
		})
	}
}
