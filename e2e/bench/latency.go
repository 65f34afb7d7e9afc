package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
)

const (
	bystanders = 1000 // workloads that are there and do not change
	changing   = 200
	secrets    = 2000
	shared     = "shared"
)

// side is one of the two that are compared: the product, or the floor, which
// learns of an edit by making it and patches at once what it knows to depend
// on it.
type side struct {
	prefix string
	// patches is true for the floor.
	patches bool
}

// rollout is the race that the latency part runs again and again.
type rollout struct {
	client   kubernetes.Interface
	observer *observer
	// slots limit the floor's patches, as the product's workers are limited.
	slots chan struct{}
}

// newRollout observes until ctx is done; if that ends before, failed gets the
// reason.
func newRollout(ctx context.Context, c *cluster.Cluster, failed func(error)) (*rollout, error) {
	o, err := observe(ctx, c, failed)
	if err != nil {
		return nil, err
	}
	return &rollout{client: c.Client(), observer: o, slots: make(chan struct{}, parallel)}, nil
}

// latency measures the time between the API server's acknowledgement of an
// edit and the watch event with the new template. Both sides are measured in
// turn on one cluster, with the engine running all the time.
func latency(ctx context.Context, b *bench) error {
	return b.withCluster(ctx, cluster.Options{}, func(c *cluster.Cluster) error {
		ours, floor := side{prefix: "ours"}, side{prefix: "floor", patches: true}
		b.say("creating %d workloads and %d Secrets", bystanders+4*changing, secrets)
		if err := populate(ctx, c, ours, floor); err != nil {
			return err
		}
		engine, err := b.startEngine(ctx, c)
		if err != nil {
			return err
		}
		measured := b.race(ctx, c, ours, floor)
		return errors.Join(measured, engine.stop())
	})
}

func populate(ctx context.Context, c *cluster.Cluster, ours, floor side) error {
	client := c.Client()
	if err := createNamespace(ctx, c); err != nil {
		return err
	}
	if err := createSecrets(ctx, client, 0, secrets); err != nil {
		return err
	}
	if err := createApps(ctx, client, "bystander", bystanders, true); err != nil {
		return err
	}
	for _, s := range []side{ours, floor} {
		if err := fixture.SetConfigMap(ctx, client, namespace, s.prefix+"-"+shared, map[string]string{"a": "0"}); err != nil {
			return err
		}
		if err := s.createOnes(ctx, client); err != nil {
			return err
		}
		err := each(ctx, changing, func(ctx context.Context, i int) error {
			many := fixture.App{Namespace: namespace, Name: s.many(i), ConfigMaps: []string{s.prefix + "-" + shared}}
			return createApp(ctx, client, many, !s.patches, true)
		})
		if err != nil {
			return err
		}
	}
	return settled(ctx, c)
}

// createOnes makes the Deployments that have a ConfigMap each.
func (s side) createOnes(ctx context.Context, client kubernetes.Interface) error {
	return each(ctx, changing, func(ctx context.Context, i int) error {
		if err := fixture.SetConfigMap(ctx, client, namespace, s.one(i), map[string]string{"a": "0"}); err != nil {
			return err
		}
		one := fixture.App{Namespace: namespace, Name: s.one(i), ConfigMaps: []string{s.one(i)}}
		return createApp(ctx, client, one, !s.patches, true)
	})
}

func (s side) one(i int) string  { return fmt.Sprintf("%s-one-%d", s.prefix, i) }
func (s side) many(i int) string { return fmt.Sprintf("%s-many-%d", s.prefix, i) }

