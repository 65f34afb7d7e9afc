package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/cluster/binaries"
)

func TestWhatIsGeneratedIsUpToDate(t *testing.T) {
	root, err := binaries.Root()
	require.NoError(t, err)
	files, err := generate(t.Context(), root)
	require.NoError(t, err)
	for path, want := range files {
		got, err := os.ReadFile(filepath.Join(root, path))
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), "%s is out of date: run make manifests", path)
	}
}

func TestTheTableOfValues(t *testing.T) {
	table, err := valueTable([]byte(`# About the file.

global:
  # Where from.
  registry: ""
# A section.
part:
  # How many,
  # of two.
  count: 1
  # As it stands.
  limits:
    cpu: 1
    list:
      - a
  none: null
  #  example: 1
open: {}
`))
	require.NoError(t, err)
	assert.Equal(t, []value{
		{path: "global.registry", about: "Where from.", preset: `""`},
		{path: "part.count", about: "How many, of two.", preset: "1"},
		{path: "part.limits", about: "As it stands.", preset: `{"cpu":1,"list":["a"]}`},
		{path: "part.none", preset: "null"},
		{path: "open", preset: "{}"},
	}, table)
}

func TestEachValueSaysWhatItIs(t *testing.T) {
	root, err := binaries.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "charts/reloader/values.yaml"))
	require.NoError(t, err)
	table, err := valueTable(text)
	require.NoError(t, err)
	assert.Greater(t, len(table), 100)
	for _, v := range table {
		assert.NotEmpty(t, v.about, v.path)
	}
}
