package guarantee

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"k8s-reloader/e2e/cluster/process"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/guarantee/history"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// What an installation consists of, beside its ServiceAccounts.
const (
	keySecret  = "reloader-key"
	checkpoint = "reloader-checkpoint"
	shards     = 8
)

// world is what one test has: a namespace with workloads, another with an
// installation of the product, and the history of both.
type world struct {
	effort
	t      *testing.T
	client kubernetes.Interface
	random *rand.Rand
	// apps is the namespace of workloads and sources, own the engines'.
	apps, own string
	history   *history.Recorder
	group     *process.Group
	// logs is the folder of the engines' logs.
	logs string
	// absences of the engines, for the judge.
	absences history.Absences
}

func newWorld(t *testing.T, name string) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{effort: efforts(), t: t, client: shared.Client(), apps: name + "-apps", own: name, random: random(t)}
	var err error
	w.logs, err = os.MkdirTemp("", "reloader-guarantee-") //nolint:usetesting // kept when the test fails
	require.NoError(t, err)
	t.Cleanup(func() {
		if !t.Failed() {
			assert.NoError(t, os.RemoveAll(w.logs))
		}
	})
	w.group, err = process.NewGroup(ctx, "")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.group.Close()) })
	for _, namespace := range []string{w.apps, w.own} {
		_, err := w.client.CoreV1().Namespaces().Create(ctx,
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	t.Cleanup(w.clear)
	w.history, err = history.Record(ctx, etcd, w.apps, w.own)
	require.NoError(t, err)
	t.Cleanup(w.history.Stop)
	w.install(ctx)
	return w
}

// random returns a source of randomness whose seed is printed, or was given.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if given := os.Getenv("RELOADER_SEED"); given != "" {
		var err error
		seed, err = strconv.ParseUint(given, 10, 64)
		require.NoError(t, err, "RELOADER_SEED")
	}
	t.Logf("RELOADER_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// install makes what the chart makes: the rights of the engine, the empty
// Secret of the key and the empty ConfigMaps of the checkpoint.
func (w *world) install(ctx context.Context) {
	w.t.Helper()
	rules := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps", "secrets"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments", "statefulsets", "daemonsets"}, Verbs: []string{"get", "list", "watch", "patch"}},
		{APIGroups: []string{"apps"}, Resources: []string{"replicasets", "controllerrevisions"}, Verbs: []string{"list"}},
		{APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
	}
	own := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps", "secrets"}, Verbs: []string{"get", "update", "patch"}},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "create", "update", "patch"}},
	}
	rbac := w.client.RbacV1()
	meta := metav1.ObjectMeta{Name: w.own, Namespace: w.own}
	clusterMeta := metav1.ObjectMeta{Name: "reloader-" + w.own}
	group := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:" + w.own}}
	_, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: clusterMeta, Rules: rules}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: clusterMeta, Subjects: group,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterMeta.Name},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	_, err = rbac.Roles(w.own).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: own}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	_, err = rbac.RoleBindings(w.own).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: meta, Subjects: group,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)

	require.NoError(w.t, fixture.SetSecret(ctx, w.client, w.own, keySecret, nil))
	for _, shard := range shardNames() {
		require.NoError(w.t, fixture.SetConfigMap(ctx, w.client, w.own, shard, nil))
	}
}

func shardNames() []string {
	names := make([]string, shards)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", checkpoint, i)
	}
	return names
}

// clear leaves the next test a small cluster.
func (w *world) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all := metav1.ListOptions{}
	apps, core := w.client.AppsV1(), w.client.CoreV1()
	assert.NoError(w.t, apps.Deployments(w.apps).DeleteCollection(ctx, metav1.DeleteOptions{}, all))
	assert.NoError(w.t, apps.StatefulSets(w.apps).DeleteCollection(ctx, metav1.DeleteOptions{}, all))
	assert.NoError(w.t, apps.DaemonSets(w.apps).DeleteCollection(ctx, metav1.DeleteOptions{}, all))
	assert.NoError(w.t, core.ConfigMaps(w.apps).DeleteCollection(ctx, metav1.DeleteOptions{}, all))
	assert.NoError(w.t, core.Secrets(w.apps).DeleteCollection(ctx, metav1.DeleteOptions{}, all))
}

// app describes a Deployment that asks for reloads of all it depends on.
func (w *world) app(name string, configMaps ...string) fixture.App {
	return fixture.App{
		Namespace:   w.apps,
		Name:        name,
		Annotations: map[string]string{annotation.DefaultKeys().Auto: "true"},
		ConfigMaps:  configMaps,
	}
}

// create makes apps, several at a time.
func (w *world) create(apps ...fixture.App) {
	w.t.Helper()
	w.each(len(apps), func(ctx context.Context, i int) error {
		_, err := apps[i].Create(ctx, w.client)
		return err
	})
}

// set writes a ConfigMap whose content is the value.
func (w *world) set(name, value string) {
	w.t.Helper()
	w.eventually("write ConfigMap "+name, func(ctx context.Context) error {
		return fixture.SetConfigMap(ctx, w.client, w.apps, name, map[string]string{"value": value})
	})
}

// eventually does something until it works: the API server may be away.
func (w *world) eventually(what string, do func(context.Context) error) {
	w.t.Helper()
	require.EventuallyWithT(w.t, func(t *assert.CollectT) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		defer cancel()
		require.NoError(t, do(ctx))
	}, 2*time.Minute, 20*time.Millisecond, what)
}

