package standalone

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/engine"
	"k8s-reloader/reloader/scope"
)

// The restricted engine is a ServiceAccount whose requests are audited, and
// which has the rights that a test gives it.
const (
	restrictedNamespace = "reloader"
	restrictedName      = "engine"
	restrictedUser      = "system:serviceaccount:" + restrictedNamespace + ":" + restrictedName
)

// scoped has an engine watch what change makes of everything, as far as these
// tests use it.
func scoped(change func(*scope.Scope)) func(*engine.Options) {
	return func(o *engine.Options) {
		o.LookInterval = 500 * time.Millisecond
		o.Scope.IgnoredWorkloads = []reloader.WorkloadKind{"CronJob", "Job", "Rollout", "DeploymentConfig"}
		change(&o.Scope)
	}
}

func selects(t *testing.T, text string) func(*scope.Scope) {
	t.Helper()
	selector, err := scope.ParseSelector(text)
	require.NoError(t, err)
	return func(s *scope.Scope) { s.NamespaceSelector = selector }
}

// remembering has an engine keep what it has rolled out in a namespace.
func remembering(t *testing.T, ns string) func(*engine.Options) {
	t.Helper()
	maps := shared.Client().CoreV1().ConfigMaps(ns)
	for i := range checkpoint.Shards {
		name := fmt.Sprintf("checkpoint-%d", i)
		_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	key, err := engine.RandomKey()
	require.NoError(t, err)
	return func(o *engine.Options) {
		store, err := checkpoint.New(maps, checkpoint.Options{Namespace: ns, Name: "checkpoint", KeyID: key.ID()})
		require.NoError(t, err)
		o.Key, o.Checkpoint = key, store
	}
}

// label sets a label of a namespace, or removes it if the value is empty.
func label(t *testing.T, ns, key, value string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, key, value)
	if value == "" {
		patch = fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, key)
	}
	_, err := shared.Client().CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
}

// labelSource does so with a ConfigMap.
func labelSource(t *testing.T, ns, name, labels string) {
	t.Helper()
	_, err := shared.Client().CoreV1().ConfigMaps(ns).Patch(t.Context(), name, types.MergePatchType,
		[]byte(`{"metadata":{"labels":`+labels+`}}`), metav1.PatchOptions{})
	require.NoError(t, err)
}

// setValue changes the data of a ConfigMap and nothing else of it.
func setValue(t *testing.T, ns, name, value string) {
	t.Helper()
	_, err := shared.Client().CoreV1().ConfigMaps(ns).Patch(t.Context(), name, types.MergePatchType,
		fmt.Appendf(nil, `{"data":{"a":%q}}`, value), metav1.PatchOptions{})
	require.NoError(t, err)
}

func reloads(t *testing.T, r *reports, app fixture.App, want int) {
	t.Helper()
	require.Eventually(t, func() bool { return r.count(app.Workload()) >= want }, soon, often, "%s: %d reloads", app.Workload(), want)
	assert.Equal(t, want, r.count(app.Workload()), app.Workload())
}

// stays makes sure that none of the apps is reloaded any more.
func stays(t *testing.T, r *reports, apps ...fixture.App) {
	t.Helper()
	before := make([]int, len(apps))
	for i, app := range apps {
		before[i] = r.count(app.Workload())
	}
	require.Never(t, func() bool {
		return slices.ContainsFunc(apps, func(app fixture.App) bool {
			return r.count(app.Workload()) != before[slices.IndexFunc(apps, func(a fixture.App) bool { return a.Workload() == app.Workload() })]
		})
	}, quiet, often)
}

func TestNamespacesThatAreWatched(t *testing.T) {
	one, other, third := namespace(t, "watched-one"), namespace(t, "watched-other"), namespace(t, "watched-third")
	tests := map[string]struct {
		change func(*scope.Scope)
		want   []string
	}{
		"all":             {func(*scope.Scope) {}, []string{one, other, third}},
		"a single one":    {func(s *scope.Scope) { s.Namespaces = []string{one} }, []string{one}},
		"those of a list": {func(s *scope.Scope) { s.Namespaces = []string{one, third} }, []string{one, third}},
		"all but some":    {func(s *scope.Scope) { s.IgnoredNamespaces = []string{one, "kube-system"} }, []string{other, third}},
		"by their labels": {selects(t, "kubernetes.io/metadata.name in (watched-one,watched-other)"), []string{one, other}},
		"labels, but some": {func(s *scope.Scope) {
			selects(t, "kubernetes.io/metadata.name in (watched-one,watched-other)")(s)
			s.IgnoredNamespaces = []string{one}
		}, []string{other}},
	}
	round := 0
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			round++
			var apps []fixture.App
			for _, ns := range []string{one, other, third} {
				apps = append(apps, newApp(t, ns, fmt.Sprintf("app-%d", round)))
			}
			_, r := startEngine(t, scoped(tc.change))
			for _, app := range apps {
				edit(t, app.Namespace, app.Name, "1")
			}
			var others []fixture.App
			for _, app := range apps {
				if slices.Contains(tc.want, app.Namespace) {
					reloads(t, r, app, 1)
				} else {
					others = append(others, app)
				}
			}
			for _, app := range others {
				assert.Zero(t, r.count(app.Workload()), app.Workload())
			}
		})
	}
}

