package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
)

func TestMarksOfReloader1(t *testing.T) {
	const sum = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	variable := func(name, value string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Env: []corev1.EnvVar{{Name: name, Value: value}}}}}}
	}
	annotation := func(text string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{keys.LastReloadedFrom: text}}}
	}
	tests := map[string]struct {
		template corev1.PodTemplateSpec
		want     legacyMarks
	}{
		"none":                        {corev1.PodTemplateSpec{}, nil},
		"a variable":                  {variable("STAKATER_A_SECRET", sum), legacyMarks{"STAKATER_A_SECRET": sum}},
		"a variable of ours":          {variable("STAKATER_A_SECRET", "v1-"+sum), nil},
		"a variable of somebody else": {variable("COMMIT", sum), nil},
		"the annotation":              {annotation(`{"type":"CONFIGMAP","name":"my.cm","hash":"` + sum + `"}`), legacyMarks{"STAKATER_MY_CM_CONFIGMAP": sum}},
		"an annotation of ours":       {annotation(`{"type":"CONFIGMAP","name":"my.cm","hash":"v1-a"}`), nil},
		"an annotation of no kind":    {annotation(`{"type":"POD","name":"my.cm","hash":"` + sum + `"}`), nil},
		"an annotation of no form":    {annotation(`{`), nil},
		"a name that no source has":   {annotation(`{"type":"CONFIGMAP","name":"` + strings.Repeat("a", 300_000) + `","hash":"` + sum + `"}`), nil},
		"a name with a blank":         {annotation(`{"type":"CONFIGMAP","name":"a b","hash":"` + sum + `"}`), nil},
		"a variable of no source":     {variable("STAKATER_"+strings.Repeat("A", 300)+"_SECRET", sum), nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, legacyMarksOf(&tc.template, keys))
		})
	}
}

// What a tenant writes into templates takes a bounded amount of memory, and none if
// the workload has not opted in.
func TestMarksOfReloader1AreBounded(t *testing.T) {
	template := newApp(web).template()
	for i := range 15_000 {
		template.Spec.Containers[0].Env = append(template.Spec.Containers[0].Env, corev1.EnvVar{
			Name: fmt.Sprintf("STAKATER_%d_SECRET", i), Value: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
		})
	}
	assert.Len(t, legacyMarksOf(&template, keys), maxLegacyMarks)
	for name, optedIn := range map[string]bool{"opted in": true, "not opted in": false} {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			a := newApp(web)
			if !optedIn {
				a = a.with(func(a *app) { a.annotations = nil })
			}
			in.observe(web, a.meta(), moment{})
			m := a.manifest(t)
			m.Template = &template
			require.True(t, in.supply(m))
			assert.Equal(t, optedIn, in.legacyMark(web, reloader.Source{Kind: reloader.Secret, Name: "7"}) != "")
		})
	}
}

// A mark of Reloader 1 settles what the ledger holds for due, until somebody
// else has changed the workload.
func TestWhoHasBeenReloadedByReloader1(t *testing.T) {
	is := func(value string) legacyMarks {
		return legacyMarks{"STAKATER_SETTINGS_CONFIGMAP": fingerprint.LegacyConfigMap(map[string]string{"a": value}, nil)}
	}
	tests := map[string]struct {
		marks   legacyMarks
		happens func(e *Engine)
		wantDue bool
	}{
		"by the present content": {marks: is("2")},
		"by older content":       {marks: is("1"), wantDue: true},
		"never":                  {wantDue: true},
		"but we have since": {
			marks: is("2"), wantDue: true,
			happens: func(e *Engine) {
				e.intake.aim(web)
				e.intake.landed(web, &metav1.ObjectMeta{UID: "first", Generation: 2})
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, unreachable(t), new(told))
			settled(t, e.intake, newApp(web))
			e.intake.workloads[web].legacy = tc.marks
			e.intake.moving.Store(len(tc.marks) > 0)
			if tc.happens != nil {
				tc.happens(e)
			}
			event(e, "settings", "9", updated)
			_, _ = e.ledger.take(settings)
			object := configMapObject("settings", "9", "2")
			require.NoError(t, e.lookAt(t.Context(), settings, e.digest(&object)))
			assert.Equal(t, tc.wantDue, len(e.ledger.due(web)) > 0)
			assert.Equal(t, tc.wantDue, len(drain(e.queues.workloads)) > 0)
		})
	}
}
