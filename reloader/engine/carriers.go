package engine

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
)

// carrierKind is that of the keys of carriers; those of Job carriers are Jobs.
const carrierKind reloader.WorkloadKind = "ControllerRevision"

func carrierKey(c kind.Carrier) reloader.Workload {
	return reloader.Workload{Kind: carrierKind, Namespace: c.Namespace(), Name: c.Name()}
}

// How much memory the carriers of exchanges under way may take: those that exceed
// it are in the cluster only. No namespace has more than half.
const (
	maxHeld          = 16 << 20
	maxHeldNamespace = maxHeld / 2
	// maxRefused bounds what is remembered of objects that are no carriers.
	maxRefused = 10_000
)

// carriers are those of the exchanges that are under way, as this process last
// knew them: should one be deleted, its exchange goes on. It is safe for
// concurrent use.
type carriers struct {
	key fingerprint.Key

	mu sync.Mutex // guards everything below
	// held are packed.
	held map[reloader.Workload]kind.Carrier
	// size is how much memory they take, by namespace and, under the empty name,
	// together.
	size map[string]int
	// refused are objects that pretend to be carriers and are none, each told
	// once.
	refused map[reloader.Workload]types.UID
	// waiting are the carriers that an engine that stands by has seen; nil once it
	// leads.
	waiting map[reloader.Workload]struct{}
}

// newCarriers returns those of a process with that key. Without one, it trusts the
// carriers that it made itself.
func newCarriers(key fingerprint.Key) *carriers {
	if key.IsZero() {
		// A key of the right size is no error.
		key, _ = RandomKey()
	}
	return &carriers{
		key:     key.Derive("carriers"),
		held:    map[reloader.Workload]kind.Carrier{},
		size:    map[string]int{},
		refused: map[reloader.Workload]types.UID{},
	}
}

// hold remembers a carrier as it is now, if there is room.
func (c *carriers) hold(is kind.Carrier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holdLocked(is)
}

func (c *carriers) holdLocked(is kind.Carrier) {
	key := carrierKey(is)
	c.dropLocked(key)
	size := is.Size()
	if c.size[""]+size > maxHeld || c.size[key.Namespace]+size > maxHeldNamespace {
		return
	}
	c.held[key] = is.Packed()
	c.size[""] += size
	c.size[key.Namespace] += size
}

// begin remembers a carrier that was just made, unless more is known of it.
func (c *carriers) begin(is kind.Carrier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.held[carrierKey(is)]; !ok || known.UID() != is.UID() {
		c.holdLocked(is)
	}
}

// of returns the carrier of that key as it was last known, packed.
func (c *carriers) of(key reloader.Workload) (kind.Carrier, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	is, ok := c.held[key]
	return is, ok
}

// drop forgets a carrier: its exchange is over.
func (c *carriers) drop(key reloader.Workload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(key)
}

func (c *carriers) dropLocked(key reloader.Workload) {
	is, ok := c.held[key]
	if !ok {
		return
	}
	delete(c.held, key)
	for _, account := range []string{"", key.Namespace} {
		if c.size[account] -= is.Size(); c.size[account] == 0 {
			delete(c.size, account)
		}
	}
}

// refuse notes that an object is no carrier, and reports whether that is new.
func (c *carriers) refuse(key reloader.Workload, uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.refused[key]; ok && known == uid {
		return false
	}
	for other := range c.refused {
		if len(c.refused) < maxRefused {
			break
		}
		delete(c.refused, other)
	}
	c.refused[key] = uid
	return true
}

// isRefused reports whether the object of that UID is known to be no carrier.
func (c *carriers) isRefused(key reloader.Workload, uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.refused[key]
	return ok && known == uid
}

// gone forgets what was refused, or waits: the object of that key has been deleted.
func (c *carriers) gone(key reloader.Workload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.refused, key)
	delete(c.waiting, key)
}

// carrierFeeds return the feeds of carriers. They watch by the label that only
// carriers have: of the ControllerRevisions of others, of which each StatefulSet
// and DaemonSet has several, nothing arrives here.
func (e *Engine) carrierFeeds() (feeds []*feed) {
	if e.webhook != nil || !e.scope.Workloads(kind.Jobs().Name) {
		return nil
	}
	for _, in := range areas(e.scope) {
		feeds = append(feeds, &feed{
			resource: kind.CarrierResource(),
			area:     in,
			labels:   kind.CarrierSelector(),
			settled:  make(chan struct{}),
			seen: func(meta *metav1.PartialObjectMetadata, _ arrival, _ moment) {
				e.carrierSeen(carrierKind, meta)
			},
			deleted: func(meta *metav1.PartialObjectMetadata) {
				key := reloader.Workload{Kind: carrierKind, Namespace: meta.Namespace, Name: meta.Name}
				e.carriers.gone(key)
				if _, ok := e.carriers.of(key); ok {
					e.queues.carriers.Add(key)
				}
			},
			// An exchange that is under way looks at its carrier from time to
			// time anyway.
			listed: func(items []any) {
				present := make(map[reloader.Workload]struct{}, len(items))
				for _, item := range items {
					meta := item.(*metav1.PartialObjectMetadata)
					present[reloader.Workload{Kind: carrierKind, Namespace: meta.Namespace, Name: meta.Name}] = struct{}{}
				}
				e.carriers.retain(carrierKind, in.namespace, present)
			},
			broke: func(meta *metav1.PartialObjectMetadata, err error) {
				key := reloader.Workload{Kind: carrierKind, Namespace: in.namespace}
				if meta != nil {
					key.Namespace, key.Name = meta.Namespace, meta.Name
					if !e.carriers.await(key) {
						e.queues.carriers.AddRateLimited(key)
					}
				}
				e.survived(key.String(), err)
			},
		})
	}
	return feeds
}

