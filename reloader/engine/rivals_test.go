package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/report"
)

// manages is an entry of managedFields: a manager who has written these
// variables of a container, or something else if there are none.
func manages(manager string, at time.Time, variables ...string) metav1.ManagedFieldsEntry {
	fields := `{"f:spec":{"f:replicas":{}}}`
	for i, v := range variables {
		if i == 0 {
			fields = ""
		}
		fields += `{"k:{\"name\":\"` + v + `\"}":{"f:value":{}}}`
	}
	e := metav1.ManagedFieldsEntry{Manager: manager, Time: &metav1.Time{Time: at}, FieldsV1: new(metav1.FieldsV1)}
	e.FieldsV1.SetRawBytes([]byte(fields))
	return e
}

// seenAs is what a watch shows of an app after these writes.
func seenAs(a app, generation int64, fields ...metav1.ManagedFieldsEntry) *metav1.PartialObjectMetadata {
	meta := *a.meta()
	meta.Generation, meta.ManagedFields = generation, fields
	return &metav1.PartialObjectMetadata{ObjectMeta: meta}
}

const settingsVariable = "STAKATER_SETTINGS_CONFIGMAP"

func settingsMarks() []string {
	return marked(kind.Change{Strategy: kind.EnvVars, Marks: []kind.Mark{{Env: settingsVariable}}})
}

func TestWhetherAReloadWasTakenBack(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	others := manages("argocd-controller", start.Add(time.Second))
	status := manages("kube-controller-manager", start.Add(time.Hour))
	status.Subresource = "status"
	tests := map[string]struct {
		uid        types.UID
		generation int64
		fields     []metav1.ManagedFieldsEntry
		want       int
		wantBy     string
	}{
		"the variable is ours": {
			uid: "first", generation: 3, fields: []metav1.ManagedFieldsEntry{manages(FieldManager, start, settingsVariable), others},
		},
		"only another variable is ours": {
			uid: "first", generation: 3, fields: []metav1.ManagedFieldsEntry{manages(FieldManager, start, "STAKATER_OTHER_CONFIGMAP"), others, status},
			want: 1, wantBy: "argocd-controller",
		},
		"nothing is ours": {
			uid: "first", generation: 3, fields: []metav1.ManagedFieldsEntry{manages("helm", start), others, status},
			want: 1, wantBy: "argocd-controller",
		},
		"our own event":                      {uid: "first", generation: 2, fields: []metav1.ManagedFieldsEntry{others}},
		"an event before ours":               {uid: "first", generation: 1, fields: []metav1.ManagedFieldsEntry{others}},
		"another one of that name":           {uid: "second", generation: 3, fields: []metav1.ManagedFieldsEntry{others}},
		"a list, which has no managedFields": {uid: "first", generation: 3},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRivals()
			of := report.Reload{Workload: web, UID: "first", Sources: []reloader.Source{settings}}
			r.reloaded(of, 2, settingsMarks())
			meta := seenAs(newApp(web).with(func(a *app) { a.uid = tc.uid }), tc.generation, tc.fields...)
			rounds, reload, by := r.seen(web, meta)
			assert.Equal(t, tc.want, rounds)
			assert.Equal(t, tc.wantBy, by)
			if tc.want > 0 {
				assert.Equal(t, of, reload)
			}
			rounds, _, _ = r.seen(web, meta)
			assert.Zero(t, rounds, "it counts once")
		})
	}
	rounds, _, _ := newRivals().seen(web, seenAs(newApp(web), 3, others))
	assert.Zero(t, rounds, "it was not reloaded")
}

func TestWhatAReloadLeavesInManagedFields(t *testing.T) {
	c := kind.Change{Strategy: kind.Annotations, Keys: keys, Marks: []kind.Mark{{Env: settingsVariable}}}
	assert.Equal(t, []string{"f:" + keys.LastReloadedFrom}, marked(c))
	assert.True(t, owns(seenAs(newApp(web), 1, manages(FieldManager, time.Time{}, settingsVariable, "OTHER")), settingsMarks()))
}

