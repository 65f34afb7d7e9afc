package standalone

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/kind"
)

func nightly(ns string, spec map[string]any) workload {
	return workload{kind: reloader.CronJob, ns: ns, name: "nightly", annotations: auto(), pod: using("settings"), spec: spec}
}

func TestACronJobRunsOncePerChange(t *testing.T) {
	for _, strategy := range []kind.Strategy{kind.EnvVars, kind.Annotations} {
		t.Run(string(strategy), func(t *testing.T) {
			ns := namespace(t, "cronjob-"+string(strategy))
			edit(t, ns, "settings", "1")
			w := nightly(ns, nil)
			w.replicas = 1
			created := w.create(t)
			w.patch(t, `{"spec":{"jobTemplate":{"metadata":{"labels":{"team":"a"},"annotations":{"note":"b"}}}}}`)
			_, r := startEngine(t, func(o *engine.Options) { o.Strategy = strategy })

			requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
			jobs := jobsOf(t, created)
			require.Len(t, jobs, 1)
			job := workload{kind: reloader.Job, ns: ns, name: jobs[0]}.read(t)
			assert.Equal(t, "a", job.GetLabels()["team"])
			assert.Equal(t, "b", job.GetAnnotations()["note"])
			assert.Equal(t, "manual", job.GetAnnotations()["cronjob.kubernetes.io/instantiate"])
			template := templateOf(t, job)
			if strategy == kind.EnvVars {
				assert.NotEmpty(t, variable(template, "app", "STAKATER_SETTINGS_CONFIGMAP"))
			} else {
				assert.Contains(t, template.Annotations[keys().LastReloadedFrom], `"name":"settings"`)
			}
			require.Eventually(t, func() bool {
				pods, err := shared.Client().CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
				require.NoError(t, err)
				return len(pods.Items) == 1
			}, soon, often, "the controller starts it")

			// Content that was there before is a change like any other, although
			// the Job that ran for it is still there.
			requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "1") })
			require.Eventually(t, secondsPass(t, ns), soon, often)
			requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
			assert.Len(t, jobsOf(t, created), 3)
			assert.Equal(t, int64(2), w.read(t).GetGeneration(), "the CronJob stays as its owner wrote it")
		})
	}
}

// secondsPass reports whether a whole second has passed, on the scale of
// managedFields, since it was made.
func secondsPass(t *testing.T, ns string) func() bool {
	t.Helper()
	n := 0
	stamp := func() string {
		n++
		edit(t, ns, "clock", fmt.Sprint(n))
		o, err := shared.Client().CoreV1().ConfigMaps(ns).Get(t.Context(), "clock", metav1.GetOptions{})
		require.NoError(t, err)
		return o.ManagedFields[0].Time.String()
	}
	first := stamp()
	return func() bool { return stamp() != first }
}

func TestASuspendedCronJobStartsNothing(t *testing.T) {
	ns := namespace(t, "cronjob-suspended")
	edit(t, ns, "settings", "1")
	w := nightly(ns, map[string]any{"suspend": true})
	created := w.create(t)
	other := workload{kind: reloader.Deployment, ns: ns, name: "web", annotations: auto(), pod: using("settings")}
	other.create(t)
	_, r := startEngine(t)
	requireReload(t, r, other.key(), func() { edit(t, ns, "settings", "2") })
	never(t, func() bool { return len(jobsOf(t, created)) > 0 })
	w.patch(t, `{"spec":{"suspend":false}}`)
	never(t, func() bool { return len(jobsOf(t, created)) > 0 }, "nothing stays due")
	requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "3") })
	assert.Len(t, jobsOf(t, created), 1)
}

// end makes the API server show a Job that has no pods as one that has
// succeeded.
func end(t *testing.T, ns, name string) {
	t.Helper()
	// Once it is set, the time of the start is the controller's.
	require.Eventually(t, func() bool {
		_, started, err := unstructured.NestedString(workload{kind: reloader.Job, ns: ns, name: name}.read(t).Object, "status", "startTime")
		require.NoError(t, err)
		return started
	}, soon, often)
	now := metav1.Now().UTC().Format(time.RFC3339)
	_, err := objects(t, reloader.Job, ns).Patch(t.Context(), name, types.MergePatchType, fmt.Appendf(nil,
		`{"status":{"completionTime":%[1]q,"conditions":[`+
			`{"type":"SuccessCriteriaMet","status":"True","lastTransitionTime":%[1]q},`+
			`{"type":"Complete","status":"True","lastTransitionTime":%[1]q}]}}`, now), metav1.PatchOptions{}, "status")
	require.NoError(t, err)
}

