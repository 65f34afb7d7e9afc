package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// mayBeMissing reports whether a cluster may do without the resource: groups
// without a dot are Kubernetes' own, and no CustomResourceDefinition may have
// one.
func mayBeMissing(r schema.GroupVersionResource) bool { return strings.Contains(r.Group, ".") }

// discovery finds out which APIs the server serves. It asks only while somebody
// waits for one that is missing, so that a cluster which has them all is not
// asked at all; discovery is open to every authenticated client. It is safe for
// concurrent use.
type discovery struct {
	client   rest.Interface
	interval time.Duration
	clock    clock.WithTicker
	log      logr.Logger
	// soon wakes the loop before its time.
	soon chan struct{}

	mu      sync.Mutex // guards everything below
	waiting map[*awaited]struct{}
}

// awaited is an API that somebody waits for.
type awaited struct {
	resource schema.GroupVersionResource
	// tried is true if the server has just said itself that it is not there.
	tried bool
	// looked is called after each look that did not find it; the error says why
	// that is not sure.
	looked func(error)
	// served is closed when it is there.
	served chan struct{}
}

func newDiscovery(client rest.Interface, interval time.Duration, c clock.WithTicker, log logr.Logger) *discovery {
	return &discovery{
		client: client, interval: interval, clock: c, log: log,
		soon: make(chan struct{}, 1), waiting: map[*awaited]struct{}{},
	}
}

// await returns when the resource is served, or false when ctx is done before.
// tried is true if a request for it has just found it missing; looked is called
// after each look that did not find it, with an error if its group could not be
// asked. Where discovery is forbidden nobody knows, and who waits has to try: at
// once the first time, then once in an interval.
func (d *discovery) await(ctx context.Context, resource schema.GroupVersionResource, tried bool, looked func(error)) bool {
	m := &awaited{resource, tried, looked, make(chan struct{})}
	d.mu.Lock()
	d.waiting[m] = struct{}{}
	d.mu.Unlock()
	select {
	case d.soon <- struct{}{}:
	default: // a look is coming
	}
	select {
	case <-m.served:
		return true
	case <-ctx.Done():
		d.mu.Lock()
		delete(d.waiting, m)
		d.mu.Unlock()
		return false
	}
}

// run looks when somebody asks, and from time to time until ctx is done.
func (d *discovery) run(ctx context.Context) {
	const firstWait, lastWait = 500 * time.Millisecond, 15 * time.Second
	pause := d.interval
	for delay := firstWait; ; {
		// Many engines, and those of one that was restarted, spread out.
		timer := d.clock.NewTimer(wait.Jitter(pause, 0.2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		case <-d.soon:
			timer.Stop()
			select {
			case <-ctx.Done():
				return
			case <-d.clock.After(gathering):
			}
		}
		select {
		case <-d.soon:
		default:
		}
		if err := guarded(func() error { return d.look(ctx) }); err != nil && ctx.Err() == nil {
			d.log.Info("cannot find out which APIs are served, trying again", "reason", err.Error())
			pause, delay = min(d.interval, delay), min(2*delay, lastWait)
		} else {
			pause, delay = d.interval, firstWait
		}
	}
}

// gathering is how long a look waits for others to ask for something, too: a
// start asks for several at almost the same time.
const gathering = 5 * time.Millisecond

// look asks for the APIs that somebody waits for, and tells them. A group that
// does not answer holds up no other: an extension may be served by somebody else.
func (d *discovery) look(ctx context.Context) (failed error) {
	d.mu.Lock()
	waiting := make([]*awaited, 0, len(d.waiting))
	for m := range d.waiting {
		waiting = append(waiting, m)
	}
	d.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	groups, err := d.groups(ctx)
	closed := apierrors.IsForbidden(err)
	if err != nil && !closed {
		return err
	}
	type answer struct {
		resources map[string]bool
		err       error
	}
	answers := map[schema.GroupVersion]answer{}
	for _, m := range waiting {
		gv := m.resource.GroupVersion()
		got, asked := answers[gv]
		if !asked && groups[gv] {
			got.resources, got.err = d.resources(ctx, gv)
			answers[gv] = got
			failed = errors.Join(failed, got.err)
		}
		if !got.resources[m.resource.Resource] && (!closed || m.tried) {
			m.tried = false
			m.looked(got.err)
			continue
		}
		d.mu.Lock()
		delete(d.waiting, m)
		d.mu.Unlock()
		close(m.served)
	}
	return failed
}

// groups returns the API groups that are served, with their versions.
func (d *discovery) groups(ctx context.Context) (map[schema.GroupVersion]bool, error) {
	list := new(metav1.APIGroupList)
	if err := d.get(ctx, "/apis", list); err != nil {
		return nil, err
	}
	served := map[schema.GroupVersion]bool{}
	for _, group := range list.Groups {
		for _, v := range group.Versions {
			served[schema.GroupVersion{Group: group.Name, Version: v.Version}] = true
		}
	}
	return served, nil
}

// resources returns those of a version of a group; none if it has gone
// meanwhile.
func (d *discovery) resources(ctx context.Context, gv schema.GroupVersion) (map[string]bool, error) {
	list := new(metav1.APIResourceList)
	err := d.get(ctx, "/apis/"+gv.String(), list)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	served := map[string]bool{}
	for _, r := range list.APIResources {
		served[r.Name] = true
	}
	return served, nil
}

func (d *discovery) get(ctx context.Context, path string, into any) error {
	answer, err := d.client.Get().AbsPath(path).SetHeader("Accept", runtime.ContentTypeJSON).MaxRetries(0).DoRaw(ctx)
	if err == nil {
		err = json.Unmarshal(answer, into)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