// allow gives the restricted engine rights: in a namespace by a Role, or, with
// an empty one, in the whole cluster. They end with the test, or when what is
// returned is called.
func allow(t *testing.T, ns, name string, rules ...rbacv1.PolicyRule) (revoke func()) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	rbac := shared.Client().RbacV1()
	meta := metav1.ObjectMeta{Name: name, Namespace: ns}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: restrictedNamespace, Name: restrictedName}}
	if ns == "" {
		_, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: meta, Subjects: subjects, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: name},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		revoke = sync.OnceFunc(func() {
			assert.NoError(t, rbac.ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{}))
			assert.NoError(t, rbac.ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{}))
		})
	} else {
		_, err := rbac.Roles(ns).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = rbac.RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: meta, Subjects: subjects, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: name},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		revoke = sync.OnceFunc(func() {
			assert.NoError(t, rbac.RoleBindings(ns).Delete(ctx, name, metav1.DeleteOptions{}))
			assert.NoError(t, rbac.Roles(ns).Delete(ctx, name, metav1.DeleteOptions{}))
		})
	}
	t.Cleanup(revoke)
	return revoke
}

func rule(group string, verbs []string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
}

// What the chart gives, per kind.
func readSources(resources ...string) rbacv1.PolicyRule {
	return rule("", []string{"get", "list", "watch"}, resources...)
}

func writeWorkloads(resources ...string) rbacv1.PolicyRule {
	return rule("apps", []string{"get", "list", "watch", "patch"}, resources...)
}

// restricted returns what reaches the API server as the restricted engine.
func restricted(t *testing.T) *rest.Config {
	t.Helper()
	c := shared.Client().CoreV1()
	_, err := c.ServiceAccounts(restrictedNamespace).Get(t.Context(), restrictedName, metav1.GetOptions{})
	if err != nil {
		namespace(t, restrictedNamespace)
		_, err = c.ServiceAccounts(restrictedNamespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: restrictedName}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	config, err := shared.ServiceAccountConfig(t.Context(), restrictedNamespace, restrictedName)
	require.NoError(t, err)
	return config
}

// asked returns the restricted engine's requests since the mark.
func asked(t *testing.T, since cluster.AuditMark) []cluster.AuditEvent {
	t.Helper()
	events, err := shared.AuditSince(since)
	require.NoError(t, err)
	return slices.DeleteFunc(events, func(e cluster.AuditEvent) bool { return e.User != restrictedUser })
}

func mark(t *testing.T) cluster.AuditMark {
	t.Helper()
	m, err := shared.AuditMark()
	require.NoError(t, err)
	return m
}

// journal keeps what an engine logs.
type journal struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (j *journal) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.lines = append(j.lines, args)
	}, funcr.Options{})
}

// with returns the lines that contain all of the words.
func (j *journal) with(words ...string) (found []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			found = append(found, line)
		}
	}
	return found
}

