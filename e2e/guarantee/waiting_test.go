package guarantee

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/guarantee/history"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/record"
)

// record gives an app the index record that admission would have given it.
func (w *world) record(app fixture.App) {
	w.t.Helper()
	raw, err := w.on(app, w.client.AppsV1().RESTClient().Get()).Do(w.t.Context()).Raw()
	require.NoError(w.t, err)
	var object struct {
		Metadata metav1.ObjectMeta
		Spec     struct{ Template json.RawMessage }
	}
	require.NoError(w.t, json.Unmarshal(raw, &object))
	var template corev1.PodTemplateSpec
	require.NoError(w.t, json.Unmarshal(object.Spec.Template, &template))
	keys := annotation.DefaultKeys()
	hash, err := record.TemplateHash(object.Spec.Template, keys)
	require.NoError(w.t, err)
	generation := object.Metadata.Generation
	if app.Workload().Kind == reloader.Deployment {
		generation++ // this patch makes it
	}
	text, err := record.New(record.Identity{
		Namespace: app.Namespace, Name: app.Name, UID: string(object.Metadata.UID), Generation: generation,
	}, &template, hash, keys).Encode()
	require.NoError(w.t, err)
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{keys.Index: text}}})
	require.NoError(w.t, err)
	w.patchApp(app, string(patch))
}

// recordsAhead watches the workloads, and returns at the end of each one's events
// how many records it has seen, and those that were ahead of their generation.
func (w *world) recordsAhead() (end func() (seen int, ahead []string)) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	apps := w.client.AppsV1()
	type result struct {
		seen  int
		ahead []string
	}
	results := make(chan result)
	watches := 0
	for _, open := range []func() (watch.Interface, error){
		func() (watch.Interface, error) { return apps.Deployments(w.apps).Watch(ctx, metav1.ListOptions{}) },
		func() (watch.Interface, error) { return apps.StatefulSets(w.apps).Watch(ctx, metav1.ListOptions{}) },
		func() (watch.Interface, error) { return apps.DaemonSets(w.apps).Watch(ctx, metav1.ListOptions{}) },
	} {
		events, err := open()
		require.NoError(w.t, err)
		watches++
		go func() {
			var r result
			for event := range events.ResultChan() {
				meta, ok := event.Object.(metav1.Object)
				if !ok {
					continue
				}
				if text := meta.GetAnnotations()[annotation.DefaultKeys().Index]; text != "" {
					r.seen++
					if record.Ahead(text, meta.GetGeneration()) {
						r.ahead = append(r.ahead, fmt.Sprintf("%T %s, generation %d: %s", meta, meta.GetName(), meta.GetGeneration(), text))
					}
				}
			}
			results <- r
		}()
	}
	return func() (seen int, ahead []string) {
		cancel()
		for range watches {
			r := <-results
			seen, ahead = seen+r.seen, append(ahead, r.ahead...)
		}
		return seen, ahead
	}
}

// reports counts the events Reloaded of each workload.
func (w *world) reports() map[reloader.Workload]int {
	w.t.Helper()
	list, err := w.client.CoreV1().Events(w.apps).List(w.t.Context(), metav1.ListOptions{})
	require.NoError(w.t, err)
	counts := map[reloader.Workload]int{}
	for _, event := range list.Items {
		if event.Reason != "Reloaded" {
			continue
		}
		about := event.InvolvedObject
		n := max(1, int(event.Count))
		if event.Series != nil {
			n = max(n, int(event.Series.Count))
		}
		counts[reloader.Workload{Kind: reloader.WorkloadKind(about.Kind), Namespace: about.Namespace, Name: about.Name}] += n
	}
	return counts
}

// An engine ends while some workloads of a source wait for their coalescing
// window, and the others have been reloaded. The next one reloads the former, and
// does and reports nothing of the latter.
func TestARestartWhileWorkloadsWait(t *testing.T) {
	ways := map[string]func(e *engine){
		"killed":     func(e *engine) { e.kill() },
		"terminated": func(e *engine) { e.terminate() },
	}
	for way, end := range ways {
		for _, strategy := range []string{"env-vars", "annotations"} {
			t.Run(way+", "+strategy, func(t *testing.T) {
				w := newWorld(t, "waits-"+way+"-"+strategy)
				w.set("settings", "0")
				var prompt, slow []fixture.App
				for i, of := range []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet} {
					one, other := w.app(fmt.Sprint("prompt-", i), "settings"), w.app(fmt.Sprint("slow-", i), "settings")
					one.Kind, other.Kind = of, of
					other.Annotations[annotation.DefaultKeys().CoalesceWindow] = "6s"
					prompt, slow = append(prompt, one), append(slow, other)
				}
				all := append(append([]fixture.App{}, prompt...), slow...)
				w.create(all...)
				for _, app := range all {
					w.record(app)
				}
				e := w.engine("a", "--reload-strategy="+strategy)
				e.up()
				w.awaitCheckpoint()
				ahead := w.recordsAhead()

				since := w.now()
				w.set("settings", "1")
				w.awaitReloaded(len(prompt), since)
				require.Eventually(t, func() bool { return len(w.reports()) == len(prompt) }, 20*time.Second, 50*time.Millisecond)
				w.quiet(1500 * time.Millisecond) // the checkpoint says that the source is in motion
				w.requireReloadsIn(t, 0, since, workloadsOf(slow)...)
				end(e)
				e.up()
				w.awaitReloaded(len(all), since)
				w.quiet(2 * time.Second)
				w.requireReloadsIn(t, 1, since, workloadsOf(all)...)
				want := map[reloader.Workload]int{}
				for _, app := range all {
					want[app.Workload()] = 1
				}
				require.EventuallyWithT(t, func(t *assert.CollectT) { assert.Equal(t, want, w.reports()) }, 20*time.Second, 100*time.Millisecond)
				e.terminate()
				seen, wrong := ahead()
				assert.GreaterOrEqual(t, seen, 2*len(all))
				assert.Empty(t, wrong)
				w.history.Look(func(s *history.Story) { require.NoError(t, s.SameMarks()) })
			})
		}
	}
}
