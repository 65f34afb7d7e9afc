package standalone

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
)

func erase(t *testing.T, ns, name string) {
	t.Helper()
	require.NoError(t, shared.Client().CoreV1().ConfigMaps(ns).Delete(t.Context(), name, metav1.DeleteOptions{}))
}

func onCreate(o *engine.Options)     { o.ReloadOnCreate = true }
func onDelete(o *engine.Options)     { o.ReloadOnDelete = true }
func afterRestart(o *engine.Options) { o.SyncAfterRestart = true }

// stage is one workload and its source, of the same name, while an engine runs.
type stage struct {
	t    *testing.T
	ns   string
	name string
}

func (s stage) app() fixture.App {
	return fixture.App{Namespace: s.ns, Name: s.name, Annotations: auto(), ConfigMaps: []string{s.name}}
}

func (s stage) appears() {
	_, err := s.app().Create(s.t.Context(), shared.Client())
	require.NoError(s.t, err)
}

func (s stage) upgrade() {
	app := s.app()
	app.TemplateAnnotations = map[string]string{"release": "2"}
	_, err := app.Update(s.t.Context(), shared.Client())
	require.NoError(s.t, err)
}

func (s stage) holds(value string) { edit(s.t, s.ns, s.name, value) }
func (s stage) isDeleted()         { erase(s.t, s.ns, s.name) }

