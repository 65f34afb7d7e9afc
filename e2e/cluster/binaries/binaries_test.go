package binaries

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tinyModule writes a module with one program and returns its checkout.
func tinyModule(t *testing.T) (root string, module Module) {
	t.Helper()
	root = t.TempDir()
	dir := filepath.Join(root, "tiny")
	require.NoError(t, os.Mkdir(dir, 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module tiny\n\ngo 1.26.0\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600))
	return root, Module{Dir: "tiny", Tools: []Tool{{Name: "tiny-tool", Package: "."}}}
}

func TestBuildersAtTheSameTimeBuildOnce(t *testing.T) {
	root, module := tinyModule(t)
	cache := t.TempDir()
	const builders = 4
	logs := make([]bytes.Buffer, builders)
	paths := make([]Paths, builders)
	errs := make([]error, builders)
	var wg sync.WaitGroup
	for i := range builders {
		wg.Go(func() {
			paths[i], errs[i] = Build(t.Context(), Options{Root: root, Cache: cache, Log: &logs[i]}, module)
		})
	}
	wg.Wait()

	built := 0
	for i := range builders {
		require.NoError(t, errs[i])
		assert.Equal(t, paths[0], paths[i])
		built += strings.Count(logs[i].String(), "[1/1] tiny-tool")
	}
	assert.Equal(t, 1, built)
	assert.FileExists(t, paths[0]["tiny-tool"])
}

func TestBuildFollowsTheSources(t *testing.T) {
	root, module := tinyModule(t)
	o := Options{Root: root, Cache: t.TempDir()}
	before, err := Build(t.Context(), o, module)
	require.NoError(t, err)

	source := "package main\n\nfunc main() { println() }\n"
	require.NoError(t, os.WriteFile(filepath.Join(root, "tiny", "main.go"), []byte(source), 0o600))
	after, err := Build(t.Context(), o, module)
	require.NoError(t, err)

	assert.NotEqual(t, before, after)
}

func TestBuildTakesWhatTheUserHas(t *testing.T) {
	root, module := tinyModule(t)
	assets := t.TempDir()
	program := filepath.Join(assets, "tiny-tool")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700))

	paths, err := Build(t.Context(), Options{Root: root, Cache: t.TempDir(), Assets: assets}, module)

	require.NoError(t, err)
	assert.Equal(t, Paths{"tiny-tool": program}, paths)
}

func TestBuildThatFailsLeavesNothing(t *testing.T) {
	root, module := tinyModule(t)
	cache := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "tiny", "main.go"), []byte("package main\n\nnonsense\n"), 0o600))

	_, err := Build(t.Context(), Options{Root: root, Cache: cache}, module)

	require.ErrorContains(t, err, "build tiny-tool")
	require.ErrorContains(t, err, "main.go:3", "what the compiler says")
	left, err := filepath.Glob(filepath.Join(cache, "*", "*tiny-tool*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestStamp(t *testing.T) {
	assert.Equal(t, " -X k8s.io/component-base/version.gitVersion=v1.36.3"+
		" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"+
		" -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3", stamp("v1.36.3"))
}

func TestRequiredVersion(t *testing.T) {
	root, err := Root()
	require.NoError(t, err)
	version, err := requiredVersion(filepath.Join(root, Kubernetes().Dir, "go.mod"), "k8s.io/kubernetes")
	require.NoError(t, err)
	assert.Regexp(t, `^v1\.\d+\.\d+$`, version)
}
