package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/policy"
)

// twin is an engine in a cluster of its own, driven by hand: nothing runs beside the
// test but the server's goroutines.
type twin struct {
	t       *testing.T
	options Options
	epoch   time.Time
	clock   *clocktesting.FakeClock
	engine  *Engine
	told    *told
	archive pages
	// silent is true while events of sources are lost.
	silent bool
	// done is how many reloads have been reported.
	done int

	mu          sync.Mutex // guards everything below
	version     uint64
	sources     map[reloader.Source]*corev1.ConfigMap // Secrets, too
	deployments map[string]*appsv1.Deployment
	// seen are the versions of which events have told.
	seen map[string]string
	// failures is how many reads of a workload are going to fail.
	failures int
}

func newTwin(t *testing.T, o Options) *twin {
	w := &twin{
		t: t, epoch: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), archive: pages{}, version: 100,
		sources: map[reloader.Source]*corev1.ConfigMap{}, deployments: map[string]*appsv1.Deployment{}, seen: map[string]string{},
	}
	w.clock = clocktesting.NewFakeClock(w.epoch)
	o.Config, o.Settings, o.Clock, o.ReloadsPerWorkload = play(t, w.answer).config, policy.Settings{Keys: keys}, w.clock, -1
	w.options = o
	w.start(true)
	return w
}

// now is when something of that version is written.
func (w *twin) now() metav1.Time {
	return metav1.NewTime(w.epoch.Add(time.Duration(w.version) * 10 * time.Second))
}

// start starts an engine in place of the one before.
func (w *twin) start(fresh bool) {
	if w.engine != nil {
		w.engine.queues.shutDown()
	}
	w.told, w.done = new(told), 0
	w.options.Reporter = w.told
	e, err := New(w.options)
	require.NoError(w.t, err)
	w.t.Cleanup(e.queues.shutDown)
	w.engine = e
	e.archived = w.now().Time
	e.workloads = e.workloadFeeds()
	for name, d := range w.deployments {
		meta := &metav1.PartialObjectMetadata{ObjectMeta: d.ObjectMeta}
		w.seen[name] = d.ResourceVersion
		w.feed("deployments").seen(meta, listed, moment{})
	}
	for range 20 {
		for _, key := range drain(e.queues.resolve) {
			if e.resolve(w.t.Context(), key) != nil {
				e.queues.resolve.Add(key)
			}
		}
	}
	e.leaveBehind()
	e.sourceFeeds()
	for s, o := range w.sources {
		w.sourceFeed(s).seen(&metav1.PartialObjectMetadata{ObjectMeta: o.ObjectMeta}, listed, moment{})
	}
	e.ledger.open(w.archive, fresh)
}

func (w *twin) feed(resource string) *feed {
	i := slices.IndexFunc(w.engine.feeds, func(f *feed) bool { return f.resource.Resource == resource })
	require.GreaterOrEqual(w.t, i, 0)
	return w.engine.feeds[i]
}

func (w *twin) sourceFeed(s reloader.Source) *feed { return w.feed(sourceResource(s.Kind).Resource) }

// settle has the engine do what there is to do, and returns what it has reloaded.
func (w *twin) settle() []string {
	e, ctx := w.engine, w.t.Context()
	for round := range 200 {
		w.clock.Step(10 * time.Minute)
		busy := false
		note := func(err error) { busy = true; _ = err }
		for _, key := range slices.Concat(drain(e.queues.resolve), e.intake.unresolvedOnes()) {
			note(e.resolve(ctx, key))
		}
		for _, s := range e.ledger.toRead() {
			note(e.readSource(ctx, s))
		}
		if e.matching.waits("shop") {
			note(e.matchWaiting(ctx, "shop"))
		}
		if busy {
			continue // as in a coalescing window
		}
		for _, key := range e.ledger.indebted() {
			note(e.reload(ctx, key))
		}
		w.events()
		drain(e.queues.resolve)
		drain(e.queues.sources)
		drain(e.queues.workloads)
		if !busy {
			return w.reloads()
		}
		require.Less(w.t, round, 199, "it does not come to rest")
	}
	return nil
}

func (w *twin) reloads() (reloads []string) {
	for _, r := range w.told.reloaded[w.done:] {
		for _, s := range r.Sources {
			reloads = append(reloads, r.Workload.Name+" for "+s.String())
		}
	}
	w.done = len(w.told.reloaded)
	slices.Sort(reloads)
	return reloads
}

