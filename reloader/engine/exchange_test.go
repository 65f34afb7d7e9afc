package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
)

const (
	jobsPath      = "/apis/batch/v1/namespaces/shop/jobs"
	cronJobsPath  = "/apis/batch/v1/namespaces/shop/cronjobs"
	revisionsPath = "/apis/apps/v1/namespaces/shop/controllerrevisions"
	jobMark       = "v1-0123456789abcdef0123456789abcdef-01234567"
)

// yard is an API server that keeps Jobs and ControllerRevisions of one namespace.
// A Job that is deleted is there until it is let go.
type yard struct {
	*script
	clock *clocktesting.FakeClock

	mu        sync.Mutex // guards everything below
	jobs      map[string]*batchv1.Job
	revisions map[string]*appsv1.ControllerRevision
	// owners are the names of the CronJobs that are there.
	owners map[string]bool
	// cronJob is in place of all owners.
	cronJob *batchv1.CronJob
	// refuse returns the answer to a write in place of the server's; nil is no
	// objection.
	refuse func(verb, path string, dry bool) *apierrors.StatusError
	// fault is refuse for answers of any kind; nil has none.
	fault  func(write string) func() (int, http.Header, any)
	writes []string
	uids   int
}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{
		clock: clocktesting.NewFakeClock(time.Unix(1_000_000, 0)),
		jobs:  map[string]*batchv1.Job{}, revisions: map[string]*appsv1.ControllerRevision{}, owners: map[string]bool{"nightly": true},
	}
	y.script = play(t, y.answer)
	y.jobs["migrate"] = &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "migrate", UID: "old", ResourceVersion: "1", Labels: map[string]string{"queue": "team"}},
		Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "a"}}}}},
	}
	return y
}

func (y *yard) decode(body string) runtime.Object {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, batchv1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	o, _, err := serializer.NewCodecFactory(scheme).UniversalDeserializer().Decode([]byte(body), nil, nil)
	if err != nil {
		panic(err)
	}
	return o
}

func (y *yard) answer(r request) (int, http.Header, any) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if name, ok := strings.CutPrefix(r.path, cronJobsPath+"/"); ok && y.cronJob == nil {
		if !y.owners[name] {
			return failure(apierrors.NewNotFound(batchv1.Resource("cronjobs"), name))
		}
		return http.StatusOK, nil, partial(metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "owner"})
	}
	collection, name := jobsPath, strings.TrimPrefix(strings.TrimPrefix(r.path, jobsPath), "/")
	if rest, ok := strings.CutPrefix(r.path, revisionsPath); ok {
		collection, name = revisionsPath, strings.TrimPrefix(rest, "/")
	}
	if y.cronJob != nil && strings.HasPrefix(r.path, cronJobsPath) {
		collection = cronJobsPath
	}
	short := map[string]string{jobsPath: "Job", revisionsPath: "carrier", cronJobsPath: "CronJob"}[collection]
	if r.method != http.MethodGet {
		dry := strings.Contains(r.query, "dryRun=All")
		if y.refuse != nil {
			if err := y.refuse(r.method, short, dry); err != nil {
				return failure(err)
			}
		}
		write := r.method + " " + short
		if dry {
			write += ", dry"
		}
		if y.fault != nil {
			if answer := y.fault(write); answer != nil {
				return answer()
			}
		}
		y.writes = append(y.writes, write)
	}
	if r.method == http.MethodPost {
		return y.create(collection, y.decode(r.body), strings.Contains(r.query, "dryRun=All"))
	}
	var there metav1.Object
	if o := y.jobs[name]; collection == jobsPath && o != nil {
		there = o
	} else if o := y.revisions[name]; collection == revisionsPath && o != nil {
		there = o
	} else if collection == cronJobsPath {
		there = y.cronJob
	} else {
		return failure(apierrors.NewNotFound(batchv1.Resource("jobs"), name))
	}
	switch r.method {
	case http.MethodGet:
		return http.StatusOK, nil, there
	case http.MethodPatch:
		var patch metav1.PartialObjectMetadata
		if err := json.Unmarshal([]byte(r.body), &patch); err != nil || patch.UID != there.GetUID() {
			return failure(apierrors.NewConflict(batchv1.Resource("jobs"), name, fmt.Errorf("UID %s", patch.UID)))
		}
		there.SetAnnotations(patch.Annotations)
		return http.StatusOK, nil, partial(metav1.ObjectMeta{Name: name, UID: there.GetUID()})
	}
	if collection == revisionsPath {
		delete(y.revisions, name)
	} else if job := y.jobs[name]; job.Annotations[kind.CarrierLabel] != "" {
		delete(y.jobs, name)
	} else {
		job.DeletionTimestamp = new(metav1.NewTime(y.clock.Now()))
	}
	return http.StatusOK, nil, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess}
}

