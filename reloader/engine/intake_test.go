package engine

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/engine/internal/share"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
)

var keys = annotation.DefaultKeys() //nolint:gochecknoglobals // a constant in all but syntax

// app is one state of a workload, as the API server has it.
type app struct {
	workload    reloader.Workload
	uid         types.UID
	version     string
	generation  int64
	annotations map[string]string
	configMaps  []string
	labels      map[string]string // of the pod template
	created     time.Time
	fields      []metav1.ManagedFieldsEntry
}

// newApp opted in, uses settings and is in its first generation.
func newApp(w reloader.Workload) app {
	return app{
		workload: w, uid: "first", version: "10", generation: 1,
		annotations: map[string]string{keys.Auto: "true"}, configMaps: []string{"settings"},
	}
}

func (a app) with(change func(*app)) app {
	a.annotations = maps.Clone(a.annotations)
	change(&a)
	return a
}

func (a app) template() corev1.PodTemplateSpec {
	container := corev1.Container{Name: "main"}
	for _, name := range a.configMaps {
		container.EnvFrom = append(container.EnvFrom, corev1.EnvFromSource{
			ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
		})
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: a.labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{container}},
	}
}

// meta is what a watch shows of it.
func (a app) meta() *metav1.ObjectMeta {
	return &metav1.ObjectMeta{
		Namespace: a.workload.Namespace, Name: a.workload.Name, UID: a.uid,
		ResourceVersion: a.version, Generation: a.generation, CreationTimestamp: metav1.NewTime(a.created),
		Annotations: a.annotations, ManagedFields: a.fields,
	}
}

// object is what a read shows of it.
func (a app) object() runtime.Object {
	switch a.workload.Kind {
	case reloader.StatefulSet:
		return &appsv1.StatefulSet{ObjectMeta: *a.meta(), Spec: appsv1.StatefulSetSpec{Template: a.template()}}
	case reloader.DaemonSet:
		return &appsv1.DaemonSet{ObjectMeta: *a.meta(), Spec: appsv1.DaemonSetSpec{Template: a.template()}}
	default:
	}
	return &appsv1.Deployment{ObjectMeta: *a.meta(), Spec: appsv1.DeploymentSpec{Template: a.template()}}
}

func (a app) manifest(t *testing.T) *kind.Manifest {
	t.Helper()
	return readAs(t, a.workload.Kind, a.object())
}

// readAs is a workload as the engine reads it.
func readAs(t *testing.T, of reloader.WorkloadKind, object any) *kind.Manifest {
	t.Helper()
	k, ok := kind.BuiltIn().ByName(of)
	require.True(t, ok)
	raw, err := json.Marshal(object)
	require.NoError(t, err)
	m, err := k.Read(raw)
	require.NoError(t, err)
	return m
}

// hashOf is the hash of a template of which nobody has the JSON.
func hashOf(template *corev1.PodTemplateSpec) string {
	raw, err := json.Marshal(template)
	if err != nil {
		panic(err)
	}
	hash, err := record.TemplateHash(raw, keys)
	if err != nil {
		panic(err)
	}
	return hash
}

func (a app) record() record.Record {
	template := a.template()
	return record.New(record.Identity{
		Namespace: a.workload.Namespace, Name: a.workload.Name, UID: string(a.uid), Generation: a.generation,
	}, &template, hashOf(&template), keys)
}

// recorded is the app as admission leaves it, after a change of the record.
func (a app) recorded(t *testing.T, changes ...func(*record.Record)) app {
	t.Helper()
	r := a.record()
	for _, change := range changes {
		change(&r)
	}
	text, err := r.Encode()
	require.NoError(t, err)
	return a.with(func(a *app) { a.annotations[keys.Index] = text })
}

func newTestIntake(t *testing.T) *intake {
	t.Helper()
	s := policy.Settings{Keys: keys}
	q := newQueues(clock.RealClock{}, nil)
	t.Cleanup(q.shutDown)
	return newIntake(s, kind.BuiltIn(), 0, index.New(s), newLedger(), q, share.New(share.Unlimited))
}

