package engine

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// extension is an API that the server of these tests comes to serve.
var extension = schema.GroupVersionResource{Group: "deploys.example", Version: "v1", Resource: "rollouts"}

// extensible is a server whose APIs and rights change.
type extensible struct {
	*script
	mu sync.Mutex // guards everything below
	// group and resource are served; closed is true if discovery is forbidden,
	// forbidden if the resource is.
	group, resource, closed, forbidden bool
	// names of what is there.
	names []string
}

func (x *extensible) set(change func(*extensible)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	change(x)
}

func newExtensible(t *testing.T) *extensible {
	t.Helper()
	x := new(extensible)
	x.script = play(t, func(r request) (int, http.Header, any) {
		x.mu.Lock()
		defer x.mu.Unlock()
		discovery := r.path == "/apis" || r.path == "/apis/deploys.example/v1"
		switch {
		case discovery && x.closed:
			return failure(apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no")))
		case r.path == "/apis":
			list := metav1.APIGroupList{Groups: []metav1.APIGroup{{Name: "apps", Versions: []metav1.GroupVersionForDiscovery{{Version: "v1"}}}}}
			if x.group {
				list.Groups = append(list.Groups, metav1.APIGroup{Name: extension.Group, Versions: []metav1.GroupVersionForDiscovery{{Version: "v1"}}})
			}
			return http.StatusOK, nil, list
		case discovery && x.group:
			list := metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "others"}}}
			if x.resource {
				list.APIResources = append(list.APIResources, metav1.APIResource{Name: extension.Resource})
			}
			return http.StatusOK, nil, list
		case !x.resource:
			return failure(apierrors.NewNotFound(extension.GroupResource(), ""))
		case x.forbidden:
			return failure(apierrors.NewForbidden(extension.GroupResource(), "", errors.New("no")))
		case strings.Contains(r.query, "sendInitialEvents="):
			return failure(apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("watch").GroupKind(), "watch", nil))
		case strings.Contains(r.query, "watch="):
			return failure(apierrors.NewResourceExpired("list again"))
		}
		list := metav1.PartialObjectMetadataList{
			TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"},
			ListMeta: metav1.ListMeta{ResourceVersion: "10"},
		}
		for _, name := range x.names {
			list.Items = append(list.Items, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: "5"}})
		}
		return http.StatusOK, nil, list
	})
	return x
}

// sights is what a feed has handed on last.
type sights struct {
	mu    sync.Mutex // guards everything below
	names []string
	since []moment
	lines []string
}

func (s *sights) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names
}

// moments are those with which everything was handed on until now, in order.
func (s *sights) moments() []moment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.since)
}