func partial(meta metav1.ObjectMeta) metav1.PartialObjectMetadata {
	return metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}, ObjectMeta: meta}
}

func (y *yard) create(collection string, o runtime.Object, dry bool) (int, http.Header, any) {
	y.uids++
	uid := types.UID(fmt.Sprintf("uid-%d", y.uids))
	if collection == jobsPath {
		job := o.(*batchv1.Job)
		if y.jobs[job.Name] != nil {
			return failure(apierrors.NewAlreadyExists(batchv1.Resource("jobs"), job.Name))
		}
		if !dry {
			job.UID = uid
			y.jobs[job.Name] = job
		}
		return http.StatusCreated, nil, partial(job.ObjectMeta)
	}
	revision := o.(*appsv1.ControllerRevision)
	if y.revisions[revision.Name] != nil {
		return failure(apierrors.NewAlreadyExists(appsv1.Resource("controllerrevisions"), revision.Name))
	}
	revision.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevision"}
	revision.UID = uid
	y.revisions[revision.Name] = revision
	return http.StatusCreated, nil, partial(revision.ObjectMeta)
}

// process is a new engine on the yard.
func (y *yard) process(t *testing.T, key fingerprint.Key, r Reporter) *Engine {
	t.Helper()
	e := newTestEngine(t, y.config, r)
	e.carriers = newCarriers(key)
	e.clock = y.clock
	return e
}

// change has the Job reloaded.
func (y *yard) change(t *testing.T, e *Engine) error {
	t.Helper()
	k := kind.Jobs()
	w := reloader.Workload{Kind: reloader.Job, Namespace: "shop", Name: "migrate"}
	_, err := e.carryOut(t.Context(), k, w, kind.Change{
		UID: "old", Keys: keys, Strategy: kind.EnvVars,
		Marks: []kind.Mark{{Source: settings, Value: jobMark, Container: "main", Env: "STAKATER_SETTINGS_CONFIGMAP"}},
	})
	return err
}

// step lets the engine handle all keys of carriers, those that wait included.
func (y *yard) step(t *testing.T, e *Engine) (failed error) {
	t.Helper()
	keys := map[reloader.Workload]bool{}
	for key := range e.carriers.held {
		keys[key] = true
	}
	for name := range y.revisions {
		keys[reloader.Workload{Kind: carrierKind, Namespace: "shop", Name: name}] = true
	}
	for name, o := range y.jobs {
		if kind.IsJobCarrier(o) && !e.carriers.isRefused(reloader.Workload{Kind: reloader.Job, Namespace: "shop", Name: name}, o.UID) {
			keys[reloader.Workload{Kind: reloader.Job, Namespace: "shop", Name: name}] = true
		}
	}
	for key := range keys {
		if err := e.carry(t.Context(), key); err != nil {
			failed = err
		}
	}
	y.clock.SetTime(y.clock.Now().Add(forgetting))
	return failed
}

// letGo ends the pods of a Job that is being deleted.
func (y *yard) letGo() {
	y.mu.Lock()
	defer y.mu.Unlock()
	for name, o := range y.jobs {
		if o.DeletionTimestamp != nil {
			delete(y.jobs, name)
		}
	}
}

func (y *yard) requireReplaced(t *testing.T) {
	t.Helper()
	require.Len(t, y.jobs, 1)
	require.Empty(t, y.revisions)
	now := y.jobs["migrate"]
	require.NotNil(t, now)
	assert.NotEqual(t, types.UID("old"), now.UID)
	assert.Nil(t, now.DeletionTimestamp)
	assert.Equal(t, []corev1.EnvVar{{Name: "STAKATER_SETTINGS_CONFIGMAP", Value: jobMark}}, now.Spec.Template.Spec.Containers[0].Env)
	assert.Equal(t, "a", now.Spec.Template.Spec.Containers[0].Image)
	assert.Equal(t, map[string]string{"queue": "team"}, now.Labels)
}

