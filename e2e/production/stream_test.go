package production

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/record"
)

const (
	// rate is how many admissions are asked for per second.
	rate = 50
	// lanes bounds how many are asked for at a time. Each updates a workload of
	// its own, so that no two updates conflict.
	lanes = 10
)

// stream asks for admissions of opted-in Deployments without a pause: in turn a
// create that is a dry run, and a real update that changes the pod template.
type stream struct {
	t         *testing.T
	namespace string
	apps      []fixture.App
	cancel    context.CancelFunc
	done      sync.WaitGroup

	mu sync.Mutex
	// The counts since the last look; guarded by mu.
	count tally
}

// tally is what came of a part of the stream.
type tally struct {
	asked int
	// refused are the errors of requests that were not admitted.
	refused []string
	// unseen are the requests that were admitted without the webhook: they
	// carry no record, or one that does not fit.
	unseen int
	// opened counts, by webhook, the calls that the API server let pass without
	// an answer; reloaded are the workloads that carry the mark of a reload.
	opened   map[string]int
	reloaded []string
}

// missed is how many requests the webhook did not see: those that did not get
// their record, and those of which the API server says that it let them pass
// without an answer of a webhook.
func (c tally) missed() int {
	return max(c.unseen, c.opened[validating], c.opened[mutating])
}

// The webhooks' names.
const (
	validating = "validate-workload.reloader.stakater.com"
	mutating   = "mutate-workload.reloader.stakater.com"
)

// startStream starts a stream that runs until the test ends.
func startStream(t *testing.T) *stream {
	t.Helper()
	ns, err := shared.Client().CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "stream-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	s := &stream{t: t, namespace: ns.Name}
	for i := range lanes {
		name := "app-" + strconv.Itoa(i)
		require.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), s.namespace, name, map[string]string{"key": "1"}))
		require.NoError(t, fixture.SetSecret(t.Context(), shared.Client(), s.namespace, name, map[string]string{"key": "1"}))
		app := s.app(name)
		_, err := app.Create(t.Context(), shared.Client())
		require.NoError(t, err)
		s.apps = append(s.apps, app)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.cancel = cancel
	t.Cleanup(s.stop)
	turns := make(chan int)
	s.done.Go(func() {
		defer close(turns)
		ticker := time.NewTicker(time.Second / rate)
		defer ticker.Stop()
		for turn := 0; ; turn++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			select {
			case turns <- turn:
			case <-ctx.Done():
				return
			}
		}
	})
	for lane := range lanes {
		s.done.Go(func() {
			for turn := range turns {
				s.ask(ctx, lane, turn)
			}
		})
	}
	return s
}

func (s *stream) app(name string) fixture.App {
	return fixture.App{
		Namespace: s.namespace, Name: name, Annotations: map[string]string{annotation.DefaultKeys().Auto: "true"},
		ConfigMaps: []string{name}, Secrets: []string{name},
	}
}

// stop ends the stream; again does nothing.
func (s *stream) stop() {
	s.cancel()
	s.done.Wait()
}

func (s *stream) ask(ctx context.Context, lane, turn int) {
	var admitted *appsv1.Deployment
	var err error
	deployments := shared.Client().AppsV1().Deployments(s.namespace)
	if turn%2 == 0 {
		admitted, err = deployments.Create(ctx, s.app("new-"+strconv.Itoa(turn)).Deployment(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	} else {
		patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"registry.example/app:%d"}]}}}}`, turn)
		admitted, err = deployments.Patch(ctx, s.apps[lane].Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	}
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.asked++
	switch {
	case apierrors.IsConflict(err): // with the Deployment controller, which writes annotations
	case err != nil:
		s.count.refused = append(s.count.refused, err.Error())
	case !fits(&admitted.ObjectMeta):
		s.count.unseen++
	}
}

// fits reports whether an object carries the record of its present state.
func fits(meta *metav1.ObjectMeta) bool {
	keys := annotation.DefaultKeys()
	r, err := record.Decode(meta.Annotations[keys.Index])
	return err == nil && r.Fits(record.Identity{
		Namespace: meta.Namespace, Name: meta.Name, UID: string(meta.UID), Generation: meta.Generation,
	}, keys) == nil
}

// look returns the counts since the last look and starts counting anew.
func (s *stream) look() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.count
	s.count = tally{}
	return count
}

// during runs a part of a test while the stream goes on, and for a moment more,
// and holds that nothing was refused and nothing reloaded. It returns how many
// requests the webhook did not see.
func (s *stream) during(t *testing.T, what string, part func()) (missed int) {
	t.Helper()
	count := s.watch(t, what, part)
	assert.Empty(t, count.refused, "%s refuses nobody", what)
	assert.Empty(t, count.reloaded, "%s reloads nothing", what)
	return count.missed()
}

// watch is during without a judgement: it returns what came of the stream.
func (s *stream) watch(t *testing.T, what string, part func()) tally {
	t.Helper()
	s.look()
	failedOpen := failedOpen(t)
	reasons := failureReasons(t)
	began := time.Now()
	part()
	s.await(t, rate)
	count := s.look()
	count.opened = failuresSince(t, failedOpen)
	t.Logf("%s: %d admissions in %.1f s, %d refused, %d without a record, failed open by webhook: %v",
		what, count.asked, time.Since(began).Seconds(), len(count.refused), count.unseen, count.opened)
	for reason, times := range subtract(failureReasons(t), reasons) {
		t.Logf("%s: the API server said %d times: %s", what, times, reason)
	}
	count.reloaded = s.reloaded(t)
	return count
}

// await lets so many admissions pass.
func (s *stream) await(t *testing.T, admissions int) {
	t.Helper()
	s.mu.Lock()
	from := s.count.asked
	s.mu.Unlock()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.count.asked >= from+admissions
	}, 2*time.Minute, 50*time.Millisecond, "the stream goes on")
}

// reloaded returns the workloads of the stream that carry the mark of a reload.
func (s *stream) reloaded(t *testing.T) (names []string) {
	t.Helper()
	list, err := shared.Client().AppsV1().Deployments(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, lanes)
	for i := range list.Items {
		text, err := json.Marshal(list.Items[i].Spec.Template)
		require.NoError(t, err)
		if strings.Contains(string(text), "STAKATER_") {
			names = append(names, list.Items[i].Name)
		}
	}
	return names
}

// failedOpen returns how many calls of each of our webhooks the API server has
// let pass without an answer since it started.
func failedOpen(t *testing.T) map[string]int {
	t.Helper()
	text, err := shared.Client().Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	require.NoError(t, err)
	counts := map[string]int{}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, "apiserver_admission_webhook_fail_open_count{name=\"")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, `"`)
		fields := strings.Fields(line)
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		require.NoError(t, err)
		counts[name] += int(value)
	}
	return counts
}

// failuresSince returns what failedOpen counted since then.
func failuresSince(t *testing.T, since map[string]int) map[string]int {
	t.Helper()
	return subtract(failedOpen(t), since)
}

func subtract(counts, since map[string]int) map[string]int {
	for name, count := range since {
		if counts[name] -= count; counts[name] == 0 {
			delete(counts, name)
		}
	}
	return counts
}

// failureReasons returns how often the API server has said what about a webhook
// that did not answer, since it started: what to look at when requests pass
// unseen that should not.
func failureReasons(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(shared.Dir(), "logs", "kube-apiserver.log"))
	require.NoError(t, err)
	reasons := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if _, reason, found := strings.Cut(strings.TrimSpace(line), "Failed calling webhook, failing open "); found {
			reasons[reason]++
		}
	}
	return reasons
}
