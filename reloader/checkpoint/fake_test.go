package checkpoint

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
)

var (
	_ ConfigMaps = typedcorev1.ConfigMapInterface(nil)
	_ ConfigMaps = (*fakeConfigMaps)(nil)
)

var configMaps = schema.GroupResource{Resource: "configmaps"}

// fakeConfigMaps keeps the rules of the API server that a Store builds on:
// resource versions, no creation by update, and the limit of size. Here they can
// be made to fail at a chosen moment.
type fakeConfigMaps struct {
	mu            sync.Mutex
	objects       map[string]*corev1.ConfigMap
	version       int
	gets, updates int
	// before is asked before every request, outside the lock; its error is the
	// answer.
	before func(ctx context.Context, verb, name string) error
	// after is asked after every update that went through.
	after func(name string) error
}

// newFake returns the empty ConfigMaps that the chart makes.
func newFake() *fakeConfigMaps {
	f := &fakeConfigMaps{objects: map[string]*corev1.ConfigMap{}}
	for n := range Shards {
		f.put(n, nil)
	}
	return f
}

func shardName(n int) string { return fmt.Sprintf("reloader-checkpoint-%d", n) }

// put makes or replaces a shard as others would.
func (f *fakeConfigMaps) put(n int, stored []byte) {
	f.change(n, func(cm *corev1.ConfigMap) {
		cm.BinaryData = nil
		if stored != nil {
			cm.BinaryData = map[string][]byte{storedEntry: stored}
		}
	})
}

func (f *fakeConfigMaps) change(n int, edit func(*corev1.ConfigMap)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cm := f.objects[shardName(n)]
	if cm == nil {
		cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ops", Name: shardName(n),
			Labels:        map[string]string{"app.kubernetes.io/managed-by": "Helm"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "helm"}},
		}}
		f.objects[shardName(n)] = cm
	}
	edit(cm)
	f.touch(cm)
}

// touch is called under the lock.
func (f *fakeConfigMaps) touch(cm *corev1.ConfigMap) {
	f.version++
	cm.ResourceVersion = strconv.Itoa(f.version)
}

func (f *fakeConfigMaps) remove(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, shardName(n))
}

func (f *fakeConfigMaps) get(n int) *corev1.ConfigMap {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects[shardName(n)].DeepCopy()
}

func (f *fakeConfigMaps) stored(n int) []byte { return f.get(n).BinaryData[storedEntry] }

func (f *fakeConfigMaps) counts() (gets, updates int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gets, f.updates
}

func (f *fakeConfigMaps) writes() int {
	_, updates := f.counts()
	return updates
}

func (f *fakeConfigMaps) hook(before func(ctx context.Context, verb, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *fakeConfigMaps) ask(ctx context.Context, verb, name string) error {
	f.mu.Lock()
	before := f.before
	switch verb {
	case "get":
		f.gets++
	case "update":
		f.updates++
	}
	f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if before != nil {
		return before(ctx, verb, name)
	}
	return nil
}

func (f *fakeConfigMaps) Get(ctx context.Context, name string, _ metav1.GetOptions) (*corev1.ConfigMap, error) {
	if err := f.ask(ctx, "get", name); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	cm := f.objects[name]
	if cm == nil {
		return nil, apierrors.NewNotFound(configMaps, name)
	}
	return cm.DeepCopy(), nil
}

func (f *fakeConfigMaps) Create(ctx context.Context, cm *corev1.ConfigMap, _ metav1.CreateOptions) (*corev1.ConfigMap, error) {
	if err := f.ask(ctx, "create", cm.Name); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects[cm.Name] != nil {
		return nil, apierrors.NewAlreadyExists(configMaps, cm.Name)
	}
	cm = cm.DeepCopy()
	f.touch(cm)
	f.objects[cm.Name] = cm
	return cm.DeepCopy(), nil
}

func (f *fakeConfigMaps) Update(ctx context.Context, cm *corev1.ConfigMap, _ metav1.UpdateOptions) (*corev1.ConfigMap, error) {
	if err := f.ask(ctx, "update", cm.Name); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, size := f.objects[cm.Name], 0
	for _, value := range cm.BinaryData {
		size += len(value)
	}
	switch {
	case old == nil:
		return nil, apierrors.NewNotFound(configMaps, cm.Name)
	case old.ResourceVersion != cm.ResourceVersion:
		return nil, apierrors.NewConflict(configMaps, cm.Name, nil)
	case size > 1<<20:
		return nil, apierrors.NewRequestEntityTooLargeError("limit is 1 MiB")
	}
	cm = cm.DeepCopy()
	cm.ManagedFields = old.ManagedFields
	f.touch(cm)
	f.objects[cm.Name] = cm
	if f.after != nil {
		if err := f.after(cm.Name); err != nil {
			return nil, err
		}
	}
	return cm.DeepCopy(), nil
}

// rig is a Store with what is around it.
type rig struct {
	*Store
	fake  *fakeConfigMaps
	clock *clocktesting.FakeClock
	logs  *lines
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func newRig(t testing.TB, fake *fakeConfigMaps) *rig {
	t.Helper()
	r := &rig{fake: fake, clock: clocktesting.NewFakeClock(noon), logs: new(lines)}
	s, err := New(fake, Options{
		Namespace: "ops", Name: "reloader-checkpoint", KeyID: "key-1", Clock: r.clock, Log: r.logs.logger(),
	})
	require.NoError(t, err)
	r.Store = s
	return r
}

// load returns the rig after a Load, whose Summary it returns.
func (r *rig) load(t testing.TB) Summary {
	t.Helper()
	summary, err := r.Load(t.Context())
	require.NoError(t, err)
	return summary
}

// loaded returns a rig whose shards have all been written once.
func loaded(t testing.TB, fake *fakeConfigMaps) *rig {
	t.Helper()
	r := newRig(t, fake)
	r.load(t)
	require.NoError(t, r.Flush(t.Context()))
	return r
}

// run starts Run and returns what ends it and waits for its error. The ticker
// is running when run returns.
func (r *rig) run(t *testing.T) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(cancel)
	require.Eventually(t, r.clock.HasWaiters, 10*time.Second, time.Millisecond)
	return func() error {
		cancel()
		return <-done
	}
}

// eventually waits until the API server got that many updates.
func (r *rig) eventually(t *testing.T, wantUpdates int) {
	t.Helper()
	require.Eventually(t, func() bool { return r.fake.writes() == wantUpdates }, 10*time.Second, time.Millisecond,
		"want %d updates", wantUpdates)
}

type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.text = append(l.text, args)
	}, funcr.Options{})
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.text...)
}

func source(n int) reloader.Source {
	return reloader.Source{Kind: reloader.Secret, Namespace: fmt.Sprintf("team-%d", n%100), Name: fmt.Sprintf("credentials-%d", n)}
}

func entry(n int) Entry {
	var digest [16]byte
	binary.BigEndian.PutUint64(digest[:], uint64(n))
	return Entry{Fingerprint: fingerprint.Fingerprint(fmt.Sprintf("v1-%x", digest)), Version: uint64(n) + 1000}
}

// inShard returns a source that belongs to the shard.
func inShard(shard int) reloader.Source {
	for n := 0; ; n++ {
		if s := source(n); idOf(s).shard() == shard {
			return s
		}
	}
}
