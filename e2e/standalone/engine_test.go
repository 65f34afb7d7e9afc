package standalone

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/report"
)

// reports counts what the engine says has come of its reloads.
type reports struct {
	mu        sync.Mutex // guards everything below
	reloaded  map[reloader.Workload]int
	held      map[reloader.Workload]int
	takenBack map[reloader.Workload]string
	failed    int
	corrected int
	faults    []string
}

// count returns how often a workload was reloaded.
func (r *reports) count(w reloader.Workload) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reloaded[w]
}

// failures returns how many attempts were refused.
func (r *reports) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *reports) Reloaded(of report.Reload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reloaded[of.Workload]++
}

func (r *reports) Failed(report.Reload, reloader.Outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed++
}

func (r *reports) Held(of report.Reload, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[of.Workload]++
}

func (r *reports) TakenBack(of report.Reload, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takenBack[of.Workload] = by
}

func (r *reports) Doubtful(reloader.Workload, reloader.Source) {}

func (r *reports) Faulty(of report.Reload, faults []reloader.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fault := range faults {
		r.faults = append(r.faults, of.Workload.String()+": "+fault.Message)
	}
}

func (r *reports) Corrected(reloader.Workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.corrected++
}

// within has an engine watch some namespaces only. A test all of whose engines
// do may run beside others that do.
func within(namespaces ...string) func(*engine.Options) {
	return func(o *engine.Options) { o.Scope.Namespaces = namespaces }
}

// startEngine runs an engine until the test ends and returns when it is ready.
func startEngine(t *testing.T, options ...func(*engine.Options)) (*engine.Engine, *reports) {
	t.Helper()
	e, r, _ := runEngine(t, options...)
	return e, r
}

// runEngine is startEngine; the engine can be stopped before the test ends.
func runEngine(t *testing.T, options ...func(*engine.Options)) (*engine.Engine, *reports, func()) {
	t.Helper()
	r := &reports{
		reloaded:  map[reloader.Workload]int{},
		held:      map[reloader.Workload]int{},
		takenBack: map[reloader.Workload]string{},
	}
	key, err := engine.RandomKey()
	require.NoError(t, err)
	o := engine.Options{
		Config:   shared.RESTConfig(),
		Key:      key,
		Settings: policy.Settings{Keys: annotation.DefaultKeys()},
		Reporter: r,
		Log:      testr.New(t),
	}
	for _, set := range options {
		set(&o)
	}
	e, err := engine.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, e.Run(ctx)) })
	stop := func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	require.Eventually(t, e.Ready, soon, time.Millisecond)
	return e, r, stop
}

func namespace(t *testing.T, name string) string {
	t.Helper()
	_, err := shared.Client().CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return name
}

func auto() map[string]string { return map[string]string{annotation.DefaultKeys().Auto: "true"} }

func TestAChangeRollsEveryKind(t *testing.T) {
	ns := namespace(t, "every-kind")
	ctx, c := t.Context(), shared.Client()
	require.NoError(t, fixture.SetConfigMap(ctx, c, ns, "settings", map[string]string{"a": "1"}))
	require.NoError(t, fixture.SetSecret(ctx, c, ns, "password", map[string]string{"a": "1"}))
	var apps []fixture.App
	for _, k := range []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet} {
		app := fixture.App{Kind: k, Namespace: ns, Name: "app", Annotations: auto(), ConfigMaps: []string{"settings"}, Secrets: []string{"password"}}
		_, err := app.Create(ctx, c)
		require.NoError(t, err)
		apps = append(apps, app)
	}
	startEngine(t)
	require.NoError(t, fixture.SetConfigMap(ctx, c, ns, "settings", map[string]string{"a": "2"}))
	require.NoError(t, fixture.SetSecret(ctx, c, ns, "password", map[string]string{"a": "2"}))
	for _, app := range apps {
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			s, err := fixture.Read(ctx, c, app.Workload())
			require.NoError(t, err)
			assert.NotEmpty(t, s.Env("STAKATER_SETTINGS_CONFIGMAP"))
			assert.NotEmpty(t, s.Env("STAKATER_PASSWORD_SECRET"))
		}, soon, often, app.Workload().String())
	}
}

func TestTheFirstEditIsNeverMissed(t *testing.T) {
	const rounds = 200
	ns := namespace(t, "first-edit")
	ctx, c := t.Context(), shared.Client()
	_, r := startEngine(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	tests := map[string]func(t *testing.T, app fixture.App){
		"created": func(t *testing.T, app fixture.App) {
			_, err := app.Create(ctx, c)
			require.NoError(t, err)
		},
		"reference added": func(t *testing.T, app fixture.App) {
			withReference := app.ConfigMaps
			app.ConfigMaps = nil
			_, err := app.Create(ctx, c)
			require.NoError(t, err)
			app.ConfigMaps = withReference
			_, err = app.Update(ctx, c)
			require.NoError(t, err)
		},
	}
	for name, admit := range tests {
		t.Run(name, func(t *testing.T) {
			apps := make([]fixture.App, rounds)
			for i := range apps {
				name := fmt.Sprintf("%s-%d", map[string]string{"created": "c", "reference added": "r"}[name], i)
				apps[i] = fixture.App{Namespace: ns, Name: name, Annotations: auto(), ConfigMaps: []string{name}}
				require.NoError(t, fixture.SetConfigMap(ctx, c, ns, name, map[string]string{"a": "1"}))
			}
			for _, app := range apps {
				admit(t, app)
				wait := time.NewTimer(time.Duration(random.Int64N(int64(50 * time.Millisecond))))
				<-wait.C
				require.NoError(t, fixture.SetConfigMap(ctx, c, ns, app.Name, map[string]string{"a": "2"}))
			}
			require.Eventually(t, func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, app := range apps {
					if r.reloaded[app.Workload()] == 0 {
						return false
					}
				}
				return true
			}, soon, often)
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, app := range apps {
				assert.Equal(t, 1, r.reloaded[app.Workload()], app.Name)
			}
		})
	}
}

func TestRemovingAKeyIsAChange(t *testing.T) {
	ns := namespace(t, "removed-key")
	ctx, c := t.Context(), shared.Client()
	require.NoError(t, fixture.SetConfigMap(ctx, c, ns, "app", map[string]string{"a": "1", "b": "2"}))
	written, err := c.CoreV1().ConfigMaps(ns).Get(ctx, "app", metav1.GetOptions{})
	require.NoError(t, err)
	// A write that only removes does not move the time in managedFields, which
	// from here on is well before that of the workload.
	require.Eventually(t, func() bool { return time.Since(written.CreationTimestamp.Time) > 7*time.Second }, soon, often)
	_, r := startEngine(t)
	app := fixture.App{Namespace: ns, Name: "app", Annotations: auto(), ConfigMaps: []string{"app"}}
	_, err = app.Create(ctx, c)
	require.NoError(t, err)

	require.NoError(t, fixture.SetConfigMap(ctx, c, ns, "app", map[string]string{"a": "1"}))
	require.Eventually(t, func() bool { return r.count(app.Workload()) == 1 }, soon, often)
	app.TemplateAnnotations = map[string]string{"release": "2"}
	_, err = app.Update(ctx, c)
	require.NoError(t, err)
	require.NoError(t, fixture.SetConfigMap(ctx, c, ns, "app", nil))
	require.Eventually(t, func() bool { return r.count(app.Workload()) == 2 }, soon, often)
}