// events tells the engine of what its patches have changed.
func (w *twin) events() {
	w.mu.Lock()
	var news []*metav1.PartialObjectMetadata
	for name, d := range w.deployments {
		if w.seen[name] != d.ResourceVersion {
			w.seen[name] = d.ResourceVersion
			news = append(news, &metav1.PartialObjectMetadata{ObjectMeta: *d.ObjectMeta.DeepCopy()})
		}
	}
	w.mu.Unlock()
	for _, meta := range news {
		require.NoError(w.t, w.feed("deployments").Update(meta))
	}
}

// write writes a source, or deletes it if it has no data.
func (w *twin) write(s reloader.Source, data string, annotations map[string]string) {
	w.mu.Lock()
	w.version++
	before := w.sources[s]
	meta := metav1.ObjectMeta{
		Namespace: s.Namespace, Name: s.Name, UID: types.UID(fmt.Sprint(w.version)), CreationTimestamp: w.now(),
		ResourceVersion: fmt.Sprint(w.version), Annotations: annotations,
	}
	if before != nil {
		meta.UID, meta.CreationTimestamp, meta.ManagedFields = before.UID, before.CreationTimestamp, before.ManagedFields
	}
	if before == nil || before.Data["key"] != data {
		meta.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", Time: new(w.now()), FieldsV1: new(metav1.FieldsV1)}}
		meta.ManagedFields[0].FieldsV1.SetRawBytes([]byte(`{"f:data":{}}`))
	}
	delete(w.sources, s)
	if data != "" {
		w.sources[s] = &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"key": data}}
	}
	w.mu.Unlock()
	f, event := w.sourceFeed(s), &metav1.PartialObjectMetadata{ObjectMeta: meta}
	switch {
	case w.silent, data == "" && before == nil:
	case data == "":
		require.NoError(w.t, f.Delete(event))
	case before == nil:
		require.NoError(w.t, f.Add(event))
	default:
		require.NoError(w.t, f.Update(event))
	}
}

// relist has the engine list all sources, as after a gap in a watch.
func (w *twin) relist() {
	items := map[reloader.SourceKind][]any{reloader.ConfigMap: {}, reloader.Secret: {}}
	for s, o := range w.sources {
		meta := &metav1.PartialObjectMetadata{ObjectMeta: o.ObjectMeta}
		items[s.Kind] = append(items[s.Kind], meta)
		w.sourceFeed(s).seen(meta, listed, moment{})
	}
	for of, present := range items {
		w.sourceFeed(reloader.Source{Kind: of}).listed(present)
	}
}

// deploy writes a Deployment, or deletes it if there is none to write.
func (w *twin) deploy(name string, a *app, recorded bool) {
	w.mu.Lock()
	w.version++
	before := w.deployments[name]
	delete(w.deployments, name)
	var meta metav1.ObjectMeta
	if a != nil {
		a.uid, a.generation, a.version = types.UID(fmt.Sprint(w.version)), 1, fmt.Sprint(w.version)
		if before != nil {
			a.uid, a.generation = before.UID, before.Generation+1
		}
		if recorded {
			*a = a.recorded(w.t)
		}
		d := a.object().(*appsv1.Deployment)
		d.CreationTimestamp = w.now()
		if before != nil {
			d.CreationTimestamp = before.CreationTimestamp
		}
		w.deployments[name], meta = d, d.ObjectMeta
		w.seen[name] = d.ResourceVersion
	} else if before != nil {
		meta = before.ObjectMeta
		meta.ResourceVersion = fmt.Sprint(w.version)
	}
	w.mu.Unlock()
	event := &metav1.PartialObjectMetadata{ObjectMeta: meta}
	switch {
	case a == nil && before == nil:
	case a == nil:
		require.NoError(w.t, w.feed("deployments").Delete(event))
	case before == nil:
		require.NoError(w.t, w.feed("deployments").Add(event))
	default:
		require.NoError(w.t, w.feed("deployments").Update(event))
	}
}

