package engine

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/engine/internal/answer"
	"k8s-reloader/reloader/kind"
)

// births tell since when workloads have had their present pod template, by what
// their controllers keep of each template: a ReplicaSet, or a ControllerRevision.
// No pod of a template is older than that. They are asked for at a start, and when
// a namespace joins, about workloads whose source changed while nobody looked;
// what was read once is kept until forget. They are safe for concurrent use.
type births struct {
	client *client
	kinds  kind.Set
	log    logr.Logger

	mu         sync.Mutex // guards everything below
	registries map[office]*registry
}

// office is where records are kept: a resource in a namespace.
type office struct{ resource, namespace string }

// registry is what was read of one office.
type registry struct {
	mu     sync.Mutex // guards everything below, and is held while it is read
	read   bool
	owners map[types.UID]birth
}

// birth is the present template of one workload.
type birth struct {
	revision int64
	// at is when the record was made.
	at time.Time
	// again is true if another record is newer: the workload has gone back to a
	// template that it had before, and has had it for a shorter time than at says.
	again bool
	// newest is when the newest record was made.
	newest time.Time
}

func newBirths(c *client, kinds kind.Set, log logr.Logger) *births {
	return &births{client: c, kinds: kinds, log: log, registries: map[office]*registry{}}
}

// of returns the birth of the template that w has. It reports false if that
// cannot be known: the kind keeps no records, they may not be read, or the
// controller has not made one yet. With an error they cannot be read now.
func (b *births) of(ctx context.Context, w reloader.Workload, uid types.UID) (of birth, known bool, err error) {
	k, _ := b.kinds.ByName(w.Kind)
	resource := k.Records.Resource
	if resource == "" {
		return birth{}, false, nil
	}
	at := office{resource, w.Namespace}
	b.mu.Lock()
	r := b.registries[at]
	if r == nil {
		r = new(registry)
		b.registries[at] = r
	}
	b.mu.Unlock()

	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.read {
		owners := map[types.UID]birth{}
		err := b.client.births(ctx, resource, w.Namespace, func(owner types.UID, revision int64, at time.Time) {
			owners[owner] = owners[owner].and(revision, at)
		})
		switch {
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			b.log.Info("cannot tell when pod templates changed; let the service account list these, or some reloads are not needed",
				"resource", resource, "namespace", w.Namespace, "reason", err.Error())
		case err != nil:
			return birth{}, false, fmt.Errorf("find out when pod templates of %s changed: %w", w.Namespace, err)
		}
		r.read, r.owners = true, owners
	}
	found, ok := r.owners[uid]
	return found, ok, nil
}

const controllerRevisions = "controllerrevisions"

// forget drops what was read.
func (b *births) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.registries)
}

// and takes one more record of the same workload into account.
func (b birth) and(revision int64, at time.Time) birth {
	if at.After(b.newest) {
		b.newest = at
	}
	if revision > b.revision {
		b.revision, b.at = revision, at
	}
	b.again = b.at.Before(b.newest)
	return b
}

// revisionAnnotation numbers the ReplicaSets of a Deployment; going back to one
// gives it a new number.
const revisionAnnotation = "deployment.kubernetes.io/revision"

// births calls visit for every record of a pod template in a namespace, one in
// memory at a time.
func (c *client) births(ctx context.Context, resource, namespace string, visit func(owner types.UID, revision int64, at time.Time)) error {
	if resource == controllerRevisions {
		request := func() *rest.Request {
			return c.under(appsv1.SchemeGroupVersion).Namespace(namespace).Resource(resource)
		}
		_, err := c.list(ctx, request, metav1.ListOptions{Limit: someObjects}, func(o answer.Object) error {
			record := new(appsv1.ControllerRevision)
			if err := o.Into(record); err != nil {
				return err
			}
			if owner := metav1.GetControllerOfNoCopy(record); owner != nil {
				visit(owner.UID, record.Revision, record.CreationTimestamp.Time)
			}
			return nil
		}, nil)
		return err
	}
	_, err := c.metadataOf(ctx, appsv1.SchemeGroupVersion.WithResource(resource), area{namespace: namespace}, "", func(set *metav1.PartialObjectMetadata) {
		revision, err := strconv.ParseInt(set.Annotations[revisionAnnotation], 10, 64)
		if owner := metav1.GetControllerOfNoCopy(set); owner != nil && err == nil {
			visit(owner.UID, revision, set.CreationTimestamp.Time)
		}
	})
	return err
}
