package certs

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

type object interface {
	metav1.Object
	runtime.Object
}

// latest is the store of a reflector that watches one object by its name: it
// holds the newest state known, and calls changed after every change of it.
// Objects in it are shared and must not be changed. Safe for concurrent use.
type latest struct {
	name    string
	changed func()

	mu     sync.Mutex
	synced bool   // the server has been asked
	object object // nil if there is none
}

var _ cache.ReflectorStore = (*latest)(nil)

// get returns the object, or nil. If synced is true, nil means that it does not
// exist.
func (l *latest) get() (obj object, synced bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.object, l.synced
}

// put takes the answer to a read or write of our own, which may be ahead of the
// watch, or behind it.
func (l *latest) put(obj object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = true
	if l.object == nil || !older(obj, l.object) {
		l.object = obj
	}
}

func older(a, b object) bool {
	cmp, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && cmp < 0
}

// Add implements cache.ReflectorStore.
func (l *latest) Add(obj any) error { return l.Update(obj) }

// Update implements cache.ReflectorStore.
func (l *latest) Update(obj any) error {
	if o, ok := obj.(object); ok && o.GetName() == l.name {
		l.put(o)
		l.changed()
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (l *latest) Delete(obj any) error {
	if o, ok := obj.(object); ok && o.GetName() == l.name {
		return l.Replace(nil, "")
	}
	return nil
}

// Replace implements cache.ReflectorStore. Unlike put it takes an older state
// too: that is what a restored etcd lists.
func (l *latest) Replace(list []any, _ string) error {
	var found object
	for _, item := range list {
		if o, ok := item.(object); ok && o.GetName() == l.name {
			found = o
		}
	}
	l.mu.Lock()
	l.object, l.synced = found, true
	l.mu.Unlock()
	l.changed()
	return nil
}

// Resync implements cache.ReflectorStore.
func (l *latest) Resync() error { return nil }

// lister is the part of a typed client that a reflector needs.
type lister[L any] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// named lists and watches the one object of that name. RBAC allows both by
// resourceNames because the field selector names the object.
func named[L runtime.Object](client lister[L], name string) cache.ListerWatcher {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	return listWatch{&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			opts.FieldSelector = selector
			return client.List(ctx, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = selector
			return client.Watch(ctx, opts)
		},
	}}
}

// listWatch has a reflector list before it watches. One that streams its list
// is deaf to ctx while it waits for an API server that refuses connections.
type listWatch struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported is what a reflector asks.
func (listWatch) IsWatchListSemanticsUnSupported() bool { return true }
