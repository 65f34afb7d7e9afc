package engine

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// watcher runs feeds. It is safe for concurrent use.
type watcher struct {
	client    *client
	discovery *discovery
	refusals  *refusals
	// interval is the time between two attempts at what is forbidden.
	interval time.Duration
	clock    clock.WithTicker
	log      logr.Logger
	// broke is called after a panic in a request or in what decodes its answer. The
	// reflector tries it again.
	broke func(resource string, err error)
}

// run watches until ctx is done. An API that is not served is waited for.
func (w *watcher) run(ctx context.Context, f *feed) {
	if mayBeMissing(f.resource) && !w.await(ctx, f, false, f.absent) {
		return
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
			return ask(ctx, w, f, "list", func() (runtime.Object, error) { return w.list(ctx, f) })
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector, options.FieldSelector = f.labels, f.area.fields
			return ask(ctx, w, f, "watch", func() (watch.Interface, error) {
				return w.client.watch(ctx, f.resource, f.area.namespace, options)
			})
		},
	}
	r := cache.NewReflectorWithOptions(lw, &metav1.PartialObjectMetadata{}, f, cache.ReflectorOptions{
		Logger:          &w.log,
		Name:            "engine",
		TypeDescription: f.resource.Resource,
		Backoff:         relist(),
	})
	r.RunWithContext(ctx)
}

// firstWait and lastWait are about how long a feed waits after the first failure, and
// at most.
const firstWait, lastWait = 500 * time.Millisecond, 15 * time.Second

// spread is by how much more than that it may wait, so that not all feeds come at
// once.
const spread = 0.5

// relist is how long a reflector waits when a list or watch has failed. Its own
// pauses grow to a minute, even where most requests succeed, and a change waits that
// long.
func relist() *wait.Backoff {
	return &wait.Backoff{Duration: firstWait, Cap: lastWait, Steps: math.MaxInt, Factor: 2, Jitter: spread}
}

// list lists for a feed, where lists are not streamed. A reflector would have
// the whole of it decoded in memory before anything of it is dropped.
func (w *watcher) list(ctx context.Context, f *feed) (*metav1.PartialObjectMetadataList, error) {
	list := new(metav1.PartialObjectMetadataList)
	version, err := w.client.metadataOf(ctx, f.resource, f.area, f.labels, func(meta *metav1.PartialObjectMetadata) {
		f.slim(meta)
		list.Items = append(list.Items, *meta)
	})
	if err != nil {
		return nil, err
	}
	list.ResourceVersion = version
	return list, nil
}

// ask makes a request for a feed, and makes it again for as long as nobody
// listens, it is throttled or forbidden, or the API is not served. A reflector would
// do so, too, but several times a minute, whatever the API server asks for, and with
// a line each time, and while nobody listens without a word, deaf to ctx for up to
// half a minute.
func ask[T any](ctx context.Context, w *watcher, f *feed, verb string, request func() (T, error)) (answer T, err error) {
	this := refusal{verb, f.resource.GroupResource(), f.area.namespace}
	for delay := firstWait; ; delay = min(2*delay, lastWait) {
		pause := delay
		err = guarded(func() (err error) { answer, err = request(); return err })
		if permitted(err) {
			w.answered(this)
		}
		switch {
		case err == nil:
			return answer, nil
		case utilnet.IsConnectionRefused(err):
			w.log.Info("cannot reach the API server, trying again", "reason", err.Error())
		case retryAfter(err) > 0:
			w.log.V(1).Info("the API server asks to wait", "resource", f.resource.GroupResource().String(), "for", retryAfter(err).String())
			if mayBeMissing(f.resource) {
				f.settle()
			}
			pause = max(delay, retryAfter(err))
		case apierrors.IsForbidden(err):
			w.refused(f, this, err)
			pause = w.interval
		case apierrors.IsNotFound(err) && mayBeMissing(f.resource):
			if !w.await(ctx, f, true, f.gone) || !w.pause(ctx, min(firstWait, w.interval)) {
				return answer, ctx.Err()
			}
			// Whatever was there before may not be what is there now: everything
			// is listed anew.
			return answer, apierrors.NewResourceExpired(fmt.Sprintf("%s may be served again", this.resource))
		default:
			if panicked(err) {
				w.broke(f.resource.Resource, err)
			}
			if mayBeMissing(f.resource) {
				// A broken extension holds up nobody else.
				f.settle()
			}
			return answer, err
		}
		if !w.pause(ctx, pause) {
			return answer, ctx.Err()
		}
	}
}

// await returns when the API of a feed is served, or false when ctx is done
// before; missing is called each time it was looked for and is not. Who has asked
// for the API by a flag is told so. tried is that of discovery.
func (w *watcher) await(ctx context.Context, f *feed, tried bool, missing func()) bool {
	return w.discovery.await(ctx, f.resource, tried, func(err error) {
		if err != nil {
			f.settle()
			return
		}
		if f.flag != "" && w.refusals.add(unserved(f.resource.GroupResource())) {
			w.log.Info("not served, so there is nothing to see of it until it is installed; leave the flag out if it never will be",
				"resource", f.resource.GroupResource().String(), "flag", f.flag)
		}
		missing()
	})
}

// answered notes that a request is refused no more, and says so if it was.
func (w *watcher) answered(this refusal) {
	if w.refusals.remove(unserved(this.resource)) {
		w.log.Info("served now", "resource", this.resource.String())
	}
	if w.refusals.remove(this) {
		w.log.Info("allowed now", "verb", this.verb, "resource", this.resource.String(), "namespace", this.namespace)
	}
}

// permitted reports whether RBAC has let the request pass that was answered like
// this.
func permitted(err error) bool {
	return err == nil || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) ||
		apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// pause waits for about that long, or reports false if ctx is done before.
func (w *watcher) pause(ctx context.Context, about time.Duration) bool {
	timer := w.clock.NewTimer(wait.Jitter(about, spread))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// refused notes that a feed is forbidden, and says so the first time.
func (w *watcher) refused(f *feed, what refusal, err error) {
	f.complete.Store(false)
	f.settle()
	if !w.refusals.add(what) {
		return
	}
	log := w.log.WithValues("resource", what.resource.String(), "in", w.interval.String())
	if what.namespace != "" {
		log = log.WithValues("namespace", what.namespace)
	}
	if f.flag != "" {
		log = log.WithValues("flag", f.flag)
	}
	log.Error(err, "forbidden, so its changes go unseen; grant get, list and watch (for workloads patch, too), as the chart does, or switch it off by a flag; everything else goes on, and this is tried again slowly")
}