func (b *bench) race(ctx context.Context, c *cluster.Cluster, ours, floor side) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r, err := newRollout(ctx, c, fail)
	if err != nil {
		return err
	}

	sides := []side{ours, floor}
	var single, burst, fanOut [2][]time.Duration
	b.say("one at a time, %d each", changing)
	for i := range changing {
		for n, s := range sides {
			took, err := r.edit(ctx, s, s.one(i), s.one(i))
			if err != nil {
				return err
			}
			single[n] = append(single[n], took...)
		}
	}
	for round := range b.rounds {
		b.say("burst and fan-out, round %d of %d", round+1, b.rounds)
		for n, s := range sides {
			took, err := r.burst(ctx, s)
			if err != nil {
				return err
			}
			burst[n] = append(burst[n], took...)
			if err := settled(ctx, c); err != nil {
				return err
			}
			last, err := r.fanOut(ctx, s)
			if err != nil {
				return err
			}
			fanOut[n] = append(fanOut[n], last)
			if err := settled(ctx, c); err != nil {
				return err
			}
		}
	}
	b.table.duration("change to rollout, one at a time, p50", quantile(single[0], 0.5), quantile(single[1], 0.5), "2 x")
	b.table.duration("change to rollout, one at a time, p99", quantile(single[0], 0.99), quantile(single[1], 0.99), "")
	b.table.duration("200 ConfigMaps at once, p50", quantile(burst[0], 0.5), quantile(burst[1], 0.5), "")
	b.table.duration("200 ConfigMaps at once, p99", quantile(burst[0], 0.99), quantile(burst[1], 0.99), "1.5 x")
	b.table.duration("1 ConfigMap, 200 workloads, the last one, median", quantile(fanOut[0], 0.5), quantile(fanOut[1], 0.5), "1.5 x")
	return nil
}

// edit changes a ConfigMap and returns how long each Deployment that depends
// on it took from the acknowledgement on.
func (r *rollout) edit(ctx context.Context, s side, configMap string, deployments ...string) ([]time.Duration, error) {
	changed := make([]<-chan time.Time, len(deployments))
	for i, name := range deployments {
		changed[i] = r.observer.next(name)
	}
	value := time.Now().Format(time.RFC3339Nano)
	if err := fixture.SetConfigMap(ctx, r.client, namespace, configMap, map[string]string{"a": value}); err != nil {
		return nil, err
	}
	acknowledged := time.Now()
	if s.patches {
		err := each(ctx, len(deployments), func(ctx context.Context, i int) error {
			return r.patch(ctx, deployments[i], value)
		})
		if err != nil {
			return nil, err
		}
	}
	took := make([]time.Duration, len(deployments))
	for i := range changed {
		at, err := await(ctx, changed[i], deployments[i])
		if err != nil {
			return nil, err
		}
		took[i] = at.Sub(acknowledged)
	}
	return took, nil
}

// await returns when the change of the Deployment was seen.
func await(ctx context.Context, changed <-chan time.Time, deployment string) (time.Time, error) {
	select {
	case at := <-changed:
		return at, nil
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	case <-time.After(time.Minute):
		return time.Time{}, fmt.Errorf("deployment %s was not rolled within a minute", deployment)
	}
}

// burst edits 200 ConfigMaps, several at a time, each with its own Deployment.
func (r *rollout) burst(ctx context.Context, s side) ([]time.Duration, error) {
	all := make([]time.Duration, changing)
	group, ctx := errgroup.WithContext(ctx)
	edits := make(chan struct{}, parallel)
	for i := range changing {
		changed := r.observer.next(s.one(i))
		group.Go(func() error {
			edits <- struct{}{}
			value := time.Now().Format(time.RFC3339Nano)
			err := fixture.SetConfigMap(ctx, r.client, namespace, s.one(i), map[string]string{"a": value})
			<-edits
			if err != nil {
				return err
			}
			acknowledged := time.Now()
			if s.patches {
				r.slots <- struct{}{}
				err := r.patch(ctx, s.one(i), value)
				<-r.slots
				if err != nil {
					return err
				}
			}
			at, err := await(ctx, changed, s.one(i))
			all[i] = at.Sub(acknowledged)
			return err
		})
	}
	return all, group.Wait()
}

// fanOut edits one ConfigMap on which 200 Deployments depend and returns how
// long the last of them took.
func (r *rollout) fanOut(ctx context.Context, s side) (time.Duration, error) {
	deployments := make([]string, changing)
	for i := range deployments {
		deployments[i] = s.many(i)
	}
	took, err := r.edit(ctx, s, s.prefix+"-"+shared, deployments...)
	return quantile(took, 1), err
}

// patch is what the floor does, and all that it does.
func (r *rollout) patch(ctx context.Context, deployment, value string) error {
	body := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":"STAKATER_FLOOR_CONFIGMAP","value":%q}]}]}}}}`, value)
	_, err := r.client.AppsV1().Deployments(namespace).Patch(ctx, deployment, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "floor"})
	return err
}