func someKey(t *testing.T) fingerprint.Key {
	t.Helper()
	key, err := RandomKey()
	require.NoError(t, err)
	return key
}

// The steps of an exchange, each of which is one call of the queue's handler.
const exchangeSteps = 5

// run takes steps, and lets the old Job go before the third.
func (y *yard) run(t *testing.T, e *Engine, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if i == 2 {
			y.letGo()
		}
		require.NoError(t, y.step(t, e))
	}
}

func TestAJobIsReplacedStepByStep(t *testing.T) {
	y, r := newYard(t), new(told)
	e := y.process(t, someKey(t), r)
	require.NoError(t, y.change(t, e))
	y.run(t, e, 0, exchangeSteps)
	y.requireReplaced(t)
	assert.Equal(t, []string{
		"POST Job, dry", "POST carrier", "PATCH carrier", "DELETE Job", "PATCH carrier", "POST Job", "DELETE carrier",
	}, y.writes, "nothing that a queue or a quota of Jobs sees but the Job itself")
	require.Len(t, r.reloaded, 1)
	assert.Equal(t, []reloader.Source{settings}, r.reloaded[0].Sources)
	assert.Empty(t, e.carriers.held)
	assert.Empty(t, e.carriers.size)
}

func TestWithoutAKeyAProcessTrustsItself(t *testing.T) {
	y := newYard(t)
	e := y.process(t, fingerprint.Key{}, new(told))
	require.NoError(t, y.change(t, e))
	require.NoError(t, y.step(t, y.process(t, fingerprint.Key{}, new(told))))
	assert.Nil(t, y.jobs["migrate"].DeletionTimestamp, "another one does not")
	y.run(t, e, 0, exchangeSteps)
	y.requireReplaced(t)
}

func TestTheNextProcessTakesTheStepsThatAreLeft(t *testing.T) {
	for died := range exchangeSteps {
		t.Run(fmt.Sprintf("after step %d", died), func(t *testing.T) {
			y, key := newYard(t), someKey(t)
			first := y.process(t, key, new(told))
			require.NoError(t, y.change(t, first))
			y.run(t, first, 0, died)
			y.run(t, y.process(t, key, new(told)), died, exchangeSteps+1)
			y.requireReplaced(t)
		})
	}
}

// Somebody else deletes the carrier, or everything of its kind.
func TestACarrierThatIsDeletedLosesNothing(t *testing.T) {
	for deleted := range exchangeSteps {
		t.Run(fmt.Sprintf("after step %d", deleted), func(t *testing.T) {
			y, r := newYard(t), new(told)
			e := y.process(t, someKey(t), r)
			require.NoError(t, y.change(t, e))
			y.run(t, e, 0, deleted)
			clear(y.revisions)
			for i := range exchangeSteps + 2 {
				if i >= 2 {
					y.letGo()
				}
				require.NoError(t, y.step(t, e))
			}
			y.requireReplaced(t)
			assert.Len(t, r.reloaded, 1)
			assert.Empty(t, e.carriers.held)
		})
	}
	t.Run("not while its Job stands and nothing else has it", func(t *testing.T) {
		y := newYard(t)
		e := y.process(t, someKey(t), new(told))
		require.NoError(t, y.change(t, e))
		for range 3 {
			clear(y.revisions)
			require.NoError(t, y.step(t, e))
			assert.Len(t, y.revisions, 1)
			assert.Nil(t, y.jobs["migrate"].DeletionTimestamp)
		}
	})
	t.Run("while somebody else keeps it from going", func(t *testing.T) {
		y := newYard(t)
		e := y.process(t, someKey(t), new(told))
		require.NoError(t, y.change(t, e))
		y.run(t, e, 0, 1)
		for _, o := range y.revisions {
			o.DeletionTimestamp = new(metav1.Now())
		}
		y.run(t, e, 1, exchangeSteps)
		assert.NotEqual(t, types.UID("old"), y.jobs["migrate"].UID)
		assert.Len(t, y.revisions, 1)
	})
}

