package engine

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"

	"k8s-reloader/reloader/record"
)

// An engine ends after it has reloaded one workload of a source. The next one
// does not know that.
func TestAReloadOfAnEngineBeforeIsNotRepeated(t *testing.T) {
	a := newApp(web).recorded(t)
	object := a.object().(*appsv1.Deployment)
	server := deployments(t, object)
	before := newTestEngine(t, server.config, new(told))
	settled(t, before.intake, a)
	due(t, before.ledger, written(20, "b"))
	require.NoError(t, before.reload(t.Context(), web))
	require.Equal(t, int64(2), object.Generation)

	next := func(key *Engine) (*Engine, *told) {
		r := new(told)
		e := newTestEngine(t, server.config, r)
		e.key, e.seals = key.key, key.seals
		now := a.with(func(a *app) { a.generation, a.annotations = object.Generation, object.Annotations })
		settled(t, e.intake, now)
		due(t, e.ledger, written(20, "b"))
		e.ledger.sources[settings].inherited = true
		server.requests = nil
		return e, r
	}
	e, r := next(before)
	require.NoError(t, e.reload(t.Context(), web))
	require.Len(t, server.requests, 1)
	assert.Equal(t, http.MethodGet, server.requests[0].method)
	assert.Equal(t, int64(2), object.Generation)
	assert.Empty(t, r.reloaded)
	assert.Empty(t, e.ledger.due(web))
	assert.False(t, e.ledger.sources[settings].inherited, "the next change is ours")

	// What it has not done is done.
	object.Spec.Template.Spec.Containers[0].Env = nil
	e, r = next(before)
	require.NoError(t, e.reload(t.Context(), web))
	assert.Len(t, server.requests, 2)
	assert.Equal(t, int64(3), object.Generation)
	assert.Len(t, r.reloaded, 1)
}

func TestNoRecordIsForAGenerationToCome(t *testing.T) {
	// Generations have gone back, as after a restore.
	a := newApp(web).with(func(a *app) { a.generation = 5 }).recorded(t)
	object := a.object().(*appsv1.Deployment)
	server := deployments(t, object)
	e := newTestEngine(t, server.config, new(told))
	settled(t, e.intake, a)
	due(t, e.ledger, written(20, "b"))
	object.Generation = 1

	require.NoError(t, e.reload(t.Context(), web))
	assert.Len(t, server.requests, 2)
	rec, err := record.Decode(object.Annotations[keys.Index])
	require.NoError(t, err)
	assert.Equal(t, int64(3), object.Generation)
	assert.Equal(t, int64(3), rec.Generation)
}
