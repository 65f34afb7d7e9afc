package engine

import (
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine/internal/share"
)

// TestACrowdedNamespaceIsNamedOnce: when some of its workloads begin to be kept by
// name, and when that begins anew.
func TestACrowdedNamespaceIsNamedOnce(t *testing.T) {
	e := newTestEngine(t, play(t, nil).config, new(told))
	e.intake.shares = share.New(-1)
	var lines []string
	e.log = funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{})
	for _, name := range []string{"a", "b"} {
		settled(t, e.intake, newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: name}))
		e.tellCrowded()
	}
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0], `"namespace"="shop"`)
	for _, name := range []string{"a", "b"} {
		e.intake.deleted(reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: name})
	}
	settled(t, e.intake, newApp(web))
	e.tellCrowded()
	assert.Len(t, lines, 2)
}

// TestWorkloadsComeBackWhenThereIsRoom: with their next event, or a verifying pass.
func TestWorkloadsComeBackWhenThereIsRoom(t *testing.T) {
	for name, again := range map[string]func(*intake, app){
		"with its next event": func(in *intake, a app) {
			a.generation++
			settled(t, in, a.recorded(t))
		},
		"with a verifying pass": func(in *intake, a app) {
			assert.False(t, in.verify(a.manifest(t)), "nothing was wrong")
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			in.shares = share.New(4 << 10)
			first := newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "first"})
			settled(t, in, first)
			settled(t, in, newApp(web))
			assert.Equal(t, 1, in.index.Stats().ByName)
			assert.Empty(t, in.index.DependsOn(web))
			assert.True(t, in.index.Reached(web, settings))

			in.deleted(first.workload)
			again(in, newApp(web))
			assert.Zero(t, in.index.Stats().ByName)
			assert.Equal(t, []reloader.Source{settings}, in.index.DependsOn(web))
			assert.Empty(t, in.ledger.due(web))
		})
	}
}
