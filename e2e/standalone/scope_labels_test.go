package standalone

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/scope"
)

func selectsSources(t *testing.T, texts ...string) func(*scope.Scope) {
	t.Helper()
	selector, err := scope.ParseSelector(texts...)
	require.NoError(t, err)
	return func(s *scope.Scope) { s.SourceSelector = selector }
}

func TestSourcesByTheirLabels(t *testing.T) {
	labels := map[string]string{
		"front": `{"tier":"front"}`,
		"back":  `{"tier":"back","team":"a"}`,
		"plain": `{}`,
	}
	tests := map[string]struct {
		id       string
		selector []string
		want     []string
	}{
		"with a value":              {"value", []string{"tier=front"}, []string{"front"}},
		"with another value":        {"not-value", []string{"tier!=front"}, []string{"back", "plain"}},
		"with one of several":       {"set", []string{"tier in (front,back)"}, []string{"front", "back"}},
		"with any value":            {"any", []string{"tier"}, []string{"front", "back"}},
		"without a label":           {"none", []string{"!tier"}, []string{"plain"}},
		"with a value, as before":   {"old-value", []string{"tier:back"}, []string{"back"}},
		"with any value, as before": {"old-any", []string{"tier:*"}, []string{"front", "back"}},
		"with several labels":       {"several", []string{"tier:*,team=a"}, []string{"back"}},
		"in several flags":          {"flags", []string{"tier:*", "team=a"}, []string{"back"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "labels-"+tc.id)
			apps := map[string]fixture.App{}
			for source, set := range labels {
				apps[source] = newApp(t, ns, source)
				labelSource(t, ns, source, set)
			}
			_, r := startEngine(t, scoped(selectsSources(t, tc.selector...)))
			for source := range labels {
				setValue(t, ns, source, "1")
			}
			for _, source := range tc.want {
				reloads(t, r, apps[source], 1)
			}
			total := 0
			for _, app := range apps {
				total += r.count(app.Workload())
			}
			assert.Len(t, tc.want, total)
		})
	}
}

func TestASourceThatIsRelabelled(t *testing.T) {
	t.Parallel()
	ns, kept := namespace(t, "relabelled-source"), namespace(t, "relabelled-source-checkpoint")
	app, calm := newApp(t, ns, "app"), newApp(t, ns, "calm")
	on, off := `{"reload":"yes"}`, `{"reload":null}`
	labelSource(t, ns, "app", on)
	labelSource(t, ns, "calm", on)
	keep := remembering(t, kept)
	selected := scoped(selectsSources(t, "reload=yes"))

	t.Run("leaves, and a change in between counts when it joins", func(t *testing.T) {
		_, r := startEngine(t, selected, within(ns), keep)
		labelSource(t, ns, "app", off)
		labelSource(t, ns, "calm", off)
		stays(t, r, app, calm)
		setValue(t, ns, "app", "1")
		stays(t, r, app, calm)
		labelSource(t, ns, "app", on)
		labelSource(t, ns, "calm", on)
		reloads(t, r, app, 1)
		stays(t, r, app, calm)
		setValue(t, ns, "calm", "1")
		reloads(t, r, calm, 1)
	})
	t.Run("and so it does after a start in between", func(t *testing.T) {
		labelSource(t, ns, "app", off)
		setValue(t, ns, "app", "2")
		_, r := startEngine(t, selected, within(ns), keep)
		stays(t, r, app, calm)
		labelSource(t, ns, "app", on)
		reloads(t, r, app, 1)
	})
	t.Run("is taken as it is if it was never selected before", func(t *testing.T) {
		late := newApp(t, ns, "late")
		_, r := startEngine(t, selected, within(ns), keep)
		setValue(t, ns, "late", "1")
		stays(t, r, late)
		labelSource(t, ns, "late", on)
		stays(t, r, late)
		setValue(t, ns, "late", "2")
		reloads(t, r, late, 1)
	})
	t.Run("and one that comes with a workload is so, too", func(t *testing.T) {
		_, r := startEngine(t, selected, within(ns), keep)
		newcomer := newApp(t, ns, "newcomer")
		setValue(t, ns, "newcomer", "1")
		stays(t, r, newcomer)
		labelSource(t, ns, "newcomer", on)
		stays(t, r, newcomer)
		setValue(t, ns, "newcomer", "2")
		reloads(t, r, newcomer, 1)
	})
	t.Run("is told from one that is deleted and created again", func(t *testing.T) {
		_, r := startEngine(t, selected, within(ns), keep)
		maps := shared.Client().CoreV1().ConfigMaps(ns)
		old, err := maps.Get(t.Context(), "calm", metav1.GetOptions{})
		require.NoError(t, err)
		require.NoError(t, maps.Delete(t.Context(), "calm", metav1.DeleteOptions{}))
		old.ObjectMeta = metav1.ObjectMeta{Name: "calm", Labels: old.Labels}
		_, err = maps.Create(t.Context(), old, metav1.CreateOptions{})
		require.NoError(t, err)
		stays(t, r, calm)
		old.Data = map[string]string{"a": "other"}
		require.NoError(t, maps.Delete(t.Context(), "calm", metav1.DeleteOptions{}))
		_, err = maps.Create(t.Context(), old, metav1.CreateOptions{})
		require.NoError(t, err)
		reloads(t, r, calm, 1)
	})
}

// What is not selected comes over no watch and is read once, when a workload
// brings it in.
func TestSourcesThatAreNotSelectedCostNothing(t *testing.T) {
	ns := namespace(t, "unselected")
	allow(t, "", "unselected", readSources("configmaps", "secrets"), writeWorkloads("deployments", "statefulsets", "daemonsets"))
	config := restricted(t)
	app, other := newApp(t, ns, "app"), newApp(t, ns, "other")
	labelSource(t, ns, "other", `{"reload":"yes"}`)
	before := mark(t)
	_, r := startEngine(t, scoped(selectsSources(t, "reload=yes")), within(ns), func(o *engine.Options) { o.Config = config })
	start := mark(t)
	for _, value := range []string{"1", "2", "3"} {
		setValue(t, ns, "app", value)
	}
	setValue(t, ns, "other", "1")
	reloads(t, r, other, 1)
	assert.Zero(t, r.count(app.Workload()))
	for _, request := range asked(t, start) {
		assert.Equal(t, "other", request.Name, "%s %s", request.Verb, request.RequestURI)
	}
	watched := 0
	for _, request := range asked(t, before) {
		if request.Verb == "watch" && request.Resource == "configmaps" {
			assert.Contains(t, request.RequestURI, "labelSelector=reload%3Dyes")
			watched++
		}
	}
	assert.NotZero(t, watched)
}
