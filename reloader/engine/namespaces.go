package engine

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/scope"
)

// area is what one list or watch covers.
type area struct {
	// namespace is the only one; empty is all of them.
	namespace string
	// fields is the field selector that leaves some of them out.
	fields string
}

// areas returns what has to be watched to see all of a scope; for one with a
// selector of namespaces, more than that.
func areas(s scope.Scope) []area {
	if len(s.Namespaces) == 0 {
		return []area{everywhere(s)}
	}
	all := make([]area, len(s.Namespaces))
	for i, name := range s.Namespaces {
		all[i] = area{namespace: name}
	}
	return all
}

// everywhere is the whole cluster, but for the namespaces that are ignored.
func everywhere(s scope.Scope) area {
	without := make([]fields.Selector, len(s.IgnoredNamespaces))
	for i, name := range s.IgnoredNamespaces {
		without[i] = fields.OneTermNotEqualSelector("metadata.namespace", name)
	}
	return area{fields: fields.AndSelectors(without...).String()}
}

// around returns the area that is listed when many workloads of a namespace
// have to be read: as much as is watched.
func around(s scope.Scope, namespace string) area {
	if len(s.Namespaces) > 0 || s.NamespaceSelector != nil {
		return area{namespace: namespace}
	}
	return everywhere(s)
}

// selection lets the workloads of the selected namespaces into the intake, whose
// lock guards it. Nil lets everyone in.
type selection struct {
	// started is true once workloads are watched: from then on, what is in a
	// namespace that joins has to be listed.
	started bool
	// namespaces that are selected; the value is not nil while one is joining.
	namespaces map[string]*joining
}

// joining is a namespace that has been selected and whose workloads have not
// been listed yet.
type joining struct {
	// touched are the workloads of which events have told meanwhile: the list
	// may be older.
	touched map[reloader.Workload]struct{}
}

// lets reports whether w is let in, given an event of it from that moment, and
// the moment that counts: what was there when a namespace joined was there
// before we looked.
func (x *selection) lets(w reloader.Workload, since moment) (moment, bool) {
	if x == nil {
		return since, true
	}
	j, selected := x.namespaces[w.Namespace]
	if j == nil {
		return since, selected
	}
	x.touch(w)
	return moment{}, true
}

// touch notes that an event has told of w.
func (x *selection) touch(w reloader.Workload) {
	if x == nil {
		return
	}
	if j := x.namespaces[w.Namespace]; j != nil {
		j.touched[w] = struct{}{}
	}
}

// namespaceKey is a namespace in a queue.
type namespaceKey string

// String returns the name.
func (k namespaceKey) String() string { return "Namespace " + string(k) }

// watchWorkloads notes that workloads are watched from now on.
func (in *intake) watchWorkloads() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.selection != nil {
		in.selection.started = true
	}
}

// join lets the workloads of a namespace in. It reports whether those that are
// there have to be listed.
func (in *intake) join(namespace string) (list bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, selected := in.selection.namespaces[namespace]; selected {
		return false
	}
	in.selection.namespaces[namespace] = nil
	if in.selection.started {
		in.selection.namespaces[namespace] = &joining{touched: map[reloader.Workload]struct{}{}}
	}
	in.ledger.resume(namespace, in.selection.started)
	return in.selection.started
}

// joining returns the namespace if it is joining, else nil.
func (in *intake) joining(namespace string) *joining {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.selection.namespaces[namespace]
}

// welcomes reports whether w, which was listed because its namespace joins, has
// to be taken in. One of which an event has told is left to its events.
func (in *intake) welcomes(j *joining, w reloader.Workload) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, touched := j.touched[w]
	return in.selection.namespaces[w.Namespace] == j && !touched
}

// selects reports whether the workloads of a namespace are let in.
func (in *intake) selects(namespace string) bool {
	if in.selection == nil {
		return true
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	_, selected := in.selection.namespaces[namespace]
	return selected
}

// joined notes that the workloads of a namespace have been listed.
func (in *intake) joined(namespace string, j *joining) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.selection.namespaces[namespace] == j {
		in.selection.namespaces[namespace] = nil
	}
}