// Deleting the Job is what an exchange does itself; whoever wants none deletes the
// new one, or what the Job belongs to.
func TestWhatEndsAnExchange(t *testing.T) {
	terminating := apierrors.NewForbidden(batchv1.Resource("jobs"), "migrate", nil)
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	owned := func(y *yard) {
		y.jobs["migrate"].OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "CronJob", Name: "nightly", UID: "owner", Controller: new(true)}}
	}
	tests := map[string]struct {
		before func(*yard)
		// taken are the steps before it happens.
		taken    int
		happens  func(*yard)
		wantJobs int
	}{
		"somebody else deletes the Job first": {happens: func(y *yard) { clear(y.jobs) }},
		"somebody else has begun to": {happens: func(y *yard) {
			y.jobs["migrate"].DeletionTimestamp = new(metav1.Now())
		}},
		"the Job has ended": {happens: func(y *yard) {
			y.jobs["migrate"].Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		}, wantJobs: 1},
		"the namespace goes with the carrier": {taken: 1, happens: func(y *yard) {
			clear(y.revisions)
			y.refuse = func(verb, _ string, _ bool) *apierrors.StatusError {
				if verb == http.MethodPost {
					return terminating
				}
				return nil
			}
		}},
		"the owner goes with the carrier": {before: owned, taken: 1, happens: func(y *yard) {
			clear(y.revisions)
			clear(y.owners)
		}},
		"the owner stays": {before: owned, taken: 1, happens: func(y *yard) { clear(y.revisions) }, wantJobs: 1},
		"another Job has taken the name": {taken: 1, happens: func(y *yard) {
			y.jobs["migrate"] = &batchv1.Job{TypeMeta: y.jobs["migrate"].TypeMeta, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "migrate", UID: "other"}}
		}, wantJobs: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			y, r := newYard(t), new(told)
			if tc.before != nil {
				tc.before(y)
			}
			e := y.process(t, someKey(t), r)
			require.NoError(t, y.change(t, e))
			y.run(t, e, 0, tc.taken)
			tc.happens(y)
			for range exchangeSteps {
				require.NoError(t, y.step(t, e))
				y.letGo()
			}
			assert.Len(t, y.jobs, tc.wantJobs)
			assert.Empty(t, y.revisions)
			assert.Empty(t, e.carriers.held)
			assert.Empty(t, r.failed)
		})
	}
}

func overQuotaBy(used, limited string) *apierrors.StatusError {
	return apierrors.NewForbidden(batchv1.Resource("jobs"), "migrate",
		fmt.Errorf("exceeded quota: jobs, requested: count/jobs.batch=1, used: count/jobs.batch=%s, limited: count/jobs.batch=%s", used, limited))
}

func TestARefusalComesBeforeAnythingHappens(t *testing.T) {
	denial := apierrors.NewForbidden(batchv1.Resource("jobs"), "migrate", nil)
	denial.ErrStatus.Message = `admission webhook "a" denied the request: exceeded quota: jobs, requested: count/jobs.batch=1, used: count/jobs.batch=1, limited: count/jobs.batch=1`
	tests := map[string]struct {
		answer *apierrors.StatusError
		want   bool
	}{
		"none":                                  {want: true},
		"the quota is full with it":             {answer: overQuotaBy("1", "1"), want: true},
		"the quota is full with others, too":    {answer: overQuotaBy("1k", "1k"), want: true},
		"the quota is exceeded without it, too": {answer: overQuotaBy("3", "2")},
		"another quota": {answer: apierrors.NewForbidden(batchv1.Resource("jobs"), "migrate",
			fmt.Errorf("exceeded quota: a, requested: cpu=1, used: cpu=1, limited: cpu=1"))},
		"a webhook that writes like a quota": {answer: denial},
		"a policy":                           {answer: apierrors.NewForbidden(batchv1.Resource("jobs"), "migrate", nil)},
		"not valid":                          {answer: apierrors.NewInvalid(batchv1.SchemeGroupVersion.WithKind("Job").GroupKind(), "migrate", nil)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			e := y.process(t, someKey(t), new(told))
			y.refuse = func(_, _ string, dry bool) *apierrors.StatusError {
				if dry && tc.answer != nil {
					return tc.answer
				}
				return nil
			}
			err := y.change(t, e)
			assert.Equal(t, tc.want, err == nil)
			assert.Equal(t, tc.want, len(y.revisions) == 1)
			assert.Equal(t, types.UID("old"), y.jobs["migrate"].UID)
			assert.Nil(t, y.jobs["migrate"].DeletionTimestamp)
		})
	}
}