func (s *sights) logged() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// follow watches the extension until the test ends.
func follow(t *testing.T, x *extensible, change ...func(*feed)) (*feed, *sights) {
	t.Helper()
	s := new(sights)
	f := &feed{
		resource: extension,
		settled:  make(chan struct{}),
		seen: func(_ *metav1.PartialObjectMetadata, _ arrival, since moment) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.since = append(s.since, since)
		},
		listed: func(items []any) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.names = nil
			for _, item := range items {
				s.names = append(s.names, item.(*metav1.PartialObjectMetadata).Name)
			}
		},
	}
	for _, c := range change {
		c(f)
	}
	log := funcr.New(func(_, line string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lines = append(s.lines, line)
	}, funcr.Options{})
	c, err := newClient(x.config, x.config, logr.Discard())
	require.NoError(t, err)
	const interval = 20 * time.Millisecond
	w := &watcher{
		client: c, discovery: newDiscovery(c.core, interval, clock.RealClock{}, log), refusals: newRefusals(),
		interval: interval, clock: clock.RealClock{}, log: log,
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.discovery.run(ctx) })
	running.Go(func() { w.run(ctx, f) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return f, s
}

func settles(t *testing.T, f *feed) {
	t.Helper()
	select {
	case <-f.settled:
	case <-time.After(10 * time.Second):
		require.Fail(t, "the start waits for it")
	}
}

func TestAnAPIThatComesLaterIsWatchedFromThenOn(t *testing.T) {
	tests := map[string]struct {
		before func(*extensible)
		// wantPaths are all that is asked for before it comes.
		wantPaths []string
	}{
		"its group is not there":                 {func(*extensible) {}, []string{"/apis"}},
		"others have its group":                  {func(x *extensible) { x.group = true }, []string{"/apis", "/apis/deploys.example/v1"}},
		"discovery is forbidden, so it is tried": {func(x *extensible) { x.closed = true }, []string{"/apis", "/apis/deploys.example/v1/rollouts"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			x := newExtensible(t)
			x.set(tc.before)
			f, s := follow(t, x)
			settles(t, f)
			asked := len(paths(x.script))
			eventually(t, func() bool { return len(paths(x.script)) > asked+10 }, "it is looked for")
			for _, path := range paths(x.script) {
				assert.Contains(t, tc.wantPaths, path)
			}
			assert.True(t, f.complete.Load(), "there is nothing to see")

			x.set(func(x *extensible) { x.group, x.resource, x.names = true, true, []string{"web"} })
			eventually(t, func() bool { return len(s.seen()) == 1 }, "it is watched")
			assert.Equal(t, moment{}, s.moments()[0], "what is there is seen for the first time")
			assert.Empty(t, s.logged(), "without a word")
		})
	}
}

func TestAnAPIThatGoesIsWaitedFor(t *testing.T) {
	for name, closed := range map[string]bool{"discovery tells": false, "discovery is forbidden": true} {
		t.Run(name, func(t *testing.T) {
			x := newExtensible(t)
			x.set(func(x *extensible) { x.group, x.resource, x.closed, x.names = true, true, closed, []string{"web"} })
			f, s := follow(t, x)
			eventually(t, func() bool { return len(s.seen()) == 1 }, "it is watched")

			x.set(func(x *extensible) { x.group, x.resource = false, false })
			eventually(t, func() bool { return len(s.seen()) == 0 && f.complete.Load() }, "nothing is there any more")

			before := len(s.moments())
			x.set(func(x *extensible) { x.group, x.resource = true, true })
			eventually(t, func() bool { return len(s.seen()) == 1 }, "it is watched again")
			assert.Equal(t, moment{}, s.moments()[before], "as if for the first time")
			assert.Empty(t, s.logged(), "without a word")
		})
	}
}

// Who asks for an API by a flag wants to know that it is missing.
func TestAnAPIThatWasAskedForIsToldOf(t *testing.T) {
	for name, closed := range map[string]bool{"discovery tells": false, "discovery is forbidden": true} {
		t.Run(name, func(t *testing.T) {
			x := newExtensible(t)
			x.set(func(x *extensible) { x.closed = closed })
			f, s := follow(t, x, func(f *feed) { f.flag = "--follow-rollouts" })
			settles(t, f)
			asked := len(paths(x.script))
			eventually(t, func() bool { return len(paths(x.script)) > asked+10 }, "it is looked for")
			set := func(served bool) {
				x.set(func(x *extensible) { x.group, x.resource, x.names = served, served, []string{"web"} })
				eventually(t, func() bool { return len(s.seen()) == 1 == served }, "it is followed")
			}
			set(true)
			set(false)
			set(true)
			told := func() []string { s.mu.Lock(); defer s.mu.Unlock(); return s.lines }
			eventually(t, func() bool { return len(told()) == 4 }, "it is told")
			for i, line := range told() {
				assert.Contains(t, line, []string{"not served", "served now"}[i%2])
				assert.Contains(t, line, "rollouts.deploys.example")
				assert.Equal(t, i%2 == 0, strings.Contains(line, "--follow-rollouts"))
			}
		})
	}
}

func TestWhatBecomesForbiddenIsNotAllThereIs(t *testing.T) {
	x := newExtensible(t)
	x.set(func(x *extensible) { x.group, x.resource, x.names = true, true, []string{"web"} })
	f, s := follow(t, x, func(f *feed) { f.flag = "--follow-rollouts" })
	eventually(t, func() bool { return f.complete.Load() }, "all is seen")
	x.set(func(x *extensible) { x.forbidden = true })
	eventually(t, func() bool { return !f.complete.Load() }, "it is noticed")
	assert.Equal(t, []string{"web"}, s.seen(), "that is no reason to take it for gone")
	eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.lines) == 1 }, "it is told")
	assert.Contains(t, s.lines[0], "--follow-rollouts")
}

func TestWhatIsForbiddenIsToldOnceAndTriedSlowly(t *testing.T) {
	x := newExtensible(t)
	x.set(func(x *extensible) { x.group, x.resource, x.forbidden, x.names = true, true, true, []string{"web"} })
	f, s := follow(t, x)
	settles(t, f)
	asked := len(paths(x.script))
	eventually(t, func() bool { return len(paths(x.script)) > asked+10 }, "it is tried again")
	assert.False(t, f.complete.Load())
	told := s.logged()
	require.Len(t, told, 1)
	assert.Contains(t, told[0], "forbidden, so its changes go unseen; grant get, list and watch")
	assert.Contains(t, told[0], "rollouts.deploys.example")

	x.set(func(x *extensible) { x.forbidden = false })
	eventually(t, func() bool { return len(s.seen()) == 1 && f.complete.Load() }, "it is watched")
	eventually(t, func() bool {
		told := s.logged()
		return len(told) == 2 && strings.Contains(told[1], "allowed now")
	}, "it is told")
}