// drain takes what is in a queue.
func drain[K comparable](q workqueue.TypedRateLimitingInterface[K]) []K {
	var keys []K
	for q.Len() > 0 {
		key, _ := q.Get()
		q.Forget(key)
		q.Done(key)
		keys = append(keys, key)
	}
	return keys
}

// allResolved reports whether no workload waits for being read.
func (in *intake) allResolved() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.unresolved == 0
}

// settle has the engine know the app, and nothing to do.
func settled(t *testing.T, in *intake, a app) {
	t.Helper()
	in.observe(a.workload, a.meta(), moment{})
	if in.open(a.workload) {
		require.True(t, in.supply(a.manifest(t)))
	}
	for _, s := range in.index.DependsOn(a.workload) {
		in.ledger.take(s)
		in.ledger.look(s, written(1, "a"), func() []reloader.Workload { return in.index.Dependents(s, index.Matches{}, nil) })
	}
	drain(in.queues.resolve)
	drain(in.queues.sources)
	drain(in.queues.workloads)
	require.True(t, in.allResolved())
}

// due is a look that shows a change of settings, on which web depends.
func due(t *testing.T, l *ledger, c content) {
	t.Helper()
	dueTo(t, l, web, c)
}

// dueTo is due for another workload.
func dueTo(t *testing.T, l *ledger, w reloader.Workload, c content) {
	t.Helper()
	require.True(t, l.news(settings, c.version))
	taken, _ := l.take(settings)
	require.True(t, taken)
	overdue, outdated := l.look(settings, c, func() []reloader.Workload { return []reloader.Workload{w} })
	require.False(t, outdated)
	require.Equal(t, []reloader.Workload{w}, overdue)
}

func configMap(name string) reloader.Source {
	return reloader.Source{Kind: reloader.ConfigMap, Namespace: web.Namespace, Name: name}
}

func TestWhatAnEventOfAKnownWorkloadAsksFor(t *testing.T) {
	tests := map[string]struct {
		known func(t *testing.T) app
		event func(t *testing.T, a app) app
		// want after the event, before anything was read.
		wantRead    bool
		wantSources []reloader.Source
	}{
		"of its status: nothing": {
			known:       func(*testing.T) app { return newApp(web) },
			event:       func(_ *testing.T, a app) app { return a.with(func(a *app) { a.version = "11" }) },
			wantSources: []reloader.Source{settings},
		},
		"of its record alone: nothing, even if that is worthless": {
			known: func(t *testing.T) app { return newApp(worker).recorded(t) },
			event: func(_ *testing.T, a app) app {
				return a.with(func(a *app) { a.annotations[keys.Index] = "cut off" })
			},
			wantSources: []reloader.Source{settings},
		},
		"of an annotation that means nothing to us: nothing": {
			known: func(*testing.T) app { return newApp(worker) },
			event: func(_ *testing.T, a app) app {
				return a.with(func(a *app) { a.annotations["example.com/team"] = "shop" })
			},
			wantSources: []reloader.Source{settings},
		},
		"of a new generation without a record: a read": {
			known: func(*testing.T) app { return newApp(web) },
			event: func(_ *testing.T, a app) app {
				return a.with(func(a *app) { a.generation++; a.configMaps = []string{"other"} })
			},
			wantRead:    true,
			wantSources: []reloader.Source{settings},
		},
		"of a new generation with a record: its references": {
			known: func(*testing.T) app { return newApp(web) },
			event: func(t *testing.T, a app) app {
				return a.with(func(a *app) { a.generation++; a.configMaps = []string{"other"} }).recorded(t)
			},
			wantSources: []reloader.Source{configMap("other")},
		},
		"of another uid: what the other one says": {
			known: func(t *testing.T) app { return newApp(web).recorded(t) },
			event: func(t *testing.T, a app) app {
				return a.with(func(a *app) { a.uid = "second"; a.configMaps = []string{"other"} }).recorded(t)
			},
			wantSources: []reloader.Source{configMap("other")},
		},
		"of another uid without a record: nothing of the old one stays": {
			known:    func(*testing.T) app { return newApp(web) },
			event:    func(_ *testing.T, a app) app { return a.with(func(a *app) { a.uid = "second" }) },
			wantRead: true,
		},
		"of its opting out, on a StatefulSet: nothing is left": {
			known: func(*testing.T) app { return newApp(worker) },
			event: func(_ *testing.T, a app) app {
				return a.with(func(a *app) { delete(a.annotations, keys.Auto) })
			},
		},
		"of an exclude list, on a StatefulSet: one source less": {
			known: func(*testing.T) app {
				return newApp(worker).with(func(a *app) { a.configMaps = []string{"other", "settings"} })
			},
			event: func(_ *testing.T, a app) app {
				return a.with(func(a *app) { a.annotations[keys.ConfigMapExclude] = "settings" })
			},
			wantSources: []reloader.Source{configMap("other")},
		},
		"of its opting in, when its references were not kept: a read": {
			known: func(*testing.T) app {
				return newApp(worker).with(func(a *app) { delete(a.annotations, keys.Auto) })
			},
			event: func(_ *testing.T, a app) app {
				return a.with(func(a *app) { a.annotations[keys.Auto] = "true" })
			},
			wantRead: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			known := tc.known(t)
			w := known.workload
			settled(t, in, known)
			event := tc.event(t, known)

			in.observe(w, event.meta(), at(20))
			assert.Equal(t, tc.wantRead, in.open(w))
			assert.Equal(t, tc.wantRead, len(drain(in.queues.resolve)) == 1)
			assert.Equal(t, tc.wantSources, in.index.DependsOn(w))
			if tc.wantRead {
				require.True(t, in.supply(event.manifest(t)))
				var want []reloader.Source
				for _, name := range event.configMaps {
					want = append(want, configMap(name))
				}
				assert.Equal(t, want, in.index.DependsOn(w))
			}
			assert.True(t, in.allResolved())
		})
	}
}

