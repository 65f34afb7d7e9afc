package engine

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
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

func TestWhetherMarksAreGone(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	others := manages("argocd-controller", start.Add(time.Second))
	status := manages("kube-controller-manager", start.Add(time.Hour))
	status.Subresource = "status"
	scale := manages("kube-controller-manager", start.Add(time.Hour))
	scale.Subresource = "scale"
	tests := map[string]struct {
		uid        types.UID
		generation int64
		fields     []metav1.ManagedFieldsEntry
		want       bool
	}{
		"the variable is ours": {
			uid: "first", generation: 3, fields: []metav1.ManagedFieldsEntry{manages(FieldManager, start, settingsVariable), others},
		},
		"an autoscaler has changed the replicas": {
			uid: "first", generation: 3, fields: []metav1.ManagedFieldsEntry{manages(FieldManager, start, settingsVariable), scale},
		},
		"another Reloader has written, too": {
			uid: "first", generation: 3, fields: []metav1.ManagedFieldsEntry{
				manages(FieldManager, start, "STAKATER_OTHER_CONFIGMAP"), manages(FieldManager, start, settingsVariable), others,
			},
		},
		"only another variable is ours": {
			uid: "first", generation: 3, fields: []metav1.ManagedFieldsEntry{manages(FieldManager, start, "STAKATER_OTHER_CONFIGMAP"), others, status},
			want: true,
		},
		"nothing is ours": {
			uid: "first", generation: 3, fields: []metav1.ManagedFieldsEntry{manages("helm", start), others, status},
			want: true,
		},
		"our own event":                      {uid: "first", generation: 2, fields: []metav1.ManagedFieldsEntry{others}},
		"an event before ours":               {uid: "first", generation: 1, fields: []metav1.ManagedFieldsEntry{others}},
		"another one of that name":           {uid: "second", generation: 3, fields: []metav1.ManagedFieldsEntry{others}},
		"a list, which has no managedFields": {uid: "first", generation: 3},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRivals(clocktesting.NewFakePassiveClock(start))
			r.reloaded(report.Reload{Workload: web, UID: "first"}, 2, settingsMarks(), "template")
			meta := seenAs(newApp(web).with(func(a *app) { a.uid = tc.uid }), tc.generation, tc.fields...)
			assert.Equal(t, tc.want, r.seen(web, meta))
			assert.Equal(t, tc.want, r.suspects(web))
			assert.False(t, r.seen(web, meta), "it counts once")
		})
	}
	r := newRivals(clocktesting.NewFakePassiveClock(start))
	assert.False(t, r.seen(web, seenAs(newApp(web), 3, others)), "it was not reloaded")
	assert.False(t, r.suspects(web))
}

