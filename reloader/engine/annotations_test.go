package engine

import (
	"maps"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
)

// An annotation that the hash leaves out can be edited without notice, and one
// that the watches drop is never read.
func TestNoAnnotationOfAWorkloadIsOverlooked(t *testing.T) {
	in := newTestIntake(t)
	kept := readOfWorkloads(keys)
	none := in.hash(nil)
	for a := range keys.All() {
		edited := in.hash(map[string]string{a.Key: "true"})
		if a.On(annotation.Workload) {
			assert.NotEqual(t, none, edited, "%s: a value that comes is an edit", a.Key)
			assert.NotEqual(t, edited, in.hash(map[string]string{a.Key: "false"}), "%s: another value is an edit", a.Key)
			assert.Equal(t, math.MaxInt, kept[a.Key], "%s: the watches keep all of it", a.Key)
		} else {
			assert.Equal(t, none, edited, "%s: what the engine itself writes on a workload is no edit", a.Key)
		}
	}
}

// The description of an annotation agrees with the code that reads it: what
// changes how a workload is reloaded is described as the user's, on workloads.
func TestEveryAnnotationThatTakesEffectCountsAsAnEdit(t *testing.T) {
	type effect struct {
		window, pause       time.Duration
		hasWindow, hasPause bool
		restarts            bool
	}
	s := policy.Settings{Keys: keys, CSI: true}
	rollout, ok := kind.BuiltIn().ByName(reloader.Rollout)
	assert.True(t, ok)
	on := func(annotations map[string]string) (e effect, p *policy.Policy) {
		e.window, e.hasWindow = policy.Window(annotations, keys)
		e.pause, e.hasPause = policy.PausePeriod(annotations, keys)
		e.restarts = rollout.Restarts(&kind.Manifest{Meta: &metav1.ObjectMeta{Annotations: annotations}}, keys)
		return e, policy.Parse(annotations, nil, s)
	}
	in := newTestIntake(t)
	for a := range keys.All() {
		takesEffect := false
		for _, base := range []map[string]string{{}, {keys.Auto: "true"}} {
			for _, value := range []string{"true", "false", "5m", "restart", "a,b.*"} {
				annotations := maps.Clone(base)
				annotations[a.Key] = value
				before, policyBefore := on(base)
				after, policyAfter := on(annotations)
				if before != after || !policyBefore.Equal(policyAfter) {
					takesEffect = true
					assert.NotEqual(t, in.hash(base), in.hash(annotations), "%s: %s", a.Key, value)
				}
			}
		}
		assert.Equal(t, a.On(annotation.Workload), takesEffect, "%s: described and done", a.Key)
	}
}