func TestRoundsAreCountedInARow(t *testing.T) {
	r := newRivals()
	generation := int64(1)
	round := func(takesBack bool) (rounds int) {
		generation++
		r.reloaded(report.Reload{Workload: web, UID: "first"}, generation, settingsMarks())
		generation++
		if takesBack {
			rounds, _, _ = r.seen(web, seenAs(newApp(web), generation, manages("helm", time.Time{})))
		}
		return rounds
	}
	assert.Equal(t, 1, round(true))
	assert.Equal(t, 2, round(true))
	assert.Zero(t, round(false), "this one stays")
	assert.Equal(t, 1, round(true))
	assert.Equal(t, 2, round(true))
	r.gone(web)
	assert.Equal(t, 1, round(true), "it was created anew")
}

func TestWhoTakesBackThreeReloadsIsReported(t *testing.T) {
	a := newApp(web)
	object := a.object().(*appsv1.Deployment)
	server := deployments(t, object)
	r := new(told)
	e := newTestEngine(t, server.config, r)
	settled(t, e.intake, a)
	feed, k := e.workloadFeed(kindOf(t, web), area{}), kindOf(t, web)
	template := object.Spec.Template.DeepCopy()
	version := uint64(20)
	for round := range rivalRounds {
		assert.Empty(t, r.takenBack)
		wait, _ := e.limits.admit(web)
		require.Zero(t, wait, "round %d", round)
		version += 10
		due(t, e.ledger, written(version, string(rune('b'+round))))
		require.NoError(t, e.reload(t.Context(), web))
		ours := *object.ObjectMeta.DeepCopy()
		require.NoError(t, feed.Update(&metav1.PartialObjectMetadata{ObjectMeta: ours}))

		// The tool knows a template without our variable.
		object.Spec.Template = *template.DeepCopy()
		object.Generation++
		require.NoError(t, feed.Update(seenAs(a, object.Generation, manages("argocd-controller", time.Now()))))
		require.True(t, e.intake.supply(k.Manifest(object)))
	}
	assert.Equal(t, []string{"argocd-controller"}, r.takenBack)
	wait, held := e.limits.admit(web)
	assert.InDelta(t, lastHold, wait, float64(time.Minute))
	assert.False(t, held, "that was reported already")
	other, _ := e.limits.admit(worker)
	assert.Zero(t, other)
}

// kubectl rollout undo brings back the mark of old content on pods that start
// with the new one.
func TestGoingBackToContentAfterARolloutUndoStartsPods(t *testing.T) {
	a := newApp(web)
	object := a.object().(*appsv1.Deployment)
	server := deployments(t, object)
	e := newTestEngine(t, server.config, new(told))
	settled(t, e.intake, a)
	feed := e.workloadFeed(kindOf(t, web), area{})
	hears := func(version string, fields ...metav1.ManagedFieldsEntry) {
		meta := *object.ObjectMeta.DeepCopy()
		meta.ResourceVersion, meta.ManagedFields = version, fields
		require.NoError(t, feed.Update(&metav1.PartialObjectMetadata{ObjectMeta: meta}))
	}
	ours := manages(FieldManager, at(20).time, settingsVariable)
	due(t, e.ledger, written(20, "b"))
	require.NoError(t, e.reload(t.Context(), web))
	hears("21", ours)
	revision := object.Spec.Template.DeepCopy()
	due(t, e.ledger, written(30, "c"))
	require.NoError(t, e.reload(t.Context(), web))
	hears("31", ours)
	require.Equal(t, int64(3), object.Generation)

	object.Spec.Template, object.Generation = *revision, 4
	hears("40", manages(FieldManager, at(20).time), manages("kubectl-rollout", at(40).time, settingsVariable))
	require.True(t, e.intake.supply(kindOf(t, web).Manifest(object)))
	require.Empty(t, e.ledger.due(web))

	due(t, e.ledger, written(50, "b"))
	require.NoError(t, e.reload(t.Context(), web))
	assert.Equal(t, int64(5), object.Generation, "its pods go on with c")
	assert.NotEqual(t, revision.Spec.Containers[0].Env, object.Spec.Template.Spec.Containers[0].Env)
}