func TestWhatRunsAlreadyAndTheConcurrencyPolicy(t *testing.T) {
	t.Run("Forbid waits for it, and for nobody else", func(t *testing.T) {
		ns := namespace(t, "cronjob-forbid")
		edit(t, ns, "settings", "1")
		w := nightly(ns, map[string]any{"concurrencyPolicy": "Forbid"})
		created := w.create(t)
		other := workload{kind: reloader.Deployment, ns: ns, name: "web", annotations: auto(), pod: using("settings")}
		other.create(t)
		_, r := startEngine(t)
		requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
		first := jobsOf(t, created)
		require.Len(t, first, 1)

		requireReload(t, r, other.key(), func() { edit(t, ns, "settings", "3") })
		never(t, func() bool { return len(jobsOf(t, created)) > 1 })
		end(t, ns, first[0])
		require.Eventually(t, func() bool { return r.count(w.key()) == 2 }, soon, often)
		assert.Len(t, jobsOf(t, created), 2)
	})
	t.Run("Forbid waits for one that its schedule has started, without a look at others", func(t *testing.T) {
		ns := namespace(t, "cronjob-scheduled")
		edit(t, ns, "settings", "1")
		w := nightly(ns, map[string]any{"concurrencyPolicy": "Forbid"})
		created := w.create(t)
		// Whatever day it is, one has been due in that time.
		w.lastScheduled(t, time.Now().AddDate(-5, 0, 0))
		require.Eventually(t, func() bool {
			active, _, err := unstructured.NestedSlice(w.read(t).Object, "status", "active")
			require.NoError(t, err)
			return len(active) == 1
		}, soon, often)
		first := jobsOf(t, created)
		require.Len(t, first, 1)
		w.lastScheduled(t, time.Now())

		seen := new(tap)
		_, r := startEngine(t, within(ns), seen.connect)
		begun := seen.count("/jobs?")
		edit(t, ns, "settings", "2")
		require.Eventually(t, func() bool { return seen.count("/cronjobs/nightly") > 0 }, soon, often)
		never(t, func() bool { return len(jobsOf(t, created)) > 1 })
		assert.Equal(t, begun, seen.count("/jobs?"))
		end(t, ns, first[0])
		require.Eventually(t, func() bool { return r.count(w.key()) == 1 }, soon, often)
		assert.Len(t, jobsOf(t, created), 2)
	})
	t.Run("Replace ends it", func(t *testing.T) {
		ns := namespace(t, "cronjob-replace")
		edit(t, ns, "settings", "1")
		w := nightly(ns, map[string]any{"concurrencyPolicy": "Replace"})
		created := w.create(t)
		_, r := startEngine(t)
		requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "2") })
		first := jobsOf(t, created)
		requireReload(t, r, w.key(), func() { edit(t, ns, "settings", "3") })
		second := jobsOf(t, created)
		require.Len(t, second, 1)
		assert.NotEqual(t, first, second)
	})
}

// lastScheduled writes in the status of a CronJob when it was due last, from
// which its controller goes on.
func (w workload) lastScheduled(t *testing.T, at time.Time) {
	t.Helper()
	_, err := objects(t, w.kind, w.ns).Patch(t.Context(), w.name, types.MergePatchType,
		fmt.Appendf(nil, `{"status":{"lastScheduleTime":%q}}`, at.UTC().Format(time.RFC3339)), metav1.PatchOptions{}, "status")
	require.NoError(t, err)
}

// tap is the connection of an engine that is listened to.
type tap struct {
	next http.RoundTripper

	mu   sync.Mutex // guards read
	read []string   // the URLs of what was read
}

var _ http.RoundTripper = (*tap)(nil)

func (l *tap) connect(o *engine.Options) {
	o.Config.Wrap(func(next http.RoundTripper) http.RoundTripper { l.next = next; return l })
}

// RoundTrip implements http.RoundTripper.
func (l *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		l.mu.Lock()
		l.read = append(l.read, r.URL.String())
		l.mu.Unlock()
	}
	return l.next.RoundTrip(r)
}

// count returns how often something has been read whose URL contains that.
func (l *tap) count(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, url := range l.read {
		if strings.Contains(url, part) {
			n++
		}
	}
	return n
}

// Whatever a process that dies has done of a run, the next one makes no second
// of it.
func TestACronJobRunsOnceWhateverDies(t *testing.T) {
	for writes := range 2 {
		for _, arrives := range []bool{false, true} {
			t.Run(fmt.Sprintf("at write %d, which arrives: %v", writes+1, arrives), func(t *testing.T) {
				t.Parallel()
				ns := namespace(t, fmt.Sprintf("cronjob-dies-%d-%v", writes, arrives))
				edit(t, ns, "settings", "1")
				w := nightly(ns, nil)
				created := w.create(t)
				life := newLife(t, ns)
				first := life.start(t, &faulty{writes: writes, arrives: arrives, on: "jobs"})
				edit(t, ns, "settings", "2")
				first.dies(t)

				second := life.start(t, nil)
				require.Eventually(t, func() bool {
					return len(jobsOf(t, created)) == 1 && w.read(t).GetAnnotations()[keys().LastReloadedFrom] != ""
				}, soon, often)
				never(t, func() bool { return len(jobsOf(t, created)) > 1 })

				// Not even when the Job has been cleaned up since.
				require.NoError(t, objects(t, reloader.Job, ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
				second.stop(t)
				life.start(t, nil)
				never(t, func() bool { return len(jobsOf(t, created)) > 0 })
			})
		}
	}
}

// A template that others change starts no Job, so what has changed with it is
// still due.
func TestANewTemplateOfACronJobSettlesNothing(t *testing.T) {
	ns := namespace(t, "cronjob-template")
	edit(t, ns, "settings", "1")
	w := nightly(ns, nil)
	created := w.create(t)
	_, r := startEngine(t, func(o *engine.Options) { o.CoalesceWindow = 8 * time.Second })
	edit(t, ns, "settings", "2")
	w.patch(t, `{"spec":{"jobTemplate":{"spec":{"template":{"metadata":{"annotations":{"release":"2"}}}}}}}`)
	require.Eventually(t, func() bool { return r.count(w.key()) == 1 }, soon, often)
	jobs := jobsOf(t, created)
	require.Len(t, jobs, 1)
	job := workload{kind: reloader.Job, ns: ns, name: jobs[0]}.read(t)
	release, _, err := unstructured.NestedString(job.Object, "spec", "template", "metadata", "annotations", "release")
	require.NoError(t, err)
	assert.Equal(t, "2", release)
}
