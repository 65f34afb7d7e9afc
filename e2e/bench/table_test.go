package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestQuantile(t *testing.T) {
	samples := []time.Duration{3, 1, 2, 5, 4}
	assert.Equal(t, time.Duration(3), quantile(samples, 0.5))
	assert.Equal(t, time.Duration(5), quantile(samples, 0.99))
	assert.Equal(t, time.Duration(5), quantile(samples, 1))
	assert.Zero(t, quantile(nil, 0.5))
}

func TestATableShowsFigureFloorAndRatio(t *testing.T) {
	var b table
	b.duration("a change", 9*time.Millisecond, 6*time.Millisecond, "2 x")
	b.size("memory", 30<<20, 0, "")
	text := b.markdown()
	assert.Contains(t, text, "| a change | 9.0 ms | 6.0 ms | 1.50 | 2 x |\n")
	assert.Contains(t, text, "| memory | 30.0 MiB | 0.0 MiB |  |  |\n")
}

func TestThePageKeepsWhatIsAroundTheTable(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	require.NoError(t, os.WriteFile(page, []byte("before\n"+beginMarker+"old\n"+endMarker+"after\n"), 0o600))
	require.NoError(t, replaceBetweenMarkers(page, "new\n"))
	require.NoError(t, replaceBetweenMarkers(page, "newer\n"))
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Equal(t, "before\n"+beginMarker+"\nnewer\n\n"+endMarker+"after\n", string(raw))

	require.NoError(t, os.WriteFile(page, []byte("no markers"), 0o600))
	assert.ErrorContains(t, replaceBetweenMarkers(page, "new"), "to write between")
}