// Each round is a reload, and what another controller does after it. The third
// revert of a template without our marks, all within an hour, is enough.
func TestWhatCountsAsARevert(t *testing.T) {
	const prompt = 5 * time.Second
	revert := round{after: prompt, every: time.Minute}
	with := func(change func(*round)) round {
		r := revert
		change(&r)
		return r
	}
	tests := map[string]struct {
		rounds []round
		want   []bool // of each round, whether it is enough
	}{
		"self-heal of Argo CD":                {[]round{revert, revert, revert}, []bool{false, false, true}},
		"three more after a hold":             {[]round{revert, revert, revert, revert, revert, revert}, []bool{false, false, true, false, false, true}},
		"a tool that looks every few minutes": {repeated(with(func(r *round) { r.after = 9 * time.Minute })), []bool{false, false, true}},
		"an apply of a whole list of variables, with the same image, right after each rotation": {
			repeated(revert), []bool{false, false, true},
		},
		"deploys of new images, days apart": {
			repeated(with(func(r *round) { r.deploys, r.every = true, 24*time.Hour })), []bool{false, false, false},
		},
		"deploys of new images, right after each reload": {
			repeated(with(func(r *round) { r.deploys = true })), []bool{false, false, false},
		},
		"the same manifest once more, hours after each reload": {
			repeated(with(func(r *round) { r.after, r.every = 3*time.Hour, 0 })), []bool{false, false, false},
		},
		"the same manifest right after each nightly rotation": {
			repeated(with(func(r *round) { r.every = 24 * time.Hour })), []bool{false, false, false},
		},
		"a deploy that changes the sources, too": {
			repeated(with(func(r *round) { r.due = true })), []bool{false, false, false},
		},
		"one that stays in between": {
			[]round{revert, revert, with(func(r *round) { r.stays = true }), revert, revert, revert}, []bool{false, false, false, false, false, true},
		},
		"a deploy in between": {
			[]round{revert, revert, with(func(r *round) { r.deploys = true }), revert, revert}, []bool{false, false, false, false, false},
		},
		"two, and a third a while later": {
			[]round{revert, revert, with(func(r *round) { r.before = 61 * time.Minute }), revert, revert}, []bool{false, false, false, false, true},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := clocktesting.NewFakeClock(time.Unix(0, 0))
			r := newRivals(c)
			generation, template := int64(1), "template"
			var got []bool
			for i, round := range tc.rounds {
				c.Step(round.before)
				of := report.Reload{Workload: web, UID: "first", Latency: time.Duration(i)}
				generation++
				r.reloaded(of, generation, settingsMarks(), template)
				c.Step(round.after)
				enough := false
				if !round.stays {
					generation++
					r.seen(web, seenAs(newApp(web), generation, manages("terraform", time.Time{})))
					if round.deploys {
						template += "'"
					}
					_, _, early := r.judge(web, "another", generation-1)
					assert.False(t, early, "that is the template before")
					var last report.Reload
					var by string
					if round.due {
						r.acquit(web)
					}
					if last, by, enough = r.judge(web, template, generation); enough {
						assert.Equal(t, of, last)
						assert.Equal(t, "terraform", by)
					}
					assert.False(t, r.suspects(web), "it is decided")
				}
				got = append(got, enough)
				c.Step(round.every)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

// round is what follows from a reload.
type round struct {
	before       time.Duration // since the last round
	after        time.Duration // of the reload it comes
	every        time.Duration // after that, until the next
	deploys, due bool
	stays        bool
}

func repeated(r round) []round { return []round{r, r, r} }

func TestARivalOfAWorkloadThatIsGoneIsForgotten(t *testing.T) {
	r := newRivals(clocktesting.NewFakePassiveClock(time.Unix(0, 0)))
	r.reloaded(report.Reload{Workload: web, UID: "first"}, 2, settingsMarks(), "template")
	r.gone(web)
	assert.Empty(t, r.patched)
	_, _, enough := r.judge(web, "template", 3)
	assert.False(t, enough)
}

func TestWhatAReloadLeavesInManagedFields(t *testing.T) {
	c := kind.Change{Strategy: kind.Annotations, Keys: keys, Marks: []kind.Mark{{Env: settingsVariable}}}
	assert.Equal(t, []string{"f:" + keys.LastReloadedFrom}, marked(c))
	assert.True(t, owns(seenAs(newApp(web), 1, manages(FieldManager, time.Time{}, settingsVariable, "OTHER")), settingsMarks()))
}

// threeRounds reloads web three times, and has another controller write a template
// without our marks each time.
func threeRounds(t *testing.T, recorded bool, change func(round int, template *corev1.PodTemplateSpec)) (*Engine, *told) {
	t.Helper()
	a := newApp(web)
	if recorded {
		a = a.recorded(t)
	}
	object := a.object().(*appsv1.Deployment)
	server := deployments(t, object)
	r := new(told)
	e := newTestEngine(t, server.config, r)
	settled(t, e.intake, a)
	feed := e.workloadFeed(kindOf(t, web), area{})
	template := object.Spec.Template.DeepCopy()
	version := uint64(20)
	for n := range rivalRounds {
		assert.Empty(t, r.takenBack)
		wait, _ := e.limits.admit(web)
		require.Zero(t, wait, "round %d", n)
		version += 10
		due(t, e.ledger, written(version, string(rune('b'+n))))
		require.NoError(t, e.reload(t.Context(), web))
		require.NoError(t, feed.Update(&metav1.PartialObjectMetadata{ObjectMeta: *object.ObjectMeta.DeepCopy()}))

		// The tool knows a template without our variable.
		change(n, template)
		object.Spec.Template = *template.DeepCopy()
		object.Generation++
		meta := seenAs(a, object.Generation, manages("argocd-controller", time.Now()))
		if recorded {
			rec := record.New(record.Identity{Namespace: web.Namespace, Name: web.Name, UID: string(meta.UID), Generation: meta.Generation}, template, hashOf(template), keys)
			text, err := rec.Encode()
			require.NoError(t, err)
			meta.Annotations = maps.Clone(meta.Annotations)
			meta.Annotations[keys.Index] = text
		}
		require.NoError(t, feed.Update(meta))
		if !recorded {
			e.supplied(web, readAs(t, web.Kind, object))
		}
	}
	return e, r
}

func TestWhoTakesBackThreeReloadsIsReported(t *testing.T) {
	for name, recorded := range map[string]bool{"with a record": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			e, r := threeRounds(t, recorded, func(int, *corev1.PodTemplateSpec) {})
			assert.Equal(t, []string{"argocd-controller"}, r.takenBack)
			wait, held := e.limits.admit(web)
			assert.InDelta(t, lastHold, wait, float64(time.Minute))
			assert.False(t, held, "that was reported already")
			other, _ := e.limits.admit(worker)
			assert.Zero(t, other)
		})
	}
}

func TestDeploysAreNoReverts(t *testing.T) {
	tests := map[string]func(round int, template *corev1.PodTemplateSpec){
		"of another image": func(round int, template *corev1.PodTemplateSpec) {
			template.Spec.Containers[0].Image = fmt.Sprint("web:", round)
		},
		"of another label of the template": func(round int, template *corev1.PodTemplateSpec) {
			template.Labels = map[string]string{"release": fmt.Sprint(round)}
		},
		"of another variable": func(round int, template *corev1.PodTemplateSpec) {
			template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "LEVEL", Value: fmt.Sprint(round)}}
		},
	}
	for name, change := range tests {
		for _, recorded := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", record: ", recorded), func(t *testing.T) {
				e, r := threeRounds(t, recorded, change)
				assert.Empty(t, r.takenBack)
				wait, _ := e.limits.admit(web)
				assert.Zero(t, wait, "the next rotation is rolled out")
			})
		}
	}
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
	require.True(t, e.intake.supply(readAs(t, web.Kind, object)))
	require.Empty(t, e.ledger.due(web))

	due(t, e.ledger, written(50, "b"))
	require.NoError(t, e.reload(t.Context(), web))
	assert.Equal(t, int64(5), object.Generation, "its pods go on with c")
	assert.NotEqual(t, revision.Spec.Containers[0].Env, object.Spec.Template.Spec.Containers[0].Env)
}

// A deploy that brings new content, too, is no revert of what came before.
func TestADeployWithNewContentIsNoRevert(t *testing.T) {
	a := newApp(web)
	object := a.object().(*appsv1.Deployment)
	e := newTestEngine(t, deployments(t, object).config, new(told))
	settled(t, e.intake, a)
	feed := e.workloadFeed(kindOf(t, web), area{})
	due(t, e.ledger, written(30, "b"))
	require.NoError(t, e.reload(t.Context(), web))
	due(t, e.ledger, written(40, "c"))
	require.NoError(t, feed.Update(seenAs(a, object.Generation+1, manages("helm", time.Now()))))
	assert.NotZero(t, e.rivals.patched[web].lost)
	assert.False(t, e.rivals.suspects(web))
}