// carrierSeen brings what may be a carrier to its queue, unless it is known to be
// none.
func (e *Engine) carrierSeen(of reloader.WorkloadKind, meta metav1.Object) {
	key := reloader.Workload{Kind: of, Namespace: meta.GetNamespace(), Name: meta.GetName()}
	if !e.carriers.isRefused(key, meta.GetUID()) && !e.carriers.await(key) {
		e.queues.carriers.Add(key)
	}
}

// refuse leaves alone what pretends to be a carrier, and logs it once.
func (e *Engine) refuse(key reloader.Workload, uid types.UID, why error, next string) {
	if e.carriers.refuse(key, uid) {
		e.log.Info("not taken for a carrier, left alone", "object", key.String(), "why", why.Error(), "next", next)
	}
}

// revisions starts a request to ControllerRevisions.
func (a apis) revisions(verb, namespace string) *rest.Request {
	return a.typed[appsv1.SchemeGroupVersion].Verb(verb).Resource(kind.CarrierResource().Resource).Namespace(namespace).MaxRetries(0)
}

// carrier reads a carrier.
func (c *client) carrier(ctx context.Context, key reloader.Workload) (*appsv1.ControllerRevision, error) {
	if err := canExist(kind.CarrierResource().GroupResource(), key.Namespace, key.Name); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	o := new(appsv1.ControllerRevision)
	if err := c.get(ctx, c.reads.revisions(http.MethodGet, key.Namespace).Name(key.Name), o); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return o, nil
}

// createCarrier returns the metadata of the carrier as it was created.
func (c *client) createCarrier(ctx context.Context, o *appsv1.ControllerRevision) (*metav1.PartialObjectMetadata, error) {
	created := new(metav1.PartialObjectMetadata)
	err := within(ctx, c.writes.revisions(http.MethodPost, o.Namespace)).
		VersionedParams(&metav1.CreateOptions{FieldManager: FieldManager}, metav1.ParameterCodec).
		SetHeader("Accept", metadataOnly).Body(o).
		Do(ctx).Into(created)
	if err != nil {
		return nil, fmt.Errorf("create ControllerRevision %s/%s: %w", o.Namespace, o.Name, err)
	}
	return created, nil
}

// announce writes on a carrier how far its exchange is.
func (c *client) announce(ctx context.Context, key reloader.Workload, p kind.Patch) error {
	err := canExist(kind.CarrierResource().GroupResource(), key.Namespace, key.Name)
	if err != nil {
		return fmt.Errorf("patch %s: %w", key, err)
	}
	err = within(ctx, c.writes.revisions(http.MethodPatch, key.Namespace)).Name(key.Name).
		VersionedParams(&metav1.PatchOptions{FieldManager: FieldManager}, metav1.ParameterCodec).
		SetHeader("Content-Type", string(p.Type)).SetHeader("Accept", metadataOnly).Body(p.Body).
		Do(ctx).Into(new(metav1.PartialObjectMetadata))
	if err != nil {
		return fmt.Errorf("patch %s: %w", key, err)
	}
	return nil
}

// deleteCarrier deletes the carrier of that UID. That it is gone is no error.
func (c *client) deleteCarrier(ctx context.Context, key reloader.Workload, uid types.UID) error {
	err := canExist(kind.CarrierResource().GroupResource(), key.Namespace, key.Name)
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	err = within(ctx, c.writes.revisions(http.MethodDelete, key.Namespace)).Name(key.Name).
		SetHeader("Accept", metadataOnly).
		Body(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}).
		Do(ctx).Into(new(metav1.PartialObjectMetadata))
	if err == nil {
		return nil
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		// It is gone, or something else between us and it has answered.
		there, read := c.carrier(ctx, key)
		if apierrors.IsNotFound(read) || read == nil && there.UID != uid {
			return nil
		}
	}
	return fmt.Errorf("delete %s: %w", key, err)
}