// answer is the API server.
func (w *twin) answer(r request) (int, http.Header, any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	path := strings.Split(strings.Trim(r.path, "/"), "/")
	resource, name := path[len(path)-1], ""
	if !slices.Contains([]string{"configmaps", "secrets", "deployments", "replicasets"}, resource) {
		resource, name = path[len(path)-2], path[len(path)-1]
	}
	missing := func() (int, http.Header, any) {
		return failure(apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name))
	}
	if resource == "deployments" && r.method == http.MethodGet && w.failures > 0 {
		w.failures--
		return failure(apierrors.NewInternalError(errors.New("not now")))
	}
	switch {
	case resource == "replicasets":
		return missing()
	case resource == "deployments" && name == "":
		list := appsv1.DeploymentList{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DeploymentList"}}
		for _, name := range slices.Sorted(maps.Keys(w.deployments)) {
			list.Items = append(list.Items, *w.deployments[name])
		}
		return http.StatusOK, nil, list
	case resource == "deployments":
		d := w.deployments[name]
		if d == nil {
			return missing()
		}
		if r.method == http.MethodPatch {
			return w.patch(d, r.body)
		}
		whole := d.DeepCopy()
		whole.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
		return http.StatusOK, nil, whole
	}
	of := reloader.ConfigMap
	if resource == "secrets" {
		of = reloader.Secret
	}
	if name != "" {
		o := w.sources[reloader.Source{Kind: of, Namespace: "shop", Name: name}]
		if o == nil {
			return missing()
		}
		return http.StatusOK, nil, asSource(of, o)
	}
	items := []any{}
	for s, o := range w.sources {
		if s.Kind == of {
			items = append(items, asSource(of, o))
		}
	}
	return http.StatusOK, nil, map[string]any{"apiVersion": "v1", "kind": string(of) + "List", "metadata": map[string]any{}, "items": items}
}

func asSource(of reloader.SourceKind, o *corev1.ConfigMap) any {
	types := metav1.TypeMeta{APIVersion: "v1", Kind: string(of)}
	if of == reloader.Secret {
		return &corev1.Secret{TypeMeta: types, ObjectMeta: o.ObjectMeta, Data: map[string][]byte{"key": []byte(o.Data["key"])}}
	}
	o = o.DeepCopy()
	o.TypeMeta = types
	return o
}

func (w *twin) patch(d *appsv1.Deployment, body string) (int, http.Header, any) {
	before, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, []byte(body), appsv1.Deployment{})
	if err != nil {
		panic(err)
	}
	patched := new(appsv1.Deployment)
	if err := json.Unmarshal(after, patched); err != nil {
		panic(err)
	}
	if patched.UID != d.UID {
		return failure(apierrors.NewConflict(appsv1.Resource("deployments"), d.Name, errors.New("another uid")))
	}
	w.version++
	patched.ResourceVersion = fmt.Sprint(w.version)
	if !apiequality.Semantic.DeepEqual(d.Spec, patched.Spec) || !maps.Equal(d.Annotations, patched.Annotations) {
		patched.Generation++
	}
	*d = *patched
	return http.StatusOK, nil, metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}, ObjectMeta: d.ObjectMeta,
	}
}

// unresolvedOnes are the workloads that wait for being read.
func (in *intake) unresolvedOnes() (open []reloader.Workload) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for w, t := range in.workloads {
		if !t.resolved {
			open = append(open, w)
		}
	}
	return open
}

// twinAnnotations are what the workloads of the twins ask for.
func twinAnnotations(choice byte) map[string]string {
	many := make([]string, 0, MostExactForTest+5)
	for i := range cap(many) - 1 {
		many = append(many, fmt.Sprint("none-", i))
	}
	switch choice % 10 {
	case 0:
		return map[string]string{keys.Auto: "true"}
	case 1:
		return map[string]string{keys.ConfigMapNamed: "a,b"}
	case 2:
		return map[string]string{keys.ConfigMapNamed: "a.*"}
	case 3:
		return map[string]string{keys.Search: "true"}
	case 4:
		return map[string]string{keys.Auto: "true", keys.ConfigMapExclude: "a"}
	case 5:
		return map[string]string{keys.ConfigMapNamed: strings.Join(append(many, "b"), ",")}
	case 6:
		return map[string]string{}
	case 7:
		return map[string]string{keys.ConfigMapNamed: ".*", keys.ConfigMapExclude: "b"}
	case 8:
		return map[string]string{keys.SecretNamed: "a", keys.ConfigMapAuto: "true"}
	}
	return map[string]string{keys.Search: "true", keys.ConfigMapNamed: "b.?," + strings.Join(many, ",")}
}

// MostExactForTest makes lists that are too long to be told apart by hashes.
const MostExactForTest = 16

