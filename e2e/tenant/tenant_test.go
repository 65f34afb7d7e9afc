package tenant

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

const (
	// attacked is how long the tenant goes on.
	attacked = 2 * time.Minute
	// wantP99 is within how long a change is rolled out meanwhile, the coalescing
	// window of a second included.
	wantP99 = 5 * time.Second
	soon    = time.Minute
	often   = 20 * time.Millisecond
)

// TestATenantReachesNobodyElse does all at once what a tenant can do.
func TestATenantReachesNobodyElse(t *testing.T) {
	r, err := install.Chart(t.Context(), shared, install.ChartOptions{
		Values: map[string]any{"reloader": map[string]any{"isArgoRollouts": true}}, Log: t.Output(),
	})
	require.NoError(t, err)
	before := processes(t, r)
	shop := newShop(t)
	calm := shop.changes(t, 5)
	evil := newTenant(t, "evil")
	evil.prepare(t)

	attacking, stop := context.WithTimeout(t.Context(), attacked)
	defer stop()
	var loops sync.WaitGroup
	for _, attack := range evil.attacks(webhookAddresses(t, r)) {
		loops.Go(func() {
			for i := 0; attacking.Err() == nil; i++ {
				attack(attacking, i)
			}
		})
	}
	var latencies []time.Duration
	for attacking.Err() == nil {
		latencies = append(latencies, shop.changes(t, 1)...)
	}
	loops.Wait()

	slices.Sort(latencies)
	slices.Sort(calm)
	p99 := latencies[len(latencies)*99/100]
	t.Logf("%d changes rolled out, p50 %s, p99 %s; before the attack p50 %s", len(latencies), latencies[len(latencies)/2], p99, calm[len(calm)/2])
	assert.Less(t, p99, wantP99)
	assert.Equal(t, before, processes(t, r), "the same processes as before")
	requireHalf(t, shared, r)

	// A start finds all of it, too.
	pods, err := r.Pods(t.Context(), r.Engine)
	require.NoError(t, err)
	require.NoError(t, shared.Pods().Kill(r.Namespace, pods[0].Name, syscall.SIGKILL))
	require.Eventually(t, func() bool { return len(processes(t, r)) == len(before) }, soon, often)
	limited, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.NoError(t, r.AwaitReady(limited), "the start ends")
	after := shop.changes(t, 3)
	t.Logf("after a restart: %s", after)
	requireHalf(t, shared, r)
}

// shop is applications that behave well: so many that none of them reloads too
// often by the breaker's count.
type shop struct {
	apps []fixture.App
	// edits counts the changes so far.
	edits int
}

func newShop(t *testing.T) *shop {
	t.Helper()
	const namespace = "shop"
	_, err := shared.Client().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	s := &shop{apps: make([]fixture.App, 30)}
	for i := range s.apps {
		name := fmt.Sprint("app-", i)
		s.apps[i] = fixture.App{
			Namespace: namespace, Name: name, ConfigMaps: []string{name},
			Annotations: map[string]string{annotation.DefaultKeys().Auto: "true"},
		}
		require.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), namespace, name, map[string]string{"edit": "0"}))
		_, err = s.apps[i].Create(t.Context(), shared.Client())
		require.NoError(t, err)
	}
	return s
}

// changes edits the source of one application after the other, and returns how
// long each took to the rollout.
func (s *shop) changes(t *testing.T, times int) []time.Duration {
	t.Helper()
	var took []time.Duration
	for range times {
		app := s.apps[s.edits%len(s.apps)]
		s.edits++
		mark := func() string {
			state, err := fixture.Read(t.Context(), shared.Client(), app.Workload())
			if err != nil {
				return ""
			}
			return state.Env(reloader.EnvName(reloader.ConfigMap, app.Name))
		}
		before := mark()
		require.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), app.Namespace, app.Name, map[string]string{"edit": fmt.Sprint(s.edits)}))
		began := time.Now()
		require.Eventually(t, func() bool { now := mark(); return now != "" && now != before }, soon, often, "edit %d is rolled out", s.edits)
		took = append(took, time.Since(began))
	}
	return took
}

// processes are the process ids of engine and webhook.
func processes(t *testing.T, r *install.Release) map[string]int {
	t.Helper()
	ids := map[string]int{}
	for _, name := range []string{r.Engine, r.Webhook} {
		pods, err := r.Pods(t.Context(), name)
		require.NoError(t, err)
		for i := range pods {
			if id, err := shared.Pods().PID(r.Namespace, pods[i].Name); err == nil {
				ids[pods[i].Name] = id
			}
		}
	}
	return ids
}

func webhookAddresses(t *testing.T, r *install.Release) []string {
	t.Helper()
	pods, err := r.Pods(t.Context(), r.Webhook)
	require.NoError(t, err)
	var addresses []string
	for i := range pods {
		addresses = append(addresses, net.JoinHostPort(pods[i].Status.PodIP, "9443"))
	}
	require.NotEmpty(t, addresses)
	return addresses
}

// requireHalf fails if a process has ever used half of its memory limit.
func requireHalf(t *testing.T, c *cluster.Cluster, r *install.Release) {
	t.Helper()
	for _, name := range []string{r.Engine, r.Webhook} {
		pods, err := r.Pods(t.Context(), name)
		require.NoError(t, err)
		for i := range pods {
			limit := pods[i].Spec.Containers[0].Resources.Limits[corev1.ResourceMemory]
			usage, err := c.Pods().Usage(r.Namespace, pods[i].Name)
			require.NoError(t, err)
			peak := resource.NewQuantity(usage.PeakResident>>20<<20, resource.BinarySI)
			t.Logf("%s: at most %s of %s", pods[i].Name, peak, limit.String())
			assert.Less(t, usage.PeakResident, limit.Value()/2, pods[i].Name)
		}
	}
}
