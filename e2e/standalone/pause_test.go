package standalone

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/record"
)

const (
	pausePeriodKey = "deployment.reloader.stakater.com/pause-period"
	pausedAtKey    = "deployment.reloader.stakater.com/paused-at"
)

// newPausingApp makes a Deployment of two pods that asks for a pause period,
// and returns when it has been rolled out.
func newPausingApp(t *testing.T, ns, name, period string) fixture.App {
	t.Helper()
	app := newApp(t, ns, name, func(a *fixture.App) {
		a.Replicas = 2
		a.Annotations[pausePeriodKey] = period
	})
	require.Eventually(t, func() bool { return complete(deployment(t, app)) }, soon, often)
	return app
}

func deployment(t require.TestingT, app fixture.App) *appsv1.Deployment {
	d, err := deployments(app.Namespace).Get(context.Background(), app.Name, metav1.GetOptions{})
	require.NoError(t, err)
	return d
}

func complete(d *appsv1.Deployment) bool {
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == *d.Spec.Replicas &&
		s.Replicas == s.UpdatedReplicas && s.AvailableReplicas == s.Replicas
}

// replicaSets counts the rollouts of an app that were real ones.
func replicaSets(t *testing.T, app fixture.App) int {
	t.Helper()
	list, err := shared.Client().AppsV1().ReplicaSets(app.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app.Name})
	require.NoError(t, err)
	return len(list.Items)
}

// paused waits until the app is paused, and returns since when it says to be.
func paused(t *testing.T, app fixture.App) time.Time {
	t.Helper()
	var d *appsv1.Deployment
	require.Eventually(t, func() bool { d = deployment(t, app); return d.Spec.Paused }, soon, often, "it is paused")
	at, err := time.Parse(time.RFC3339, d.Annotations[pausedAtKey])
	require.NoError(t, err)
	return at
}

// resumed waits until nothing of a pause is left.
func resumed(t *testing.T, app fixture.App) {
	t.Helper()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		d := deployment(t, app)
		assert.False(t, d.Spec.Paused)
		assert.NotContains(t, d.Annotations, pausedAtKey)
	}, soon, often)
}

func patchApp(t *testing.T, app fixture.App, manager, body string) {
	t.Helper()
	_, err := deployments(app.Namespace).Patch(t.Context(), app.Name, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: manager})
	require.NoError(t, err)
}

func TestChangesWithinAPeriodAreOneRollout(t *testing.T) {
	const period = 6 * time.Second
	ns := namespace(t, "pause-one-rollout")
	app, other := newPausingApp(t, ns, "app", period.String()), newApp(t, ns, "other")
	_, r := startEngine(t)

	edit(t, ns, app.Name, "1")
	began := paused(t, app)
	assert.WithinDuration(t, time.Now(), began, period)
	d := deployment(t, app)
	assert.Equal(t, int32(2), d.Status.UpdatedReplicas, "it is paused when the rollout is complete")
	assert.Equal(t, int32(2), d.Status.Replicas)
	assert.Equal(t, 2, replicaSets(t, app))

	for i := range 3 {
		edit(t, ns, app.Name, fmt.Sprint(i+2))
		edit(t, ns, other.Name, fmt.Sprint(i+2))
		require.Eventually(t, func() bool { return r.count(other.Workload()) == i+1 }, soon, often, "nobody else waits")
	}
	require.Eventually(t, func() bool { return r.count(app.Workload()) == 2 }, soon, often, "what has changed meanwhile is rolled out")
	assert.False(t, time.Now().Before(began.Add(period)), "not before the end of the period")
	next := paused(t, app)
	assert.False(t, next.Before(began.Add(period)), "the next period has begun")

	resumed(t, app)
	assert.Equal(t, 2, r.count(app.Workload()))
	assert.Equal(t, 3, replicaSets(t, app), "three changes within a period are one rollout")
	require.Eventually(t, func() bool { return complete(deployment(t, app)) }, soon, often)
}

