package standalone

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/annotation"
)

// A value that cannot be used is told where it stands, counted, and disturbs
// nobody: the rest of it counts, and others are reloaded as ever.
func TestAValueThatCannotBeUsedIsTold(t *testing.T) {
	ns := namespace(t, "faults")
	edit(t, ns, "settings", "1")
	faulty := fixture.App{Namespace: ns, Name: "faulty", Annotations: map[string]string{
		"configmap.reloader.stakater.com/reload":                "[,settings",
		"deployment.reloader.stakater.com/pause-period":         "soon",
		"reloader.stakater.com/coalesce-window":                 "soon",
		"configmaps.exclude.reloader.stakater.com/reload":       "other",
		"secretproviderclass.reloader.stakater.com/some-typo":   "odd, and no fault",
		"secretproviderclasses.exclude.reloader.stakater.com/x": "odd, and no fault",
	}}
	_, err := faulty.Create(t.Context(), shared.Client())
	require.NoError(t, err)
	other := newApp(t, ns, "other")
	p := startProgram(t, ns, writing(), nil, "--coalesce-window=0s")

	edit(t, ns, "settings", "2")
	edit(t, ns, other.Name, "2")
	for _, app := range []fixture.App{faulty, other} {
		require.Eventually(t, func() bool { return deployment(t, app).Generation == 2 }, soon, often, app.Name)
	}
	told := map[string]string{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		events, err := shared.Client().CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=faulty,type=Warning"})
		require.NoError(c, err)
		for i := range events.Items {
			told[events.Items[i].Reason] = events.Items[i].Message
		}
		assert.Equal(c, map[string]string{
			"EntryInvalid":       `configmap.reloader.stakater.com/reload: "[" is no regular expression and is skipped: correct it`,
			"PausePeriodInvalid": `deployment.reloader.stakater.com/pause-period "soon" is not a duration above zero: write one such as "5m"`,
			"WindowInvalid":      `reloader.stakater.com/coalesce-window "soon" is not a duration from 0s to 1h: write one such as "5s"`,
		}, told)
	}, soon, often)
	metrics, _ := p.get("/metrics")
	for reason := range told {
		assert.Contains(t, metrics, `reloader_annotation_faults_total{reason="`+reason+`"} 1`)
	}
}

// Lists are not held to the names that objects can have. A start does not wait
// for such a source.
func TestANameThatNoSourceCanHaveHoldsUpNothing(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "impossible-names")
	app := newApp(t, ns, "app", func(a *fixture.App) {
		a.Annotations = map[string]string{annotation.DefaultKeys().ConfigMapNamed: "shop/settings,app"}
	})
	_, r := startEngine(t, within(ns))
	edit(t, ns, app.Name, "2")
	reloads(t, r, app, 1)
}