// play runs one step of a program.
func (w *twin) step(op, a, b byte) {
	name := []string{"a", "b", "ab"}[a%3]
	of := reloader.ConfigMap
	if a >= 128 {
		of = reloader.Secret
	}
	s := reloader.Source{Kind: of, Namespace: "shop", Name: name}
	switch op % 8 {
	case 0, 1, 2: // a source is written
		annotations := []map[string]string{nil, {keys.Match: "true"}, {keys.Ignore: "true"}, nil}[b/3%4]
		w.write(s, []string{"one", "two", "three"}[b%3], annotations)
	case 3: // a source is deleted
		w.write(s, "", nil)
	case 4, 5: // a workload is written
		x := newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: []string{"x", "y"}[a%2]})
		x.annotations, x.configMaps = twinAnnotations(b), nil
		for i, name := range []string{"a", "b", "ab"} {
			if a>>(i+1)&1 != 0 {
				x.configMaps = append(x.configMaps, name)
			}
		}
		x.labels = map[string]string{"image": fmt.Sprint(a >> 5 & 1)}
		w.deploy(x.workload.Name, &x, a>>4&1 != 0)
	case 6: // one is deleted
		if b%2 == 0 {
			w.deploy([]string{"x", "y"}[a%2], nil, false)
		}
	case 7: // reads fail, or the engine starts anew, or verifies
		switch b % 4 {
		case 0:
			w.mu.Lock()
			w.failures = int(a % 3)
			w.mu.Unlock()
		case 1:
			w.settle()
			w.start(false)
			// What comes before the first look is another matter.
			w.settle()
		case 2:
			w.mu.Lock()
			w.failures = 0
			w.mu.Unlock()
			require.NoError(w.t, w.engine.Verify(w.t.Context()))
		case 3: // a source is written, or deleted, while no event is heard
			w.settle()
			w.silent = true
			w.write(s, []string{"one", "two", ""}[a/3%3], nil)
			w.silent = false
			w.relist()
		}
	}
}

// FuzzKeptByName holds that an engine which keeps all workloads by name reloads the
// same ones, for the same sources, as one that keeps them in full. There is one
// exception: of a source that changes while a workload begins to depend on it, the
// former may reload it once more, since it does not know what was before.
func FuzzKeptByName(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x04\x02\x00\x00\x00\x01\x00\x00\x02"), byte(0))
	f.Add([]byte("\x04\x02\x02\x80\x00\x00\x80\x01\x01\x00\x00\x02\x03\x00\x00\x00\x00\x00"), byte(1))
	f.Add([]byte("\x04\x12\x05\x04\x03\x07\x00\x01\x00\x00\x01\x01\x07\x00\x01\x00\x01\x02\x07\x00\x02\x00\x01\x01"), byte(2))
	f.Add([]byte("the quick brown fox jumps over the lazy dog, and again, and once more"), byte(3))
	// A change of b, and then a pattern for b.
	f.Add([]byte("000000000000000000000000000000000$0zA110100$01"), byte(0))
	f.Fuzz(func(t *testing.T, program []byte, flags byte) {
		key, err := fingerprint.NewKey([]byte("0123456789abcdef0123456789abcdef"))
		require.NoError(t, err)
		o := Options{Key: key, ReloadOnCreate: flags&1 != 0, ReloadOnDelete: flags&2 != 0}
		full := newTwin(t, o)
		o.NamespaceMemory = -1
		byName := newTwin(t, o)
		if len(program) > 90 {
			program = program[:90]
		}
		var story []string
		wrote, deployed := false, false
		compare := func() {
			want, got := full.settle(), byName.settle()
			if !wrote || !deployed {
				require.Equal(t, want, got, strings.Join(story, "; "))
			} else {
				require.Subset(t, got, want, strings.Join(story, "; "))
			}
			wrote, deployed = false, false
		}
		for i := 0; i+3 <= len(program); i += 3 {
			op, a, b := program[i], program[i+1], program[i+2]
			story = append(story, fmt.Sprintf("%d %d %d", op, a, b))
			full.step(op, a, b)
			byName.step(op, a, b)
			wrote = wrote || op%8 < 4
			deployed = deployed || op%8 == 4 || op%8 == 5
			if op >= 64 { // else what follows comes before anything is read
				compare()
			}
		}
		compare()
		require.Equal(t, full.engine.Stats().Workloads, byName.engine.Stats().ByName)
	})
}