func TestAPauseOutlivesTheEngine(t *testing.T) {
	const period = 8 * time.Second
	tests := map[string]struct {
		ns      string
		standby bool
	}{
		"that is started again":         {ns: "pause-restart"},
		"that leads, and the next does": {ns: "pause-take-over", standby: true},
	}
	for name, tc := range tests {
		ns := namespace(t, tc.ns)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newPausingApp(t, ns, "app", period.String())
			newCheckpoint(t, ns)
			key, err := engine.RandomKey()
			require.NoError(t, err)
			with := func(identity string) func(*engine.Options) {
				return func(o *engine.Options) {
					within(ns)(o)
					o.Key, o.Checkpoint = key, keptCheckpoint(t, ns, key)
					if tc.standby {
						o.Lease = newLease(t, ns, identity)
					}
				}
			}
			var began time.Time
			var second *reports
			t.Run("first", func(first *testing.T) {
				_, r := startEngine(first, with("first"))
				require.Eventually(first, func() bool { return checkpointed(first, ns) }, soon, often, "it leads")
				if tc.standby {
					_, second = startEngine(t, with("second"))
				}
				edit(first, ns, app.Name, "1")
				began = paused(first, app)
				assert.Equal(first, 1, r.count(app.Workload()))
				edit(first, ns, app.Name, "2")
			})
			if !tc.standby {
				_, second = startEngine(t, with("second"))
			}
			require.Eventually(t, func() bool { return second.count(app.Workload()) == 1 }, soon, often, "what was due still is")
			assert.False(t, time.Now().Before(began.Add(period)), "not before the end of the period")
			resumed(t, app)
			assert.Equal(t, 1, second.count(app.Workload()))
			assert.Equal(t, 3, replicaSets(t, app))
		})
	}
}