// The controller of quotas takes a moment to see that a Job is gone.
func TestAQuotaHasAMomentToBeFree(t *testing.T) {
	for name, by := range map[string]time.Duration{
		"it has had one": freeing, "the engine before was hours ahead": -2 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			y, r := newYard(t), new(told)
			e := y.process(t, someKey(t), r)
			require.NoError(t, y.change(t, e))
			y.run(t, e, 0, 3)
			full := true
			y.refuse = func(verb, what string, _ bool) *apierrors.StatusError {
				if full && verb == http.MethodPost && what == "Job" {
					return overQuotaBy("1", "1")
				}
				return nil
			}
			require.NoError(t, y.step(t, e))
			assert.Empty(t, r.failed)
			y.clock.SetTime(y.clock.Now().Add(by))
			require.Error(t, y.step(t, e))
			assert.Equal(t, []reloader.Outcome{reloader.OutcomeStalled}, r.failed, "somebody else has taken the room")
			full = false
			require.NoError(t, y.step(t, e))
			y.requireReplaced(t)
		})
	}
}

// logged counts the log lines of an engine.
func logged(e *Engine) *int {
	lines := 0
	e.log = funcr.New(func(_, _ string) { lines++ }, funcr.Options{})
	return &lines
}

// A carrier that another key has made is somebody's object: it is named in the log
// once, and read once.
func TestACarrierThatIsNotBelievedIsLeftAlone(t *testing.T) {
	y := newYard(t)
	require.NoError(t, y.change(t, y.process(t, someKey(t), new(told))))
	e := y.process(t, someKey(t), new(told))
	lines := logged(e)
	writes, requests := len(y.writes), len(y.requests)
	feed := e.carrierFeeds()[0]
	assert.Equal(t, "reloader.stakater.com/carrier=job", feed.labels, "ControllerRevisions of others do not come here")
	for range 3 {
		for _, o := range y.revisions {
			require.NoError(t, feed.Add(&metav1.PartialObjectMetadata{ObjectMeta: o.ObjectMeta}))
		}
		for _, key := range drain(e.queues.carriers) {
			require.NoError(t, e.carry(t.Context(), key))
		}
	}
	assert.Equal(t, 1, *lines)
	assert.Len(t, y.writes, writes)
	assert.Len(t, y.requests, requests+1)
	assert.Nil(t, y.jobs["migrate"].DeletionTimestamp)
	for _, o := range y.revisions {
		require.NoError(t, feed.Delete(&metav1.PartialObjectMetadata{ObjectMeta: o.ObjectMeta}))
	}
	assert.Empty(t, e.carriers.refused)
}

// The name of a carrier is taken by something that is none.
func TestSomethingInTheWayOfACarrierIsNamed(t *testing.T) {
	y, key := newYard(t), someKey(t)
	e := y.process(t, key, new(told))
	require.NoError(t, y.change(t, e))
	for _, o := range y.revisions {
		o.Annotations = nil
	}
	err := y.change(t, y.process(t, key, new(told)))
	require.ErrorIs(t, err, kind.ErrUntrusted)
	require.ErrorContains(t, err, "replace Job shop/migrate: ControllerRevision shop/migrate-")
	assert.Nil(t, y.jobs["migrate"].DeletionTimestamp)
}

func TestAJobThatIsTooLargeIsNamed(t *testing.T) {
	y := newYard(t)
	e := y.process(t, someKey(t), new(told))
	y.refuse = func(_, what string, _ bool) *apierrors.StatusError {
		if what == "carrier" {
			return apierrors.NewRequestEntityTooLargeError("etcdserver: request is too large")
		}
		return nil
	}
	err := y.change(t, e)
	require.ErrorIs(t, err, kind.ErrTooLarge)
	require.ErrorContains(t, err, "Job shop/migrate")
	var stalled stalledError
	require.ErrorAs(t, err, &stalled)
	assert.Nil(t, y.jobs["migrate"].DeletionTimestamp)
}