func TestOptedOutWorkloadsLeaveNothingBehind(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(worker)
	settled(t, in, a)
	in.observe(worker, a.with(func(a *app) { a.annotations[keys.Auto] = "false" }).meta(), at(20))
	assert.Zero(t, in.index.Stats())
	assert.Empty(t, in.ledger.sources)
	assert.Empty(t, in.ledger.workloads)

	in.deleted(worker)
	assert.Empty(t, in.workloads)
	assert.True(t, in.allResolved())
}

func TestSupply(t *testing.T) {
	tests := map[string]struct {
		event, read app
		want        bool
	}{
		"a read of what the event was about answers it": {
			event: newApp(worker), read: newApp(worker), want: true,
		},
		"a read of another generation does not": {
			event: newApp(worker), read: newApp(worker).with(func(a *app) { a.generation++ }),
		},
		"a read of another uid does not": {
			event: newApp(worker), read: newApp(worker).with(func(a *app) { a.uid = "second" }),
		},
		"a read of somebody else does not": {
			event: newApp(worker), read: newApp(web),
		},
		"a read of another record does": {
			event: newApp(worker), read: newApp(worker).with(func(a *app) { a.annotations[keys.Index] = "other" }), want: true,
		},
		"a read of older annotations in the same generation does not": {
			event: newApp(worker), read: newApp(worker).with(func(a *app) { delete(a.annotations, keys.Auto) }),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			in.observe(worker, tc.event.meta(), at(10))
			assert.Equal(t, tc.want, in.supply(tc.read.manifest(t)))
			assert.Equal(t, !tc.want, in.open(worker))
		})
	}
}

func TestTheFirstOfTwoAnnotationChangesWithoutAGenerationIsNotTheLastWord(t *testing.T) {
	in := newTestIntake(t)
	out := newApp(worker).with(func(a *app) { delete(a.annotations, keys.Auto) })
	settled(t, in, out)

	in.observe(worker, out.with(func(a *app) { a.annotations[keys.ConfigMapAuto] = "false" }).meta(), at(20))
	slowRead := out.with(func(a *app) { a.annotations[keys.ConfigMapAuto] = "false" }).manifest(t)
	optedIn := out.with(func(a *app) { a.annotations[keys.Auto] = "true" })
	in.observe(worker, optedIn.meta(), at(21))
	in.supply(slowRead)
	if in.open(worker) {
		in.supply(optedIn.manifest(t))
	}
	assert.Equal(t, []reloader.Source{settings}, in.index.DependsOn(worker))
}

