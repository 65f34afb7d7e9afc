package standalone

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
)

// reloadedBefore creates the app as Reloader 1 has left it when the ConfigMap
// held that.
func (s stage) reloadedBefore(strategy kind.Strategy, value string) {
	s.t.Helper()
	d := s.app().Deployment()
	hash := fingerprint.LegacyConfigMap(map[string]string{"a": value}, nil)
	if strategy == kind.EnvVars {
		d.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: reloader.EnvName(reloader.ConfigMap, s.name), Value: hash}}
	} else {
		d.Spec.Template.Annotations = map[string]string{annotation.DefaultKeys().LastReloadedFrom: fmt.Sprintf(
			`{"type":"CONFIGMAP","name":%q,"namespace":%q,"hash":%q,"containerRefs":["app"]}`, s.name, s.ns, hash)}
	}
	_, err := deployments(s.ns).Create(s.t.Context(), d, metav1.CreateOptions{})
	require.NoError(s.t, err)
}

func (s stage) workload() reloader.Workload { return s.app().Workload() }

// Whatever Reloader 1 has left, and whether it had missed a change: the first
// start rolls nothing, and the next change rolls once.
func TestMovingOverRollsNothing(t *testing.T) {
	for _, strategy := range []kind.Strategy{kind.EnvVars, kind.Annotations} {
		for _, next := range []kind.Strategy{kind.EnvVars, kind.Annotations} {
			ns := namespace(t, "moving-"+string(strategy)+"-to-"+string(next))
			t.Run(string(strategy)+" to "+string(next), func(t *testing.T) {
				t.Parallel()
				upToDate, missed, never := stage{t, ns, "up-to-date"}, stage{t, ns, "missed"}, stage{t, ns, "never"}
				for _, s := range []stage{upToDate, missed, never} {
					s.holds("a")
				}
				upToDate.reloadedBefore(strategy, "a")
				missed.reloadedBefore(strategy, "before that")
				never.appears()
				_, _, stop := runEngine(t, remembers(t, ns), within(ns), func(o *engine.Options) { o.Strategy = next })
				requireRollouts(t, map[reloader.Workload]int{upToDate.workload(): 0, missed.workload(): 0, never.workload(): 0})
				for _, s := range []stage{upToDate, missed, never} {
					s.holds("b")
				}
				requireRollouts(t, map[reloader.Workload]int{upToDate.workload(): 1, missed.workload(): 1, never.workload(): 1})
				upToDate.holds("a")
				requireRollouts(t, map[reloader.Workload]int{upToDate.workload(): 2, missed.workload(): 1})
				stop()
			})
		}
	}
}

// Reloader 1 ran once more while this engine did not, or still runs when it
// starts: what it has rolled out is not rolled out again.
func TestWhatReloader1HasRolledOutIsNotDue(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "moving-twice")
	memory := remembers(t, ns)
	rolled, left := stage{t, ns, "rolled"}, stage{t, ns, "left"}
	for _, s := range []stage{rolled, left} {
		s.holds("a")
		s.reloadedBefore(kind.EnvVars, "a")
	}
	rolledOut := func(value string) {
		patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":%q,"value":%q}]}]}}}}`,
			reloader.EnvName(reloader.ConfigMap, rolled.name), fingerprint.LegacyConfigMap(map[string]string{"a": value}, nil))
		_, err := deployments(ns).Patch(t.Context(), rolled.name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "Reloader"})
		require.NoError(t, err)
	}
	_, _, stop := runEngine(t, within(ns), memory)
	stop()
	rolled.holds("b")
	left.holds("b")
	rolledOut("b")
	_, _, stop = runEngine(t, within(ns), memory, func(o *engine.Options) { o.CoalesceWindow = 2 * time.Second })
	requireRollouts(t, map[reloader.Workload]int{rolled.workload(): 1, left.workload(): 1})

	rolled.holds("c")
	rolledOut("c")
	requireRollouts(t, map[reloader.Workload]int{rolled.workload(): 2, left.workload(): 1})
	stop()
	startEngine(t, within(ns), memory)
	requireRollouts(t, map[reloader.Workload]int{rolled.workload(): 2, left.workload(): 1})
	rolled.holds("d")
	requireRollouts(t, map[reloader.Workload]int{rolled.workload(): 3})
}

// Who switches between the strategies finds the marks of the other one in the
// templates: a start rolls nothing for that, and every change rolls once.
func TestSwitchingStrategies(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "switching")
	memory := remembers(t, ns)
	s := stage{t, ns, "app"}
	s.holds("0")
	s.appears()
	for i, strategy := range []kind.Strategy{kind.EnvVars, kind.Annotations, kind.EnvVars, kind.EnvVars, kind.Annotations} {
		_, _, stop := runEngine(t, within(ns), memory, func(o *engine.Options) { o.Strategy = strategy })
		requireRollouts(t, map[reloader.Workload]int{s.workload(): i})
		// Content that an older mark of this strategy tells of is a change, too.
		s.holds(fmt.Sprint((i + 1) % 2))
		requireRollouts(t, map[reloader.Workload]int{s.workload(): i + 1})
		stop()
	}
	state, err := fixture.Read(t.Context(), shared.Client(), s.workload())
	require.NoError(t, err)
	assert.Len(t, state.Template.Spec.Containers[0].Env, 1)
	assert.Len(t, state.Template.Annotations, 1)

	_, _, stop := runEngine(t, within(ns), memory)
	s.holds("last")
	requireRollouts(t, map[reloader.Workload]int{s.workload(): 6})
	stop()
	state, err = fixture.Read(t.Context(), shared.Client(), s.workload())
	require.NoError(t, err)
	assert.Empty(t, state.Template.Annotations, "one mark is enough")
}