// newCheckpoint makes the objects of a checkpoint, as the chart does.
func newCheckpoint(t *testing.T, ns string) {
	t.Helper()
	for i := range 8 {
		_, err := shared.Client().CoreV1().ConfigMaps(ns).Create(t.Context(),
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("checkpoint-%d", i)}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
}

// checkpointed reports whether something has been written to the checkpoint.
func checkpointed(t *testing.T, ns string) bool {
	t.Helper()
	list, err := shared.Client().CoreV1().ConfigMaps(ns).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	return slices.ContainsFunc(list.Items, func(o corev1.ConfigMap) bool {
		return strings.HasPrefix(o.Name, "checkpoint-") && len(o.Data)+len(o.BinaryData) > 0
	})
}

func keptCheckpoint(t *testing.T, ns string, key fingerprint.Key) *checkpoint.Store {
	t.Helper()
	store, err := checkpoint.New(shared.Client().CoreV1().ConfigMaps(ns), checkpoint.Options{Namespace: ns, Name: "checkpoint", KeyID: key.ID()})
	require.NoError(t, err)
	return store
}

// TestNobodyStaysPaused ends periods that would take an hour.
func TestNobodyStaysPaused(t *testing.T) {
	tests := map[string]struct {
		end func(t *testing.T, app fixture.App)
		// away is true if it happens while no engine runs.
		away bool
	}{
		"when the period is removed": {end: func(t *testing.T, app fixture.App) {
			patchApp(t, app, "kubectl", `{"metadata":{"annotations":{"`+pausePeriodKey+`":null}}}`)
		}},
		"when the period cannot be used any more": {end: func(t *testing.T, app fixture.App) {
			patchApp(t, app, "kubectl", `{"metadata":{"annotations":{"`+pausePeriodKey+`":"soon"}}}`)
		}},
		"when paused-at is removed": {end: func(t *testing.T, app fixture.App) {
			patchApp(t, app, "kubectl", `{"metadata":{"annotations":{"`+pausedAtKey+`":null}}}`)
		}},
		"when paused-at becomes unreadable": {end: func(t *testing.T, app fixture.App) {
			patchApp(t, app, "kubectl", `{"metadata":{"annotations":{"`+pausedAtKey+`":"yesterday"}}}`)
		}},
		"when it has opted out, and the period is removed": {end: func(t *testing.T, app fixture.App) {
			patchApp(t, app, "kubectl", `{"metadata":{"annotations":{"`+annotation.DefaultKeys().Auto+`":null}}}`)
			patchApp(t, app, "kubectl", `{"metadata":{"annotations":{"`+pausePeriodKey+`":null}}}`)
		}},
		"when all annotations were removed while no engine ran": {away: true, end: func(t *testing.T, app fixture.App) {
			patchApp(t, app, "kubectl", `{"metadata":{"annotations":null}}`)
		}},
		"when the period was over while no engine ran": {away: true, end: func(t *testing.T, app fixture.App) {
			patchApp(t, app, "kubectl", `{"metadata":{"annotations":{"`+pausedAtKey+`":"2026-01-02T03:04:05Z"}}}`)
		}},
	}
	ns := namespace(t, "pause-ends")
	number := 0
	for name, tc := range tests {
		number++
		app := newPausingApp(t, ns, fmt.Sprintf("app-%d", number), "1h")
		t.Run(name, func(t *testing.T) {
			t.Run("first", func(t *testing.T) {
				startEngine(t)
				edit(t, ns, app.Name, "1")
				paused(t, app)
				if !tc.away {
					tc.end(t, app)
					resumed(t, app)
				}
			})
			if tc.away {
				tc.end(t, app)
				assert.True(t, deployment(t, app).Spec.Paused)
				startEngine(t)
				resumed(t, app)
			}
			assert.Equal(t, 2, replicaSets(t, app))
		})
	}
}

func TestWhatUsersHavePausedStaysPaused(t *testing.T) {
	ns := namespace(t, "pause-users")
	app := newPausingApp(t, ns, "app", "1s")
	patchApp(t, app, "kubectl-rollout", `{"spec":{"paused":true}}`)
	_, r := startEngine(t)
	for i := range 2 {
		edit(t, ns, app.Name, fmt.Sprint(i+1))
		require.Eventually(t, func() bool { return r.count(app.Workload()) == i+1 }, soon, often)
	}
	require.Never(t, func() bool {
		d := deployment(t, app)
		return !d.Spec.Paused || d.Annotations[pausedAtKey] != ""
	}, quiet, often)
	assert.Equal(t, 1, replicaSets(t, app))
}

func TestWhoResumesEndsThePeriod(t *testing.T) {
	ns := namespace(t, "pause-resumed")
	app := newPausingApp(t, ns, "app", "1h")
	_, r := startEngine(t)
	edit(t, ns, app.Name, "1")
	paused(t, app)
	patchApp(t, app, "kubectl-rollout", `{"spec":{"paused":null}}`)
	resumed(t, app)
	edit(t, ns, app.Name, "2")
	require.Eventually(t, func() bool { return r.count(app.Workload()) == 2 }, soon, often, "nothing has to be waited for")
	paused(t, app)
}

func TestAPeriodThatCannotBeUsedIsNone(t *testing.T) {
	ns := namespace(t, "pause-invalid")
	app := newPausingApp(t, ns, "app", "-5m")
	_, r := startEngine(t)
	for i := range 2 {
		edit(t, ns, app.Name, fmt.Sprint(i+1))
		require.Eventually(t, func() bool { return r.count(app.Workload()) == i+1 }, soon, often)
	}
	require.Eventually(t, func() bool { return complete(deployment(t, app)) }, soon, often)
	assert.False(t, deployment(t, app).Spec.Paused)
	assert.NotContains(t, deployment(t, app).Annotations, pausedAtKey)
}

func TestPausesUnderOtherKeys(t *testing.T) {
	ns := namespace(t, "pause-keys")
	app := newApp(t, ns, "app", func(a *fixture.App) {
		a.Replicas = 1
		a.Annotations["example.org/pause"] = "6s"
		a.Annotations[pausePeriodKey] = "1h"
	})
	_, r := startEngine(t, func(o *engine.Options) {
		o.Settings.Keys.PausePeriod, o.Settings.Keys.PausedAt = "example.org/pause", "example.org/paused"
	})
	edit(t, ns, app.Name, "1")
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		d := deployment(t, app)
		assert.True(t, d.Spec.Paused)
		assert.NotEmpty(t, d.Annotations["example.org/paused"])
		assert.NotContains(t, d.Annotations, pausedAtKey)
	}, soon, often)
	edit(t, ns, app.Name, "2")
	require.Eventually(t, func() bool { return r.count(app.Workload()) == 2 }, soon, often)
}