func TestOurOwnPatch(t *testing.T) {
	raised := func(a *app) { a.generation++; a.version = "20" }
	tests := map[string]struct {
		app     app
		happens func(t *testing.T, in *intake, a app)
		// what is known then
		wantGeneration int64
		wantRead       bool
		wantSources    []reloader.Source
	}{
		"its event comes after its answer": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				patched := a.with(raised)
				in.landed(web, patched.meta())
				in.observe(web, patched.meta(), at(20))
			},
			wantGeneration: 2, wantSources: []reloader.Source{settings},
		},
		"its event comes before its answer": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				patched := a.with(raised)
				in.observe(web, patched.meta(), at(20))
				in.landed(web, patched.meta())
			},
			wantGeneration: 2, wantSources: []reloader.Source{settings},
		},
		"an older status event comes after its answer": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				patched := a.with(raised)
				in.landed(web, patched.meta())
				in.observe(web, a.with(func(a *app) { a.version = "19" }).meta(), at(19))
				in.observe(web, patched.meta(), at(20))
			},
			wantGeneration: 2, wantSources: []reloader.Source{settings},
		},
		"its event comes after the next one was aimed": {
			app: newApp(web),
			happens: func(t *testing.T, in *intake, a app) {
				first := a.with(raised)
				in.landed(web, first.meta())
				_, ok := in.aim(web)
				require.True(t, ok)
				assert.Equal(t, int64(3), in.workloads[web].expected)
				second := first.with(raised)
				in.landed(web, second.meta())
				in.observe(web, first.meta(), at(19))
				in.observe(web, second.meta(), at(20))
			},
			wantGeneration: 3, wantSources: []reloader.Source{settings},
		},
		"its event never comes, only that of the next one": {
			app: newApp(web),
			happens: func(t *testing.T, in *intake, a app) {
				first := a.with(raised)
				in.landed(web, first.meta())
				_, ok := in.aim(web)
				require.True(t, ok)
				second := first.with(raised)
				in.observe(web, second.meta(), at(20))
				in.landed(web, second.meta())
			},
			wantGeneration: 3, wantSources: []reloader.Source{settings},
		},
		"somebody else wrote after it and before the next one": {
			app: newApp(web),
			happens: func(t *testing.T, in *intake, a app) {
				first := a.with(raised)
				in.landed(web, first.meta())
				_, ok := in.aim(web)
				require.True(t, ok)
				others := first.with(raised).with(func(a *app) { a.configMaps = []string{"other"} })
				both := others.with(raised)
				in.landed(web, both.meta())
				in.observe(web, first.meta(), at(18))
				assert.False(t, in.open(web), "the first was ours")
				in.observe(web, others.meta(), at(19))
				in.observe(web, both.meta(), at(20))
			},
			wantGeneration: 4, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"somebody else wrote after it": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				patched := a.with(raised)
				in.landed(web, patched.meta())
				in.observe(web, patched.with(raised).with(func(a *app) { a.configMaps = []string{"other"} }).meta(), at(21))
			},
			wantGeneration: 3, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"its answer comes, and the workload is replaced by one of the same generation": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				patched := a.with(raised)
				in.landed(web, patched.meta())
				in.observe(web, patched.with(func(a *app) { a.uid = "second" }).meta(), at(21))
			},
			wantGeneration: 2, wantRead: true,
		},
		"its answer alone says nothing of annotations: their event does": {
			app: newApp(worker),
			happens: func(t *testing.T, in *intake, a app) {
				patched := a.with(raised).with(func(a *app) { a.annotations[keys.Auto] = "false" })
				in.landed(worker, patched.meta())
				assert.Equal(t, []reloader.Source{settings}, in.index.DependsOn(worker))
				in.observe(worker, patched.meta(), at(20))
			},
			wantGeneration: 2,
		},
		"somebody else wrote in between": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				others := a.with(raised).with(func(a *app) { a.configMaps = []string{"other"} })
				both := others.with(raised)
				in.landed(web, both.meta())
				in.observe(web, others.meta(), at(19))
				in.observe(web, both.meta(), at(20))
			},
			wantGeneration: 3, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"somebody else wrote in between, and all events come before the answer": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				others := a.with(raised).with(func(a *app) { a.configMaps = []string{"other"} })
				both := others.with(raised)
				in.observe(web, others.meta(), at(19))
				in.observe(web, both.meta(), at(20))
				in.landed(web, both.meta())
			},
			wantGeneration: 3, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"it was refused": {
			app:            newApp(web),
			happens:        func(_ *testing.T, in *intake, _ app) { in.missed(web, false) },
			wantGeneration: 1, wantSources: []reloader.Source{settings},
		},
		"it was refused because the workload is not what we took it for": {
			app:            newApp(web),
			happens:        func(_ *testing.T, in *intake, _ app) { in.missed(web, true) },
			wantGeneration: 1, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"it was refused, and the generation that it would have made was somebody else's": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				in.observe(web, a.with(raised).with(func(a *app) { a.configMaps = []string{"other"} }).meta(), at(19))
				in.missed(web, false)
			},
			wantGeneration: 2, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"it was refused before somebody else made that generation": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				in.missed(web, false)
				in.observe(web, a.with(raised).meta(), at(21))
			},
			wantGeneration: 2, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"it changed nothing": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				in.landed(web, a.meta())
				in.observe(web, a.with(raised).meta(), at(21))
			},
			wantGeneration: 2, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"it changed nothing on somebody else's generation, whose event comes before its answer": {
			app: newApp(worker),
			happens: func(_ *testing.T, in *intake, a app) {
				others := seenAs(a.with(raised), 2, manages(FieldManager, born, settingsVariable), manages("kubectl-edit", born.Add(time.Minute)))
				in.observe(worker, others, at(20))
				in.landed(worker, others)
			},
			wantGeneration: 2, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"it changed nothing on somebody else's generation, whose event comes after its answer": {
			app: newApp(worker),
			happens: func(_ *testing.T, in *intake, a app) {
				others := seenAs(a.with(raised), 2, manages(FieldManager, born, settingsVariable), manages("kubectl-edit", born.Add(time.Minute)))
				in.landed(worker, others)
				in.observe(worker, others, at(20))
			},
			wantGeneration: 2, wantRead: true, wantSources: []reloader.Source{settings},
		},
		"its event comes before its answer, long after a write of somebody else's": {
			app: newApp(worker),
			happens: func(_ *testing.T, in *intake, a app) {
				patched := seenAs(a.with(raised), 2, manages(FieldManager, born.Add(time.Minute), settingsVariable), manages("kubectl-edit", born))
				in.observe(worker, patched, at(20))
				in.landed(worker, patched)
			},
			wantGeneration: 2, wantSources: []reloader.Source{settings},
		},
		"the workload was replaced meanwhile": {
			app: newApp(web),
			happens: func(_ *testing.T, in *intake, a app) {
				in.observe(web, a.with(func(a *app) { a.uid = "second" }).meta(), at(19))
				in.landed(web, a.with(raised).meta())
				in.missed(web, false)
			},
			wantGeneration: 1, wantRead: true,
		},
		"its answer shows annotations of a StatefulSet whose event was never seen": {
			app: newApp(worker),
			happens: func(_ *testing.T, in *intake, a app) {
				patched := a.with(raised).with(func(a *app) { a.annotations[keys.Auto] = "false" })
				in.landed(worker, patched.meta())
				in.observe(worker, patched.meta(), at(20))
			},
			wantGeneration: 2,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			w := tc.app.workload
			settled(t, in, tc.app)
			to, ok := in.aim(w)
			require.True(t, ok)
			entry, _ := in.index.Get(w)
			assert.Equal(t, target{
				uid: "first", container: "main", template: tc.app.record().Template,
				references: tc.app.record().References, policy: entry.Policy,
			}, to)

			tc.happens(t, in, tc.app)
			assert.Equal(t, tc.wantGeneration, in.workloads[w].generation)
			assert.Equal(t, tc.wantRead, in.open(w))
			assert.Equal(t, tc.wantRead, len(drain(in.queues.resolve)) == 1)
			assert.Equal(t, tc.wantSources, in.index.DependsOn(w))
			assert.Zero(t, in.workloads[w].expected)
		})
	}
}

