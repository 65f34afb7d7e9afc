package engine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader/record"
)

// Two builds have two texts for one template. Nothing may follow from that: what
// is due stays due, and nothing else is.
func TestARecordOfTheVersionBefore(t *testing.T) {
	old := func(r *record.Record) { r.Version, r.Template = 1, "of Go types" }
	a := newApp(web).recorded(t, old)
	scaled := a.with(func(a *app) { a.generation = 2 })

	t.Run("is trusted, and carried forward as it is", func(t *testing.T) {
		in := newTestIntake(t)
		settled(t, in, a)
		to, ok := in.aim(web)
		require.True(t, ok)
		got, err := record.Decode(to.record)
		require.NoError(t, err)
		want := a.record().WithGeneration(2)
		old(&want)
		assert.Equal(t, want, got)
		assert.Equal(t, "of Go types", to.template, "marks go by its text")
	})
	t.Run("and the same template as it is read are no change of the template", func(t *testing.T) {
		in := newTestIntake(t)
		settled(t, in, a)
		due(t, in.ledger, written(20, "b"))
		in.observe(web, scaled.meta(), at(30))
		require.True(t, in.supply(scaled.manifest(t)))
		assert.Len(t, in.ledger.due(web), 1, "no pod has started since")

		to, ok := in.aim(web)
		require.True(t, ok)
		got, err := record.Decode(to.record)
		require.NoError(t, err)
		assert.Equal(t, record.Version, got.Version, "what was read makes a record of this version")
	})
	t.Run("that an older webhook has written is no change of the template either", func(t *testing.T) {
		in := newTestIntake(t)
		settled(t, in, newApp(web).recorded(t))
		due(t, in.ledger, written(20, "b"))
		in.observe(web, newApp(web).with(func(a *app) { a.generation = 2 }).recorded(t, old).meta(), at(30))
		require.True(t, in.allResolved())
		assert.Len(t, in.ledger.due(web), 1)
	})
	t.Run("tells of a change of the template as before", func(t *testing.T) {
		in := newTestIntake(t)
		settled(t, in, a)
		due(t, in.ledger, written(20, "b"))
		other := scaled.recorded(t, func(r *record.Record) { r.Version, r.Template = 1, "of other Go types" })
		in.observe(web, other.meta(), at(30))
		assert.Empty(t, in.ledger.due(web), "its pods start anew anyway")
	})
}

func TestATemplateThatCannotBeHashedIsToldFromNoOther(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(web)
	m := a.manifest(t)
	m.Raw.Template = []byte(`{"a":1,"a":1}`)
	in.observe(web, a.meta(), moment{})
	require.True(t, in.supply(m))
	assert.True(t, in.allResolved())
	assert.Len(t, in.index.DependsOn(web), 1)
}