// wait lets time pass that is part of the story.
func (w *world) wait(d time.Duration) {
	w.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.t.Context().Done():
		w.t.Fatal("the test is over")
	}
}

// upTo is a random duration.
func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.random.Int64N(int64(d))) }

// now is the newest revision: what is written later has a higher one.
func (w *world) now() int64 {
	w.t.Helper()
	revision, err := etcd.Revision(w.t.Context())
	require.NoError(w.t, err)
	return revision
}

// awaitReloaded returns when that many workloads have been reloaded since that
// revision.
func (w *world) awaitReloaded(count int, since int64) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	err := w.history.Await(ctx, func(s *history.Story) bool { return s.Reloaded(since) >= count })
	if err != nil {
		w.history.Look(func(s *history.Story) {
			require.NoError(w.t, err, "%d of %d workloads were reloaded\n%s", s.Reloaded(since), count, s.Report(s.Judge(w.absences)))
		})
	}
}

// missed notes that watches could not go on before now.
func (w *world) missed() { w.absences.Lists = append(w.absences.Lists, time.Now()) }

// awaitCheckpoint returns when the checkpoint holds all that is known.
func (w *world) awaitCheckpoint() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	require.NoError(w.t, w.history.Await(ctx, func(s *history.Story) bool {
		return slices.ContainsFunc(shardNames(), func(name string) bool {
			return len(s.Sources[reloader.Source{Kind: reloader.ConfigMap, Namespace: w.own, Name: name}]) > 1
		})
	}), "the checkpoint is still empty")
	w.quiet(2 * time.Second)
}

// quiet returns when nothing has happened for that long.
func (w *world) quiet(d time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(w.t, w.history.AwaitQuiet(ctx, d))
}

// requireReloads fails unless every workload of the namespace, or those given,
// was reloaded just as often since that revision.
func (w *world) requireReloads(want int, since int64, only ...reloader.Workload) {
	w.t.Helper()
	w.requireReloadsIn(w.t, want, since, only...)
}

// requireReloadsIn is requireReloads for a part of the test.
func (w *world) requireReloadsIn(t *testing.T, want int, since int64, only ...reloader.Workload) {
	t.Helper()
	w.history.Look(func(s *history.Story) {
		workloads := only
		if len(only) == 0 {
			for workload := range s.Workloads {
				workloads = append(workloads, workload)
			}
		}
		for _, workload := range workloads {
			if got := len(s.Reloads(workload, since)); got != want {
				require.Failf(t, "wrong number of reloads", "%s was reloaded %d times since revision %d, not %d; its story:\n%s",
					workload, got, since, want, s.Tell(workload))
			}
		}
	})
}

// judgement is what the history says so far.
type judgement struct {
	// all are the findings, wrong those of them that nothing excuses. What was
	// split is only counted: an engine may learn of a change when it has just
	// sent a patch.
	all, wrong []history.Finding
	// lost counts those of wrong that may still be made good.
	doubtful, split, gaps, lost, reloads int
	// story is that of what is wrong.
	story string
}

func (w *world) judged() (j judgement) {
	w.history.Look(func(s *history.Story) {
		j.all = s.Judge(w.absences)
		for _, f := range j.all {
			switch {
			case f.Doubtful:
				j.doubtful++
				continue
			case f.Verdict == history.Split:
				j.split++
				continue
			case f.Verdict == history.Gap:
				j.gaps++
				continue
			case f.Verdict == history.Lost:
				j.lost++
			}
			j.wrong = append(j.wrong, f)
		}
		j.story = s.Report(j.wrong)
		for workload := range s.Workloads {
			j.reloads += len(s.Reloads(workload, 0))
		}
	})
	return j
}

// requireRight waits until nothing is lost any more and nothing happens, and
// fails if that never comes or something was too much.
func (w *world) requireRight(limit time.Duration) {
	w.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		w.quiet(1500 * time.Millisecond)
		j := w.judged()
		if len(j.wrong) == 0 && j.reloads == 0 && time.Now().Before(deadline) {
			continue // the engine has yet to come back
		}
		if len(j.wrong) == 0 {
			require.Positive(w.t, j.reloads, "nothing is wrong, because nothing was reloaded")
			assert.LessOrEqual(w.t, j.gaps, 1+j.reloads/50, "reloads too many after watches could not go on")
			w.t.Logf("nothing lost, nothing twice: %d reloads; split: %d, doubtful: %d, after a gap: %d", j.reloads, j.split, j.doubtful, j.gaps)
			return
		}
		if j.lost == 0 || time.Now().After(deadline) {
			require.Failf(w.t, "changes were lost or rolled out twice", "%s", j.story)
		}
	}
}

func (w *world) reloaded(since int64) (count int) {
	w.history.Look(func(s *history.Story) { count = s.Reloaded(since) })
	return count
}

func workloadsOf(apps []fixture.App) []reloader.Workload {
	workloads := make([]reloader.Workload, len(apps))
	for i, app := range apps {
		workloads[i] = app.Workload()
	}
	return workloads
}

// unlimited are the flags that lift the limits on reloads: these tests reload
// the same workloads far more often than anyone should.
func unlimited() []string { return []string{"--breaker-reloads=-1"} }