func TestOurOwnPatchCarriesTheRecordForward(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(web).recorded(t)
	settled(t, in, a)
	to, ok := in.aim(web)
	require.True(t, ok)
	got, err := record.Decode(to.record)
	require.NoError(t, err)
	assert.Equal(t, a.record().WithGeneration(2), got)

	// A patch by an engine elsewhere would be trusted just so.
	other := newTestIntake(t)
	patched := a.with(func(a *app) { a.generation, a.annotations[keys.Index] = 2, to.record })
	other.observe(web, patched.meta(), moment{})
	assert.True(t, other.allResolved())
}

// The answer to our first patch may be there before its event: the record of
// the second is for the generation after that.
func TestTheNextPatchCarriesTheRecordOfTheNextGeneration(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(web).recorded(t)
	settled(t, in, a)
	_, ok := in.aim(web)
	require.True(t, ok)
	in.landed(web, a.with(func(a *app) { a.generation = 2 }).meta())
	assert.Equal(t, int64(1), in.workloads[web].generation, "the event brings it")
	to, ok := in.aim(web)
	require.True(t, ok)
	got, err := record.Decode(to.record)
	require.NoError(t, err)
	assert.Equal(t, a.record().WithGeneration(3), got)
}

// A restore of the API server's data takes generations back: those that our
// patches once made may be somebody else's then.
func TestAGenerationThatCameBackIsNotOurs(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(web).with(func(a *app) { a.generation = 4 })
	settled(t, in, a)
	_, ok := in.aim(web)
	require.True(t, ok)
	patched := a.with(func(a *app) { a.generation = 5 })
	in.landed(web, patched.meta())
	in.observe(web, patched.meta(), at(20))
	require.False(t, in.open(web))

	restored := a.with(func(a *app) { a.generation = 3 })
	in.observe(web, restored.meta(), at(15))
	require.True(t, in.supply(restored.manifest(t)))
	others := restored.with(func(a *app) { a.generation = 4; a.configMaps = []string{"other"} })
	in.observe(web, others.meta(), at(16))
	assert.True(t, in.open(web))
}