// leave forgets the workloads of a namespace and lets them in no more. What the
// archive knows of its sources stays there. It returns the workloads, and
// whether the namespace was selected.
func (in *intake) leave(namespace string) (left []reloader.Workload, selected bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, selected = in.selection.namespaces[namespace]; !selected {
		return nil, false
	}
	delete(in.selection.namespaces, namespace)
	// Before its workloads leave, so that nothing counts as rolled out because
	// nobody waits for it any more.
	in.ledger.suspend(namespace)
	for w, t := range in.workloads {
		if w.Namespace == namespace {
			in.drop(w, t)
			left = append(left, w)
		}
	}
	return left, true
}

// selected returns the namespaces whose workloads are let in.
func (in *intake) selected() (names []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for name := range in.selection.namespaces {
		names = append(names, name)
	}
	return names
}

// namespaceFeed hands the events of namespaces to the engine.
func (e *Engine) namespaceFeed() *feed {
	return e.newFeed(&feed{
		resource: corev1.SchemeGroupVersion.WithResource("namespaces"),
		labelled: true,
		seen: func(meta *metav1.PartialObjectMetadata, _ arrival, _ moment) {
			if e.scope.SelectsNamespace(meta.Name, meta.Labels) {
				e.namespaceJoins(meta.Name)
			} else {
				e.namespaceLeaves(meta.Name)
			}
		},
		deleted: func(meta *metav1.PartialObjectMetadata) { e.namespaceLeaves(meta.Name) },
		// The next event of a namespace, or the next list, says the same again.
		broke: func(meta *metav1.PartialObjectMetadata, err error) {
			key := "Namespaces"
			if meta != nil {
				key = namespaceKey(meta.Name).String()
			}
			e.survived(key, err)
		},
		listed: func(items []any) {
			present := map[string]struct{}{}
			for _, item := range items {
				present[item.(*metav1.PartialObjectMetadata).Name] = struct{}{}
			}
			for _, name := range e.intake.selected() {
				if _, ok := present[name]; !ok {
					e.namespaceLeaves(name)
				}
			}
		},
	})
}

func (e *Engine) namespaceJoins(name string) {
	if e.intake.join(name) {
		e.log.Info("a namespace is selected", "namespace", name)
		e.births.forget()
		e.queues.namespaces.Add(namespaceKey(name))
	}
}

func (e *Engine) namespaceLeaves(name string) {
	left, selected := e.intake.leave(name)
	if !selected {
		return
	}
	e.log.Info("a namespace is not selected any more", "namespace", name)
	for _, f := range e.workloads {
		f.locked(func() {
			for _, w := range left {
				if w.Kind == f.kind {
					e.forget(w, moment{})
				}
			}
		})
	}
}

// joinNamespace handles one key of the namespace queue: it lists the workloads
// of a namespace that has been selected. Their sources are read for the first
// time then, and compared with what the checkpoint knows of them: joining is
// for a namespace what a start is for the cluster.
func (e *Engine) joinNamespace(ctx context.Context, key namespaceKey) error {
	namespace := string(key)
	j := e.intake.joining(namespace)
	if j == nil {
		return nil
	}
	for _, f := range e.workloads {
		_, err := e.client.metadataOf(ctx, f.resource, area{namespace: namespace}, "", func(meta *metav1.PartialObjectMetadata) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if e.intake.welcomes(j, reloader.Workload{Kind: f.kind, Namespace: meta.Namespace, Name: meta.Name}) {
				f.seen(meta, listed, moment{})
			}
		})
		if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
			// What is forbidden, or not there, comes with its feed.
			return fmt.Errorf("join namespace %s: %w", namespace, err)
		}
	}
	e.intake.joined(namespace, j)
	return nil
}
