package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"k8s-reloader/reloader"
)

// Recorder records while it runs. Its methods may be called concurrently.
type Recorder struct {
	etcd       Etcd
	namespaces []string
	stop       context.CancelFunc
	running    sync.WaitGroup

	mu sync.Mutex
	// story so far; guarded by mu.
	story *Story
	// fields are the managed fields of each workload's last version; guarded by
	// mu.
	fields map[reloader.Workload][]metav1.ManagedFieldsEntry
	// revision up to which everything is in the story; guarded by mu.
	revision int64
	// news is closed when something has come; guarded by mu.
	news chan struct{}
	// err is why the story has a hole; guarded by mu.
	err error
}

// Record records what happens in the namespaces from now on. They should be
// empty: what exists is not seen until it changes.
func Record(ctx context.Context, etcd Etcd, namespaces ...string) (*Recorder, error) {
	revision, err := etcd.Revision(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Recorder{
		etcd:       etcd,
		namespaces: namespaces,
		stop:       cancel,
		story:      newStory(),
		fields:     map[reloader.Workload][]metav1.ManagedFieldsEntry{},
		revision:   revision,
		news:       make(chan struct{}),
	}
	r.running.Go(func() { r.run(ctx) })
	return r, nil
}

// Stop ends the recording; the story stays.
func (r *Recorder) Stop() {
	r.stop()
	r.running.Wait()
}

// The range of keys from the first to behind the last of those that matter.
const firstKey, lastKey = "/registry/configmaps/", "/registry/statefulsets0"

// run watches until ctx is done; when the connection ends, it goes on behind
// the last write that it has seen.
func (r *Recorder) run(ctx context.Context) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		r.mu.Lock()
		from := r.revision + 1
		r.mu.Unlock()
		err := r.etcd.watch(ctx, from, firstKey, lastKey, r.note)
		if errors.Is(err, errCompacted) {
			r.fail(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func (r *Recorder) note(e etcdEvent) {
	// /registry/RESOURCE/NAMESPACE/NAME
	path := strings.Split(string(e.KV.Key), "/")
	if len(path) == 5 && slices.Contains(r.namespaces, path[3]) {
		if err := r.enter(path[2], path[3], path[4], e); err != nil {
			r.fail(fmt.Errorf("read %s: %w", e.KV.Key, err))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision = max(r.revision, e.KV.ModRevision)
	close(r.news)
	r.news = make(chan struct{})
}

func (r *Recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
	close(r.news)
	r.news = make(chan struct{})
}

func (r *Recorder) enter(resource, namespace, name string, e etcdEvent) error {
	switch resource {
	case "configmaps", "secrets":
		s := reloader.Source{Kind: reloader.ConfigMap, Namespace: namespace, Name: name}
		if resource == "secrets" {
			s.Kind = reloader.Secret
		}
		content, err := contentOf(e)
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.story.enterSource(s, Version{Revision: e.KV.ModRevision, Seen: time.Now(), Content: content})
	case "deployments", "statefulsets", "daemonsets":
		w := reloader.Workload{Kind: kinds[resource], Namespace: namespace, Name: name}
		t := Template{Gone: true}
		var fields []metav1.ManagedFieldsEntry
		if e.Type != "DELETE" {
			meta, template, err := workloadOf(e.KV.Value)
			if err != nil {
				return err
			}
			t, fields = templateOf(meta, template), meta.ManagedFields
		}
		t.Revision, t.Seen = e.KV.ModRevision, time.Now()
		r.mu.Lock()
		defer r.mu.Unlock()
		t.By = writer(r.story.last(w), &t, r.fields[w], fields)
		r.fields[w] = fields
		r.story.enterWorkload(w, t)
	}
	return nil
}

var kinds = map[string]reloader.WorkloadKind{ //nolint:gochecknoglobals // a table
	"deployments": reloader.Deployment, "statefulsets": reloader.StatefulSet, "daemonsets": reloader.DaemonSet,
}

func contentOf(e etcdEvent) (Content, error) {
	if e.Type == "DELETE" {
		return "", nil
	}
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(e.KV.Value, nil, nil)
	if err != nil {
		return "", err
	}
	switch o := object.(type) {
	case *corev1.ConfigMap:
		return Content(digest([]any{o.Data, o.BinaryData})), nil
	case *corev1.Secret:
		return Content(digest(o.Data)), nil
	}
	return "", fmt.Errorf("it is a %T", object)
}

func workloadOf(value []byte) (*metav1.ObjectMeta, *corev1.PodTemplateSpec, error) {
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(value, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	switch o := object.(type) {
	case *appsv1.Deployment:
		return &o.ObjectMeta, &o.Spec.Template, nil
	case *appsv1.StatefulSet:
		return &o.ObjectMeta, &o.Spec.Template, nil
	case *appsv1.DaemonSet:
		return &o.ObjectMeta, &o.Spec.Template, nil
	}
	return nil, nil, fmt.Errorf("it is a %T", object)
}

// Await returns when the condition holds of the story. It is called under a
// lock, at once and after every write, and must not keep the story.
func (r *Recorder) Await(ctx context.Context, condition func(*Story) bool) error {
	for {
		r.mu.Lock()
		ok, err, news := condition(r.story), r.err, r.news
		r.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ok:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		}
	}
}

// AwaitQuiet returns when everything that was written so far is in the story
// and nothing was added to it for that long.
func (r *Recorder) AwaitQuiet(ctx context.Context, quiet time.Duration) error {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		before := r.entries()
		timer.Reset(quiet)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if r.entries() == before {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.err
		}
	}
}

func (r *Recorder) entries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.story.entries
}

// Look calls visit with the story under a lock; it must not keep it.
func (r *Recorder) Look(visit func(*Story)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	visit(r.story)
}