func TestOurOwnPatchStartsNothing(t *testing.T) {
	for name, a := range map[string]app{
		"with a record": newApp(web).recorded(t), "without one": newApp(web),
	} {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			settled(t, in, a)
			due(t, in.ledger, written(30, "b"))
			to, ok := in.aim(web)
			require.True(t, ok)
			in.observe(web, a.with(func(a *app) {
				a.generation, a.version = 2, "40"
				if to.record != "" {
					a.annotations[keys.Index] = to.record
				}
			}).meta(), at(40))
			assert.Equal(t, []debt{{settings, "b"}}, in.ledger.due(web), "only a template changed by others brings a change")
			assert.Empty(t, drain(in.queues.resolve))
		})
	}
}

func TestAWorkloadThatCannotBeAimedAt(t *testing.T) {
	in := newTestIntake(t)
	_, ok := in.aim(web)
	assert.False(t, ok, "unknown")
	in.observe(web, newApp(web).meta(), at(10))
	_, ok = in.aim(web)
	assert.False(t, ok, "not resolved")
	in.supply(newApp(web).with(func(a *app) { delete(a.annotations, keys.Auto) }).manifest(t))
	_, ok = in.aim(web)
	assert.False(t, ok, "not opted in")
}

func TestWhatIsDueComesBackOnceTheWorkloadIsResolved(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(web)
	settled(t, in, a)
	due(t, in.ledger, written(30, "b"))
	scaled := a.with(func(a *app) { a.generation++ })
	in.observe(web, scaled.meta(), at(31))
	assert.Empty(t, drain(in.queues.workloads))
	require.True(t, in.supply(scaled.manifest(t)))
	assert.Equal(t, []reloader.Workload{web}, drain(in.queues.workloads))
}

func TestANewTemplateBringsWhatIsDue(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(web)
	settled(t, in, a)
	due(t, in.ledger, written(30, "b"))
	released := a.with(func(a *app) { a.generation++; a.labels = map[string]string{"release": "2"} }).recorded(t)
	in.observe(web, released.meta(), at(31))
	assert.Empty(t, in.ledger.due(web))
	assert.Empty(t, drain(in.queues.workloads))
}

