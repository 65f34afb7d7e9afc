package engine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
)

func TestWhatCannotBeUsedIsToldOnce(t *testing.T) {
	r := new(told)
	e := newTestEngine(t, play(t, nil).config, r)
	tell := func() []string {
		r.faults = nil
		for _, w := range drain(e.queues.faults) {
			require.NoError(t, e.tellFaults(t.Context(), w))
		}
		return r.faults
	}
	a := newApp(web)
	a.annotations = map[string]string{keys.ConfigMapNamed: "settings,x["}
	settled(t, e.intake, a)
	assert.Equal(t, []string{"Deployment shop/web EntryInvalid"}, tell())
	assert.Equal(t, []reloader.Source{settings}, e.index.DependsOn(web), "the other entries count")

	a.generation++
	settled(t, e.intake, a)
	assert.Empty(t, tell(), "the same fault")

	a.generation++
	a.annotations[keys.CoalesceWindow] = "soon"
	settled(t, e.intake, a)
	assert.Equal(t, []string{"Deployment shop/web EntryInvalid", "Deployment shop/web WindowInvalid"}, tell())

	a.generation++
	a.annotations = map[string]string{keys.ConfigMapNamed: "settings"}
	settled(t, e.intake, a)
	assert.Empty(t, tell(), "none is left")

	a.generation++
	a.annotations[keys.ConfigMapNamed] = "["
	settled(t, e.intake, a)
	e.intake.deleted(web)
	assert.Empty(t, tell(), "nobody is left to be told")
}