func TestARolePerNamespaceIsEnough(t *testing.T) {
	one, other := namespace(t, "roles-one"), namespace(t, "roles-other")
	config := restricted(t)
	for _, ns := range []string{one, other} {
		allow(t, ns, "engine", readSources("configmaps", "secrets"), writeWorkloads("deployments", "statefulsets", "daemonsets"))
	}
	// Enough of them that lists are cheaper than single reads.
	var apps []fixture.App
	for _, ns := range []string{one, other} {
		t.Cleanup(func() {
			// For other tests, few of them.
			assert.NoError(t, deployments(ns).DeleteCollection(context.WithoutCancel(t.Context()), metav1.DeleteOptions{}, metav1.ListOptions{}))
		})
		for i := range 70 {
			apps = append(apps, newApp(t, ns, fmt.Sprintf("app-%d", i), func(a *fixture.App) {
				if i == 0 {
					a.Annotations["configmap.reloader.stakater.com/reload"] = "app-.*"
				}
			}))
		}
	}
	start := mark(t)
	e, r := startEngine(t, scoped(func(s *scope.Scope) { s.Namespaces = []string{one, other} }),
		func(o *engine.Options) { o.Config = config })
	require.NoError(t, e.Verify(t.Context()))
	edit(t, one, "app-1", "1")
	edit(t, other, "app-69", "1")
	reloads(t, r, apps[1], 1)
	reloads(t, r, apps[139], 1)
	lists := 0
	for _, request := range asked(t, start) {
		assert.Less(t, request.Code, 400, request.RequestURI)
		assert.Contains(t, []string{one, other}, request.Namespace, "%s %s", request.Verb, request.RequestURI)
		if request.Verb == "list" {
			lists++
		}
	}
	assert.Less(t, lists, 20, "lists, not single reads, and few of them")
}

func TestWhatIsForbiddenHoldsUpNothingElse(t *testing.T) {
	config := restricted(t)
	sources, workloads := readSources("configmaps", "secrets"), writeWorkloads("deployments", "statefulsets", "daemonsets")
	tests := map[string]struct {
		given, later rbacv1.PolicyRule
		// forbidden is the resource that the log names.
		forbidden string
		// change is what reloads the app only once the right is there.
		change func(t *testing.T, ns, value string)
		// listed has the engine watch the app's namespace alone, so that there
		// are too few workloads to be listed.
		listed bool
	}{
		"a kind of workload": {
			given: writeWorkloads("deployments", "daemonsets"), later: workloads, forbidden: "statefulsets.apps",
			change: func(t *testing.T, ns, value string) { edit(t, ns, "app", value) },
		},
		"a kind of source": {
			given: readSources("configmaps"), later: sources, forbidden: `"secrets"`,
			change: func(t *testing.T, ns, value string) {
				require.NoError(t, fixture.SetSecret(t.Context(), shared.Client(), ns, "password", map[string]string{"a": value}))
			},
		},
		"reading a kind of source": {
			given: rule("", []string{"list", "watch"}, "secrets"), later: sources, forbidden: `"secrets"`,
		},
		"reading a kind of workload": {
			given: rule("apps", []string{"list", "watch"}, "statefulsets"), later: workloads, forbidden: "statefulsets.apps",
			listed: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			id := "forbidden-" + strings.ReplaceAll(name, " ", "-")
			ns := namespace(t, id)
			switch tc.forbidden {
			case `"secrets"`:
				allow(t, "", id+"-rest", workloads, readSources("configmaps"))
			default:
				allow(t, "", id+"-rest", sources, writeWorkloads("deployments", "daemonsets"))
			}
			allow(t, "", id, tc.given)
			edit(t, ns, "app", "0")
			require.NoError(t, fixture.SetSecret(t.Context(), shared.Client(), ns, "password", map[string]string{"a": "0"}))
			set := fixture.App{Kind: "StatefulSet", Namespace: ns, Name: "app", Annotations: auto(), ConfigMaps: []string{"app"}, Secrets: []string{"password"}}
			_, err := set.Create(t.Context(), shared.Client())
			require.NoError(t, err)
			other := newApp(t, ns, "other")

			var j journal
			_, r := startEngine(t, scoped(func(s *scope.Scope) {
				if tc.listed {
					s.Namespaces = []string{ns}
				}
			}), func(o *engine.Options) { o.Config, o.Log = config, j.logger() })
			edit(t, ns, "other", "1")
			reloads(t, r, other, 1)
			require.Eventually(t, func() bool { return len(j.with("forbidden, so", tc.forbidden)) == 1 }, soon, often, "it is told")
			stays(t, r, set)
			assert.Len(t, j.with("forbidden, so"), 1, "and told once")
			if tc.change == nil {
				return
			}

			allow(t, "", id+"-later", tc.later)
			require.Eventually(t, func() bool { return len(j.with("allowed now")) == 1 }, soon, often)
			// The first look takes what it finds, whenever it comes.
			value := 0
			require.Eventually(t, func() bool {
				value++
				tc.change(t, ns, fmt.Sprint(value))
				return r.count(set.Workload()) > 0
			}, 3*soon, time.Second, "its changes count")
		})
	}
}
