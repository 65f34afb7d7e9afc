package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	"k8s-reloader/e2e/cluster"
)

// observer sees, by a watch of its own, when the generation of a Deployment
// moves: its template has changed.
type observer struct {
	mu      sync.Mutex // guards everything below
	changed map[string]chan time.Time
	seen    map[string]int64
}

// observe watches the Deployments of the namespace until ctx is done. The
// error of the watch, if it ends before, goes to failed.
func observe(ctx context.Context, c *cluster.Cluster, failed func(error)) (*observer, error) {
	client, err := metadata.NewForConfig(c.RESTConfig())
	if err != nil {
		return nil, fmt.Errorf("set up the observer: %w", err)
	}
	resource := client.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(namespace)
	list, err := resource.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Deployments: %w", err)
	}
	o := &observer{changed: map[string]chan time.Time{}, seen: map[string]int64{}}
	for _, item := range list.Items {
		o.seen[item.Name] = item.Generation
	}
	events, err := resource.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, fmt.Errorf("watch Deployments: %w", err)
	}
	go func() {
		defer events.Stop()
		for event := range events.ResultChan() {
			now := time.Now()
			meta, ok := event.Object.(*metav1.PartialObjectMetadata)
			if !ok {
				failed(fmt.Errorf("the observer's watch brought a %T", event.Object))
				return
			}
			o.note(meta.Name, meta.Generation, now)
		}
		if ctx.Err() == nil {
			failed(fmt.Errorf("the observer's watch has ended"))
		}
	}()
	return o, nil
}

func (o *observer) note(name string, generation int64, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if generation <= o.seen[name] {
		return
	}
	o.seen[name] = generation
	if changed := o.changed[name]; changed != nil {
		changed <- at
		delete(o.changed, name)
	}
}

// next returns a channel that receives the time of the next change of the
// Deployment; call it before the change.
func (o *observer) next(name string) <-chan time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	changed := make(chan time.Time, 1)
	o.changed[name] = changed
	return changed
}
