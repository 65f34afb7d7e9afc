package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/record"
)

const (
	parallel  = 32
	namespace = "bench"

	// own is the namespace of the engines' own objects.
	own            = "bench-reloader"
	keySecret      = "reloader-key"
	checkpointName = "reloader-checkpoint"

	// progressInterval is the time between two lines that tell how far it is.
	progressInterval = 10 * time.Second
)

// replicas are the ServiceAccounts of engines that share a checkpoint.
func replicas() []string { return []string{"a", "b"} }

func userOf(replica string) string { return "system:serviceaccount:" + own + ":" + replica }

// each calls do for 0 to n-1, several at a time, and tells how far it is.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	said := time.Now()
	for i := range n {
		if time.Since(said) >= progressInterval {
			fmt.Fprintf(os.Stderr, "  %d of %d\n", i, n)
			said = time.Now()
		}
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// rest lets that much time pass.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func createNamespace(ctx context.Context, c *cluster.Cluster) error {
	return createNamespaceOf(ctx, c, namespace)
}

func createNamespaceOf(ctx context.Context, c *cluster.Cluster, name string) error {
	_, err := c.Client().CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

// createOwn makes what replicas need: their ServiceAccounts, which may do
// everything, and, empty as the chart makes them, key and checkpoint.
func createOwn(ctx context.Context, c *cluster.Cluster) error {
	if err := createNamespaceOf(ctx, c, own); err != nil {
		return err
	}
	for _, name := range replicas() {
		_, err := c.Client().CoreV1().ServiceAccounts(own).Create(ctx,
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	_, err := c.Client().RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: own},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:" + own}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := fixture.SetSecret(ctx, c.Client(), own, keySecret, nil); err != nil {
		return err
	}
	return each(ctx, checkpoint.Shards, func(ctx context.Context, i int) error {
		return fixture.SetConfigMap(ctx, c.Client(), own, fmt.Sprintf("%s-%d", checkpointName, i), nil)
	})
}

// createSecrets makes n Secrets of 8 KiB that nobody references.
func createSecrets(ctx context.Context, client kubernetes.Interface, from, n int) error {
	value := strings.Repeat("x", 8<<10)
	return each(ctx, n, func(ctx context.Context, i int) error {
		return fixture.SetSecret(ctx, client, namespace, fmt.Sprintf("unreferenced-%d", from+i), map[string]string{"value": value})
	})
}

// createApps makes n Deployments that opted in, each with a ConfigMap and a
// Secret of its own, and with an index record if asked for.
func createApps(ctx context.Context, client kubernetes.Interface, prefix string, n int, withRecord bool) error {
	return each(ctx, n, func(ctx context.Context, i int) error {
		name := fmt.Sprintf("%s-%d", prefix, i)
		if err := fixture.SetConfigMap(ctx, client, namespace, name, map[string]string{"a": "0"}); err != nil {
			return err
		}
		if err := fixture.SetSecret(ctx, client, namespace, name, map[string]string{"a": "0"}); err != nil {
			return err
		}
		app := fixture.App{Namespace: namespace, Name: name, ConfigMaps: []string{name}, Secrets: []string{name}}
		return createApp(ctx, client, app, true, withRecord)
	})
}

func createApp(ctx context.Context, client kubernetes.Interface, app fixture.App, optedIn, withRecord bool) error {
	keys := annotation.DefaultKeys()
	app.Annotations = map[string]string{}
	if optedIn {
		app.Annotations[keys.Auto] = "true"
	}
	if withRecord {
		template := app.Template()
		raw, err := json.Marshal(template)
		if err != nil {
			return err
		}
		hash, err := record.TemplateHash(raw, keys)
		if err != nil {
			return err
		}
		text, err := record.New(record.Identity{Namespace: app.Namespace, Name: app.Name, Generation: 1}, &template, hash, keys).Encode()
		if err != nil {
			return err
		}
		app.Annotations[keys.Index] = text
		// A record without UID that another one brings in is not trusted.
		app.FieldManager = engine.FieldManager
	}
	_, err := app.Create(ctx, client)
	return err
}

// settled returns when the Deployment controller has seen everything, so that
// nothing but what is measured is going on.
func settled(ctx context.Context, c *cluster.Cluster) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 10*time.Minute, true, func(ctx context.Context) (bool, error) {
		list, err := c.Client().AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, d := range list.Items {
			if d.Status.ObservedGeneration < d.Generation {
				return false, nil
			}
		}
		return true, nil
	})
}
