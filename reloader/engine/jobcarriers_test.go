package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/record"
)

// asBefore puts the Job carrier there that the version before has left.
func (y *yard) asBefore(ending bool) *batchv1.Job {
	o := y.jobs["migrate"].DeepCopy()
	o.Name, o.UID = "migrate-0123456789", "carrier"
	o.Spec.Suspend = new(true)
	o.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "STAKATER_SETTINGS_CONFIGMAP", Value: jobMark}}
	o.Annotations = map[string]string{
		kind.CarrierLabel: fmt.Sprintf(`{"name":"migrate","uid":"old","ending":%v,"sources":[{"kind":"ConfigMap","name":"settings"}]}`, ending),
	}
	y.jobs[o.Name] = o
	return o
}

// An upgrade in the middle of an exchange loses nothing as long as the old Job is
// there.
func TestAJobCarrierOfTheVersionBeforeIsFinished(t *testing.T) {
	for name, prepare := range map[string]func(*yard){
		"that has announced nothing": func(y *yard) { y.asBefore(false) },
		"whose Job stands":           func(y *yard) { y.asBefore(true) },
		"whose Job waits for its pods": func(y *yard) {
			y.asBefore(true)
			y.jobs["migrate"].DeletionTimestamp = new(metav1.NewTime(y.clock.Now()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			y, r := newYard(t), new(told)
			prepare(y)
			e := y.process(t, someKey(t), r)
			lines := logged(e)
			require.NoError(t, y.step(t, e))
			assert.NotContains(t, y.jobs, "migrate-0123456789")
			assert.Len(t, y.revisions, 1)
			require.NoError(t, y.step(t, e))
			y.run(t, e, 2, exchangeSteps)
			y.requireReplaced(t)
			assert.Len(t, r.reloaded, 1)
			assert.Equal(t, 1, *lines, "one reload")
		})
	}
}

// What writes a record for a new Job must not make one that fits of one that did not.
func TestAJobCarrierOfTheVersionBeforeKeepsNoOtherRecord(t *testing.T) {
	of := func(uid string) string {
		text, err := record.Record{
			Version: record.Version, Namespace: "shop", Name: "migrate", UID: uid, Template: "00", Keys: record.KeysDigest(keys),
		}.Encode()
		require.NoError(t, err)
		return text
	}
	for name, tc := range map[string]struct{ uid, want string }{
		"that of the old Job is made for the new one": {"old", strings.Replace(of(""), `"g":0`, `"g":1`, 1)},
		"that of another one goes":                    {"other", ""},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			y.asBefore(false)
			y.jobs["migrate"].Annotations = map[string]string{keys.Index: of(tc.uid)}
			e := y.process(t, someKey(t), new(told))
			require.NoError(t, y.step(t, e))
			require.NoError(t, y.step(t, e))
			y.run(t, e, 2, exchangeSteps)
			y.requireReplaced(t)
			assert.Equal(t, tc.want, y.jobs["migrate"].Annotations[keys.Index])
		})
	}
}

func TestAJobCarrierOfTheVersionBeforeGoesWithoutItsJob(t *testing.T) {
	for name, prepare := range map[string]func(*yard){
		"somebody else is deleting it": func(y *yard) {
			y.asBefore(false)
			y.jobs["migrate"].DeletionTimestamp = new(metav1.NewTime(y.clock.Now()))
		},
		"it has ended": func(y *yard) {
			y.asBefore(false)
			y.jobs["migrate"].Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			y, r := newYard(t), new(told)
			prepare(y)
			require.NoError(t, y.step(t, y.process(t, someKey(t), r)))
			assert.Len(t, y.jobs, 1)
			assert.Empty(t, y.revisions)
			assert.Empty(t, r.reloaded)
		})
	}
}

// A tenant who may create Jobs writes the annotation of a carrier. Nothing is
// created or deleted for it, and it costs two reads and a line.
func TestForgedJobCarriersDoNothing(t *testing.T) {
	tests := map[string]func(y *yard, forged *batchv1.Job){
		"the attacker's image in the victim's place": func(_ *yard, forged *batchv1.Job) {
			forged.Spec.Template.Spec.Containers[0].Image = "registry.example.com/attackers:666"
		},
		"an unknown kind, and text for the log": func(_ *yard, forged *batchv1.Job) {
			forged.Annotations[kind.CarrierLabel] = `{"name":"ghost","uid":"0","ending":true,"gone":"2020-01-01T00:00:00.000000Z","suspend":true,"sources":[{"kind":"Nonsense","name":"x\nFAKE"}]}`
		},
		"no such Job, and gone long ago": func(_ *yard, forged *batchv1.Job) {
			forged.Annotations[kind.CarrierLabel] = `{"name":"ghost","uid":"0","ending":true,"gone":"2020-01-01T00:00:00.000000Z","suspend":true,"sources":[{"kind":"Secret","name":"x"}]}`
		},
		"the Job is gone":          func(y *yard, _ *batchv1.Job) { delete(y.jobs, "migrate") },
		"another one has its name": func(y *yard, _ *batchv1.Job) { y.jobs["migrate"].UID = "other" },
		"a path for a name": func(_ *yard, forged *batchv1.Job) {
			forged.Annotations[kind.CarrierLabel] = `{"name":"../secrets/a","uid":"old","sources":[{"kind":"Secret","name":"x"}]}`
		},
		"a queue has started it": func(_ *yard, forged *batchv1.Job) { forged.Spec.Suspend = new(false) },
		"no JSON":                func(_ *yard, forged *batchv1.Job) { forged.Annotations[kind.CarrierLabel] = "{" },
	}
	for name, forge := range tests {
		t.Run(name, func(t *testing.T) {
			y, r := newYard(t), new(told)
			forge(y, y.asBefore(true))
			jobs := len(y.jobs)
			e := y.process(t, someKey(t), r)
			lines := logged(e)
			forged := y.jobs["migrate-0123456789"]
			w := reloader.Workload{Kind: reloader.Job, Namespace: "shop", Name: forged.Name}
			for range 3 {
				assert.True(t, e.carries(w, forged), "it is no workload")
				for _, key := range drain(e.queues.carriers) {
					require.NoError(t, e.carry(t.Context(), key))
				}
			}
			assert.Empty(t, y.writes)
			assert.Len(t, y.jobs, jobs)
			assert.Empty(t, r.reloaded)
			assert.Empty(t, r.failed)
			assert.Equal(t, 1, *lines)
			assert.LessOrEqual(t, len(y.requests), 2)

			again := forged.DeepCopy()
			again.UID = types.UID("again")
			e.forget(w, moment{})
			assert.True(t, e.carries(w, again))
			assert.Equal(t, 1, e.queues.carriers.Len(), "another object of that name is looked at")
		})
	}
}