// What is made known of a carrier by the worker that has made it takes nothing back of
// what the one knows to which its event has brought it.
func TestWhatIsKnownOfACarrierGoesOnlyForward(t *testing.T) {
	key := someKey(t)
	k := kind.Jobs()
	o := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "migrate", UID: "old"}}
	made, err := kind.NewCarrier(key, k.Manifest(o), []reloader.Source{settings}, o, kind.Held)
	require.NoError(t, err)
	first, second := made.Created("first"), made.Created("second")
	c := newCarriers(key)
	for _, step := range []struct {
		begin kind.Carrier
		want  kind.Step
	}{{first, kind.Held}, {first, kind.Ending}, {second, kind.Held}} {
		c.begin(step.begin)
		known, ok := c.of(carrierKey(made))
		require.True(t, ok)
		assert.Equal(t, step.begin.UID(), known.UID())
		assert.Equal(t, step.want, known.Step())
		c.hold(known.At(kind.Ending, time.Now()))
	}
}

// A Job of many small parts is packed to a few kilobytes, and takes megabytes when it
// is decoded.
func TestJobsThatArePackedWellTakeLittleMemory(t *testing.T) {
	key := someKey(t)
	c := newCarriers(key)
	k := kind.Jobs()
	env := make([]corev1.EnvVar, 100_000)
	for i := range env {
		env[i].Name = "a"
	}
	before := heap()
	for i := range 20 {
		o := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "evil", Name: fmt.Sprintf("job-%d", i), UID: types.UID(fmt.Sprint(i))}}
		o.Spec.Template.Spec.Containers = []corev1.Container{{Name: "a", Env: env}}
		made, err := kind.NewCarrier(key, k.Manifest(o), []reloader.Source{settings}, o, kind.Held)
		require.NoError(t, err)
		object, err := made.Object(key)
		require.NoError(t, err)
		opened, err := kind.OpenCarrier(key, object)
		require.NoError(t, err)
		c.hold(opened)
	}
	taken := int64(heap()) - int64(before)
	require.Len(t, c.held, 20)
	assert.Less(t, taken, int64(4*c.size[""]), "said to be %d", c.size[""])
	for key := range c.held {
		known, ok := c.of(key)
		require.True(t, ok)
		full, err := known.Unpacked()
		require.NoError(t, err)
		assert.Equal(t, env, full.Replacement().Spec.Template.Spec.Containers[0].Env)
		assert.Equal(t, []reloader.Source{{Kind: settings.Kind, Namespace: "evil", Name: settings.Name}}, full.Sources())
	}
}

func heap() uint64 {
	goruntime.GC()
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What is kept in memory of carriers is bounded, and no namespace has all of it.
func TestCarriersTakeABoundedAmountOfMemory(t *testing.T) {
	key := someKey(t)
	c := newCarriers(key)
	carrier := func(namespace string, i int) kind.Carrier {
		k := kind.Jobs()
		o := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("job-%d", i), UID: types.UID(fmt.Sprint(i))}}
		o.Spec.Template.Spec.Containers = []corev1.Container{{Name: "a", Args: []string{strings.Repeat("a", 400<<10)}}}
		made, err := kind.NewCarrier(key, k.Manifest(o), []reloader.Source{settings}, o, kind.Held)
		require.NoError(t, err)
		return made
	}
	for _, namespace := range []string{"evil", "worse", "shop"} {
		for i := range 40 {
			c.hold(carrier(namespace, i))
			c.hold(carrier(namespace, i))
		}
	}
	assert.LessOrEqual(t, c.size[""], maxHeld)
	assert.LessOrEqual(t, c.size["evil"], maxHeldNamespace)
	assert.Positive(t, c.size["worse"])
	for key := range c.held {
		c.drop(key)
	}
	assert.Empty(t, c.size)
	for i := range maxRefused + 10 {
		c.refuse(reloader.Workload{Kind: reloader.Job, Namespace: "evil", Name: fmt.Sprint(i)}, "a")
	}
	assert.Len(t, c.refused, maxRefused)
}