func TestPatternsHaveTheirShelfSearched(t *testing.T) {
	in := newTestIntake(t)
	in.observe(worker, newApp(worker).with(func(a *app) {
		a.annotations = map[string]string{keys.SecretNamed: "pass.*"}
	}).recorded(t).meta(), at(10))
	on := shelf{reloader.Secret, worker.Namespace}
	assert.Equal(t, []reloader.Source{{Kind: on.kind, Namespace: on.namespace}}, drain(in.queues.sources))
	assert.Equal(t, map[reloader.Workload]moment{worker: at(10)}, in.ledger.searchersOn(on))
}

func TestVerify(t *testing.T) {
	lied := func(r *record.Record) { r.References = nil }
	tests := map[string]struct {
		known, read func(t *testing.T) app
		want        bool
		wantSources []reloader.Source
	}{
		"what is right stays": {
			known:       func(*testing.T) app { return newApp(web) },
			read:        func(*testing.T) app { return newApp(web) },
			wantSources: []reloader.Source{settings},
		},
		"a record that lied is corrected": {
			known:       func(t *testing.T) app { return newApp(web).recorded(t, lied) },
			read:        func(t *testing.T) app { return newApp(web).recorded(t, lied) },
			want:        true,
			wantSources: []reloader.Source{settings},
		},
		"what has changed since the last event is left to its own": {
			known:       func(*testing.T) app { return newApp(web) },
			read:        func(*testing.T) app { return newApp(web).with(func(a *app) { a.generation++; a.configMaps = nil }) },
			wantSources: []reloader.Source{settings},
		},
		"annotations that have changed since are, too": {
			known:       func(*testing.T) app { return newApp(worker) },
			read:        func(*testing.T) app { return newApp(worker).with(func(a *app) { a.annotations = nil }) },
			wantSources: []reloader.Source{settings},
		},
		"another one of the name is, too": {
			known:       func(*testing.T) app { return newApp(web) },
			read:        func(*testing.T) app { return newApp(web).with(func(a *app) { a.uid = "second"; a.configMaps = nil }) },
			wantSources: []reloader.Source{settings},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			known := tc.known(t)
			settled(t, in, known)
			read := tc.read(t).manifest(t)
			assert.Equal(t, tc.want, in.verify(read))
			assert.Equal(t, tc.wantSources, in.index.DependsOn(known.workload))
			assert.False(t, in.verify(read), "the second time there is nothing to correct")
		})
	}
}

func TestVerifyLeavesWhatIsNotKnown(t *testing.T) {
	in := newTestIntake(t)
	assert.False(t, in.verify(newApp(web).manifest(t)))
	in.observe(web, newApp(web).meta(), at(10))
	assert.False(t, in.verify(newApp(web).manifest(t)))
	assert.True(t, in.open(web))
}

func TestAllExcept(t *testing.T) {
	in := newTestIntake(t)
	other := reloader.Workload{Kind: web.Kind, Namespace: web.Namespace, Name: "other"}
	settled(t, in, newApp(web))
	settled(t, in, newApp(worker))
	in.observe(other, newApp(other).meta(), at(10))
	require.False(t, in.allResolved())

	present := map[reloader.Workload]struct{}{web: {}}
	assert.Equal(t, []reloader.Workload{other}, in.allExcept(reloader.Deployment, "", present))
	assert.Equal(t, []reloader.Workload{other}, in.allExcept(reloader.Deployment, web.Namespace, present))
	assert.Empty(t, in.allExcept(reloader.Deployment, "bank", present))
	assert.ElementsMatch(t, []reloader.Workload{web, other}, in.allExcept(reloader.Deployment, "", nil))

	in.deleted(other)
	assert.True(t, in.allResolved())
	assert.Len(t, in.workloads, 2)
	assert.Equal(t, []reloader.Source{settings}, in.index.DependsOn(worker))
}

func TestTwoSourcesOneWorkload(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(web).with(func(a *app) { a.configMaps = []string{"other", "settings"} })
	settled(t, in, a)
	in.observe(web, a.with(func(a *app) { a.generation++; a.configMaps = []string{"settings"} }).recorded(t).meta(), at(20))
	assert.NotContains(t, in.ledger.sources, configMap("other"))
	assert.Contains(t, in.ledger.sources, settings)
}