func TestABrokenExtensionHoldsUpNoStart(t *testing.T) {
	for name, paths := range map[string][]string{
		"its lists fail":              {"/apis/deploys.example/v1/rollouts"},
		"it does not tell of itself":  {"/apis/deploys.example/v1"},
		"nothing of it gets anywhere": {"/apis/deploys.example/v1", "/apis/deploys.example/v1/rollouts"},
	} {
		t.Run(name, func(t *testing.T) {
			broken := play(t, func(r request) (int, http.Header, any) {
				switch {
				case slices.Contains(paths, r.path):
					return failure(apierrors.NewServiceUnavailable("its server is down"))
				case r.path == "/apis":
					return http.StatusOK, nil, metav1.APIGroupList{Groups: []metav1.APIGroup{{Name: extension.Group, Versions: []metav1.GroupVersionForDiscovery{{Version: "v1"}}}}}
				}
				return http.StatusOK, nil, metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: extension.Resource}}}
			})
			f, _ := follow(t, &extensible{script: broken})
			settles(t, f)
			assert.False(t, f.complete.Load())
		})
	}
}

// What is asked for next to a group that does not answer is found all the same.
func TestABrokenExtensionHoldsUpNoOther(t *testing.T) {
	server := play(t, func(r request) (int, http.Header, any) {
		versions := []metav1.GroupVersionForDiscovery{{Version: "v1"}}
		switch r.path {
		case "/apis":
			return http.StatusOK, nil, metav1.APIGroupList{Groups: []metav1.APIGroup{
				{Name: "broken.example", Versions: versions}, {Name: extension.Group, Versions: versions},
			}}
		case "/apis/deploys.example/v1":
			return http.StatusOK, nil, metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: extension.Resource}}}
		}
		return failure(apierrors.NewServiceUnavailable("its server is down"))
	})
	c, err := newClient(server.config, server.config, logr.Discard())
	require.NoError(t, err)
	d := newDiscovery(c.core, time.Minute, clock.RealClock{}, logr.Discard())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.run(ctx) })
	defer running.Wait()
	defer cancel()
	unsure := make(chan error, 1)
	running.Go(func() {
		d.await(ctx, schema.GroupVersionResource{Group: "broken.example", Version: "v1", Resource: "rollouts"}, false, func(err error) {
			select {
			case unsure <- err:
			default:
			}
		})
	})
	require.Error(t, <-unsure)
	assert.True(t, d.await(ctx, extension, false, func(error) {}))
}

// Whoever serves an extension may take a request and never answer it. What
// belongs to Kubernetes is waited for, and told of.
func TestWhatAStartWaitsFor(t *testing.T) {
	for name, tc := range map[string]struct {
		resource  schema.GroupVersionResource
		wantsMore bool
	}{
		"an extension": {extension, false},
		"Kubernetes":   {sourceResource(reloader.Secret), true},
	} {
		t.Run(name, func(t *testing.T) {
			lines := make(chan string, 1)
			c := clocktesting.NewFakeClock(time.Now())
			e := newTestEngine(t, new(rest.Config), new(told))
			e.clock, e.log = c, funcr.New(func(_, line string) { lines <- line }, funcr.Options{})
			f := &feed{resource: tc.resource, settled: make(chan struct{})}
			going := make(chan bool)
			go func() { going <- e.awaitFirstList(t.Context(), f) }()
			eventually(t, c.HasWaiters, "it waits")
			c.Step(startTold)
			assert.Contains(t, <-lines, tc.resource.Resource)
			if tc.wantsMore {
				c.Step(startTold)
				assert.Contains(t, <-lines, tc.resource.Resource)
				f.settle()
			}
			assert.True(t, <-going)
		})
	}
}

func TestAStartTellsWhatItWaitsFor(t *testing.T) {
	lines := make(chan string, 1)
	c := clocktesting.NewFakeClock(time.Now())
	e := newTestEngine(t, new(rest.Config), new(told))
	e.clock, e.log = c, funcr.New(func(_, line string) { lines <- line }, funcr.Options{})
	var read atomic.Bool
	going := make(chan bool)
	go func() { going <- e.until(t.Context(), read.Load, "sources") }()
	eventually(t, func() bool { return c.Waiters() == 2 }, "it waits")
	c.Step(startTold)
	assert.Contains(t, <-lines, "sources")
	read.Store(true)
	c.Step(startTold)
	assert.True(t, <-going)
}

// The kinds of Kubernetes itself are there: a start asks nobody.
func TestWhatEveryClusterHasIsNotAskedFor(t *testing.T) {
	for _, k := range []reloader.WorkloadKind{reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet} {
		found, ok := kind.BuiltIn().ByName(k)
		require.True(t, ok)
		assert.False(t, mayBeMissing(found.Resource), k)
	}
	assert.False(t, mayBeMissing(sourceResource(reloader.Secret)))
	assert.False(t, mayBeMissing(schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}))
	assert.True(t, mayBeMissing(extension))
}
