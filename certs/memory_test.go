package certs

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/watch"
)

// memory keeps objects of one type by name, with resource versions that make a
// stale write a conflict, and watches that tell of every change. It stands in
// for the API server where a test has to hold it still; what the real one does
// is tested end to end.
type memory[T object] struct {
	copyOf func(T) T

	mu       sync.Mutex
	version  int
	objects  map[string]T
	watchers []*watch.RaceFreeFakeWatcher
	events   []watch.Event // one per version, from the first on
	writes   int
	refuse   error         // answers every write
	block    chan struct{} // a write waits until it is closed
}

func newMemory[T object](copyOf func(T) T, objects ...T) *memory[T] {
	m := &memory[T]{copyOf: copyOf, objects: map[string]T{}}
	for _, o := range objects {
		m.put(o)
	}
	return m
}

// put writes as somebody else does, who does not care what was there.
func (m *memory[T]) put(o T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.store(o)
}

func (m *memory[T]) store(o T) {
	m.version++
	o = m.copyOf(o)
	o.SetResourceVersion(strconv.Itoa(m.version))
	_, found := m.objects[o.GetName()]
	m.objects[o.GetName()] = o
	if found {
		m.tell(watch.Modified, o)
	} else {
		m.tell(watch.Added, o)
	}
}

// tell tells every watch of what this version has brought.
func (m *memory[T]) tell(how watch.EventType, o T) {
	m.events = append(m.events, watch.Event{Type: how, Object: m.copyOf(o)})
	for _, w := range m.watchers {
		w.Action(how, m.copyOf(o))
	}
}

func (m *memory[T]) remove(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.version++
	o := m.objects[name]
	delete(m.objects, name)
	m.tell(watch.Deleted, o)
}

func (m *memory[T]) peek(name string) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.copyOf(m.objects[name])
}

func (m *memory[T]) written() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

func (m *memory[T]) refuseWrites(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = err
}

// blockWrites makes writes wait until the returned function is called.
func (m *memory[T]) blockWrites() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	block := make(chan struct{})
	m.block = block
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.block = nil
		close(block)
	})
}

func (m *memory[T]) get(name string) (T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, found := m.objects[name]
	if !found {
		return o, apierrors.NewNotFound(schema.GroupResource{Resource: "objects"}, name)
	}
	return m.copyOf(o), nil
}

func (m *memory[T]) update(ctx context.Context, name, version string, change func(T) (T, error)) (T, error) {
	var none T
	m.mu.Lock()
	block := m.block
	m.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return none, m.refuse
	}
	o, found := m.objects[name]
	if !found {
		return none, apierrors.NewNotFound(schema.GroupResource{Resource: "objects"}, name)
	}
	if version != o.GetResourceVersion() {
		return none, apierrors.NewConflict(schema.GroupResource{Resource: "objects"}, name, errors.New("changed meanwhile"))
	}
	o, err := change(m.copyOf(o))
	if err != nil {
		return none, err
	}
	m.writes++
	m.store(o)
	return m.copyOf(m.objects[name]), nil
}

func (m *memory[T]) patch(ctx context.Context, name string, patch []byte) (T, error) {
	var none T
	var precondition metav1.PartialObjectMetadata
	if err := json.Unmarshal(patch, &precondition); err != nil {
		return none, err
	}
	return m.update(ctx, name, precondition.ResourceVersion, func(o T) (T, error) {
		before, err := json.Marshal(o)
		if err != nil {
			return none, err
		}
		after, err := strategicpatch.StrategicMergePatch(before, patch, o)
		if err != nil {
			return none, err
		}
		patched := m.copyOf(o)
		return patched, json.Unmarshal(after, patched)
	})
}

func (m *memory[T]) list(opts metav1.ListOptions) (items []T, version string, err error) {
	selector, err := fields.ParseSelector(opts.FieldSelector)
	if err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, o := range m.objects {
		if selector.Matches(fields.Set{metav1.ObjectNameField: name}) {
			items = append(items, m.copyOf(o))
		}
	}
	return items, strconv.Itoa(m.version), nil
}

// watch tells of what has come since that version. If it had expired instead, a
// reflector whose list is always overtaken would wait longer each time.
func (m *memory[T]) watch(opts metav1.ListOptions) (watch.Interface, error) {
	if opts.SendInitialEvents != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", nil) // as a server without watch-list does
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	since, err := strconv.Atoi(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	w := watch.NewRaceFreeFake()
	for _, event := range m.events[since:] {
		w.Action(event.Type, event.Object.DeepCopyObject())
	}
	m.watchers = append(m.watchers, w)
	return w, nil
}

// secretsIn gives a memory the methods of Secrets.
type secretsIn struct{ *memory[*corev1.Secret] }

var _ Secrets = secretsIn{}

func (s secretsIn) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Secret, error) {
	return s.get(name)
}

func (s secretsIn) Update(ctx context.Context, secret *corev1.Secret, _ metav1.UpdateOptions) (*corev1.Secret, error) {
	return s.update(ctx, secret.Name, secret.ResourceVersion, func(*corev1.Secret) (*corev1.Secret, error) {
		return secret, nil
	})
}

func (s secretsIn) List(_ context.Context, opts metav1.ListOptions) (*corev1.SecretList, error) {
	items, version, err := s.list(opts)
	list := &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: version}}
	for _, item := range items {
		list.Items = append(list.Items, *item)
	}
	return list, err
}

func (s secretsIn) Watch(_ context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	return s.watch(opts)
}

// deafSecretsIn is the view of a replica whose watch has come to a halt.
type deafSecretsIn struct{ secretsIn }

func (s deafSecretsIn) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return watch.NewRaceFreeFake(), nil
}

type mutatingIn struct {
	*memory[*admissionregistrationv1.MutatingWebhookConfiguration]
}

var _ MutatingConfigurations = mutatingIn{}

func (s mutatingIn) List(_ context.Context, opts metav1.ListOptions) (*admissionregistrationv1.MutatingWebhookConfigurationList, error) {
	items, version, err := s.list(opts)
	list := &admissionregistrationv1.MutatingWebhookConfigurationList{ListMeta: metav1.ListMeta{ResourceVersion: version}}
	for _, item := range items {
		list.Items = append(list.Items, *item)
	}
	return list, err
}

func (s mutatingIn) Watch(_ context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	return s.watch(opts)
}

func (s mutatingIn) Patch(ctx context.Context, name string, _ types.PatchType, data []byte, _ metav1.PatchOptions, _ ...string) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	return s.patch(ctx, name, data)
}

type validatingIn struct {
	*memory[*admissionregistrationv1.ValidatingWebhookConfiguration]
}

var _ ValidatingConfigurations = validatingIn{}

func (s validatingIn) List(_ context.Context, opts metav1.ListOptions) (*admissionregistrationv1.ValidatingWebhookConfigurationList, error) {
	items, version, err := s.list(opts)
	list := &admissionregistrationv1.ValidatingWebhookConfigurationList{ListMeta: metav1.ListMeta{ResourceVersion: version}}
	for _, item := range items {
		list.Items = append(list.Items, *item)
	}
	return list, err
}

func (s validatingIn) Watch(_ context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	return s.watch(opts)
}

func (s validatingIn) Patch(ctx context.Context, name string, _ types.PatchType, data []byte, _ metav1.PatchOptions, _ ...string) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	return s.patch(ctx, name, data)
}