func TestARolloutThatDoesNotEndIsNotFrozen(t *testing.T) {
	ns := namespace(t, "pause-stuck")
	app := newPausingApp(t, ns, "app", "2s")
	_, r := startEngine(t)
	stuck := fixture.App{Namespace: ns, Name: "stuck", Annotations: app.Annotations, ConfigMaps: []string{"stuck"},
		Replicas: 1, NodeSelector: map[string]string{"no": "node"}}
	edit(t, ns, stuck.Name, "0")
	_, err := stuck.Create(t.Context(), shared.Client())
	require.NoError(t, err)
	for i := range 2 {
		edit(t, ns, stuck.Name, fmt.Sprint(i+1))
		require.Eventually(t, func() bool {
			assert.False(t, deployment(t, stuck).Spec.Paused)
			return r.count(stuck.Workload()) == i+1
		}, soon, often)
	}
	resumed(t, stuck)
}

func TestAReloadThatIsHeldBackDoesNotHoldThePause(t *testing.T) {
	ns := namespace(t, "pause-held")
	app := newPausingApp(t, ns, "app", "6s")
	_, r := startEngine(t, func(o *engine.Options) { o.ReloadsPerWorkload = 1 })
	edit(t, ns, app.Name, "1")
	paused(t, app)
	edit(t, ns, app.Name, "2")
	resumed(t, app)
	assert.Equal(t, 1, r.count(app.Workload()), "the breaker holds it back")
	assert.Equal(t, new(int32(2)), deployment(t, app).Spec.Replicas)
}

func TestAReloadThatIsRefusedDoesNotHoldThePause(t *testing.T) {
	ns := namespace(t, "pause-refused")
	app := newPausingApp(t, ns, "app", "8s")
	_, r := startEngine(t)
	edit(t, ns, app.Name, "1")
	paused(t, app)
	forbidTemplates(t, app)
	edit(t, ns, app.Name, "2")
	resumed(t, app)
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.NotZero(t, r.failed)
	assert.Equal(t, 1, r.reloaded[app.Workload()])
}

// forbidTemplates returns when the API server refuses other pod templates.
func forbidTemplates(t *testing.T, app fixture.App) {
	t.Helper()
	admission := shared.Client().AdmissionregistrationV1()
	name := app.Namespace + "-templates"
	_, err := admission.ValidatingAdmissionPolicies().Create(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Update},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
				},
			}}},
			Validations: []admissionregistrationv1.Validation{{Expression: "object.spec.template == oldObject.spec.template"}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = admission.ValidatingAdmissionPolicyBindings().Create(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        name,
			ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			MatchResources: &admissionregistrationv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{corev1.LabelMetadataName: app.Namespace},
			}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := deployments(app.Namespace).Patch(t.Context(), app.Name, types.MergePatchType,
			[]byte(`{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil
	}, soon, often)
}

func TestAPauseCarriesTheRecordForward(t *testing.T) {
	keys := annotation.DefaultKeys()
	ns := namespace(t, "pause-record")
	app := newPausingApp(t, ns, "app", "6s")
	fits := func(d *appsv1.Deployment) bool {
		rec, err := record.Decode(d.Annotations[keys.Index])
		require.NoError(t, err)
		return rec.Fits(record.Identity{Namespace: ns, Name: app.Name, UID: string(d.UID), Generation: d.Generation}, keys) == nil
	}
	d := deployment(t, app)
	rec := record.New(record.Identity{Namespace: ns, Name: app.Name, UID: string(d.UID), Generation: d.Generation + 1}, &d.Spec.Template, "", keys)
	text, err := rec.Encode()
	require.NoError(t, err)
	metav1.SetMetaDataAnnotation(&d.ObjectMeta, keys.Index, text)
	d, err = deployments(ns).Update(t.Context(), d, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.True(t, fits(d))

	_, r := startEngine(t)
	edit(t, ns, app.Name, "1")
	paused(t, app)
	assert.True(t, fits(deployment(t, app)), "paused")
	edit(t, ns, app.Name, "2")
	require.Eventually(t, func() bool { return r.count(app.Workload()) == 2 }, soon, often)
	resumed(t, app)
	assert.True(t, fits(deployment(t, app)), "resumed")
}

func TestAPauseEndsWithItsNamespace(t *testing.T) {
	const key = "pause-leaves"
	ns := namespace(t, key)
	app := newPausingApp(t, ns, "app", "1h")
	label(t, ns, key, "yes")
	startEngine(t, scoped(selects(t, key)))
	edit(t, ns, app.Name, "1")
	paused(t, app)

	label(t, ns, key, "")
	resumed(t, app)
}