// says has the source carry an annotation.
func (s stage) says(key string) {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"true"}}}`, key)
	_, err := shared.Client().CoreV1().ConfigMaps(s.ns).Patch(s.t.Context(), s.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(s.t, err)
}

// rolled waits until that many reloads have left a mark.
func (s stage) rolled(reloads int64) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		o, err := shared.Client().AppsV1().Deployments(s.ns).Get(s.t.Context(), s.name, metav1.GetOptions{})
		require.NoError(s.t, err)
		all := o.Spec.Template.Annotations[annotation.DefaultKeys().LastReloadedFrom]
		for _, v := range o.Spec.Template.Spec.Containers[0].Env {
			all += v.Value
		}
		return o.Generation == 1+reloads && strings.Contains(all, "v2-")
	}, soon, often)
}

// What happens while one engine runs, to one workload each, after what was there
// before. What comes together is within a coalescing window.
func TestWhatBeginsAndEndsWhileTheEngineRuns(t *testing.T) {
	type steps = func(s stage)
	nothing := func(stage) {}
	both := func(s stage) { s.holds("a"); s.appears() }
	type story struct {
		before, while steps
		want          int
	}
	annotations := func(o *engine.Options) { o.Strategy = kind.Annotations }
	tests := map[string]struct {
		options []func(*engine.Options)
		stories map[string]story
	}{
		"neither counts": {nil, map[string]story{
			"created":                    {stage.appears, func(s stage) { s.holds("a") }, 0},
			"deleted":                    {both, stage.isDeleted, 0},
			"comes back with the same":   {both, func(s stage) { s.isDeleted(); s.holds("a") }, 0},
			"comes back with other":      {both, func(s stage) { s.isDeleted(); s.holds("b") }, 1},
			"created and then changed":   {stage.appears, func(s stage) { s.holds("a"); s.holds("b") }, 1},
			"new, created after its app": {nothing, func(s stage) { s.appears(); s.holds("a") }, 0},
		}},
		"creation counts": {[]func(*engine.Options){onCreate}, map[string]story{
			"created":                    {stage.appears, func(s stage) { s.holds("a") }, 1},
			"deleted":                    {both, stage.isDeleted, 0},
			"comes back with the same":   {both, func(s stage) { s.isDeleted(); s.holds("a") }, 0},
			"new, as helm installs it":   {nothing, both, 0},
			"new, created after its app": {nothing, func(s stage) { s.appears(); s.holds("a") }, 1},
			"created with an upgrade":    {stage.appears, func(s stage) { s.holds("a"); s.upgrade() }, 1},
		}},
		"deletion counts": {[]func(*engine.Options){onDelete}, map[string]story{
			"created":                  {stage.appears, func(s stage) { s.holds("a") }, 0},
			"deleted":                  {both, func(s stage) { s.isDeleted(); s.rolled(1) }, 1},
			"changed, then deleted":    {both, func(s stage) { s.holds("b"); s.rolled(1); s.isDeleted(); s.rolled(2) }, 2},
			"comes back with the same": {both, func(s stage) { s.isDeleted(); s.holds("a") }, 0},
			"comes back with other":    {both, func(s stage) { s.isDeleted(); s.holds("b") }, 1},
			"comes back late": {
				both, func(s stage) { s.isDeleted(); s.rolled(1); s.holds("a"); s.rolled(2) }, 2,
			},
			"goes with an upgrade": {both, func(s stage) { s.isDeleted(); s.upgrade() }, 1},
			"goes, ignored": {
				func(s stage) { both(s); s.says(annotation.DefaultKeys().Ignore) }, stage.isDeleted, 0,
			},
			"was never there": {stage.appears, nothing, 0},
		}},
		"deletion counts, with annotations": {[]func(*engine.Options){onDelete, annotations}, map[string]story{
			"deleted": {both, func(s stage) { s.isDeleted(); s.rolled(1) }, 1},
			"comes back late": {
				both, func(s stage) { s.isDeleted(); s.rolled(1); s.holds("a"); s.rolled(2) }, 2,
			},
		}},
		"both count": {[]func(*engine.Options){onCreate, onDelete}, map[string]story{
			"created":                  {stage.appears, func(s stage) { s.holds("a") }, 1},
			"deleted":                  {both, stage.isDeleted, 1},
			"comes back with the same": {both, func(s stage) { s.isDeleted(); s.holds("a") }, 0},
			"created and deleted":      {stage.appears, func(s stage) { s.holds("a"); s.rolled(1); s.isDeleted(); s.rolled(2) }, 2},
		}},
	}
	for name, tc := range tests {
		ns := namespace(t, "lifecycle-"+dashed(name))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := map[reloader.Workload]int{}
			for name, story := range tc.stories {
				s := stage{t, ns, dashed(name)}
				story.before(s)
				want[s.app().Workload()] = story.want
			}
			startEngine(t, append(tc.options, within(ns), func(o *engine.Options) { o.CoalesceWindow = 2 * time.Second })...)
			for name, story := range tc.stories {
				if story.while(stage{t, ns, dashed(name)}); t.Failed() {
					return
				}
			}
			requireRollouts(t, want)
		})
	}
}

// What happens while no engine runs: at first, and when clocks can tell that it
// was later.
func TestWhatBeginsAndEndsWhileNoEngineRuns(t *testing.T) {
	type story struct {
		before, first, second func(s stage)
		want                  int
	}
	nothing := func(stage) {}
	both := func(s stage) { s.holds("a"); s.appears() }
	tests := map[string]struct {
		options []func(*engine.Options)
		stories map[string]story
	}{
		"creation counts while an engine runs": {[]func(*engine.Options){onCreate}, map[string]story{
			"created for an old app": {stage.appears, nothing, func(s stage) { s.holds("a") }, 0},
			"created for a new app":  {nothing, stage.appears, func(s stage) { s.holds("a") }, 0},
			"changed":                {both, nothing, func(s stage) { s.holds("b") }, 1},
		}},
		"creation counts": {[]func(*engine.Options){onCreate, afterRestart}, map[string]story{
			"created for an old app": {stage.appears, nothing, func(s stage) { s.holds("a") }, 1},
			"created for a new app":  {nothing, stage.appears, func(s stage) { s.holds("a") }, 1},
			"both are new":           {nothing, both, nothing, 0},
			"the app is new":         {nothing, func(s stage) { s.holds("a") }, stage.appears, 0},
			"all is old":             {both, nothing, nothing, 0},
		}},
		"deletion does not count": {nil, map[string]story{
			"deleted":                  {both, stage.isDeleted, nothing, 0},
			"comes back with the same": {both, stage.isDeleted, func(s stage) { s.holds("a") }, 0},
			"comes back with other":    {both, stage.isDeleted, func(s stage) { s.holds("b") }, 1},
		}},
		"deletion counts": {[]func(*engine.Options){onDelete}, map[string]story{
			"deleted":                  {both, stage.isDeleted, nothing, 1},
			"comes back with the same": {both, stage.isDeleted, func(s stage) { s.holds("a") }, 0},
			"comes back with other":    {both, stage.isDeleted, func(s stage) { s.holds("b") }, 1},
			"came and went":            {stage.appears, func(s stage) { s.holds("a") }, stage.isDeleted, 0},
		}},
	}
	for name, tc := range tests {
		ns := namespace(t, "away-"+dashed(name))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := slices.Concat(tc.options, []func(*engine.Options){remembers(t, ns), within(ns)})
			each := func(do func(s stage, of story)) {
				for name, of := range tc.stories {
					do(stage{t, ns, dashed(name)}, of)
				}
			}
			each(func(s stage, of story) { of.before(s) })
			_, _, stop := runEngine(t, options...)
			stop()
			each(func(s stage, of story) { of.first(s) })
			later := time.Now().Add(7 * time.Second)
			require.Eventually(t, func() bool { return time.Now().After(later) }, soon, often)
			each(func(s stage, of story) { of.second(s) })
			want := map[reloader.Workload]int{}
			each(func(s stage, of story) { want[s.app().Workload()] = of.want })
			_, _, stop = runEngine(t, options...)
			requireRollouts(t, want)
			stop()
			// The next one finds nothing to do.
			_, r := startEngine(t, options...)
			require.Never(t, func() bool {
				for w := range want {
					if r.count(w) > 0 {
						return true
					}
				}
				return false
			}, quiet, often)
		})
	}
}

// A source whose end has been rolled out comes back while no engine runs.
func TestWhatComesBackAfterItsEndIsAChange(t *testing.T) {
	ns := namespace(t, "away-comes-back")
	memory := remembers(t, ns)
	s := stage{t, ns, "app"}
	s.holds("a")
	s.appears()
	_, _, stop := runEngine(t, memory, onDelete)
	s.isDeleted()
	requireRollouts(t, map[reloader.Workload]int{s.app().Workload(): 1})
	stop()
	s.holds("a")
	startEngine(t, memory, onDelete)
	requireRollouts(t, map[reloader.Workload]int{s.app().Workload(): 2})
	s.rolled(2)
}

// dashed makes a name of an object out of a sentence.
func dashed(sentence string) string {
	return strings.ReplaceAll(strings.ReplaceAll(sentence, ",", ""), " ", "-")
}
