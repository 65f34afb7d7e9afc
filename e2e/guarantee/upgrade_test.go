package guarantee

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/e2e/cluster/binaries"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/guarantee/fault"
	"k8s-reloader/e2e/guarantee/history"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// lastOfVersion1 is the last revision whose marks are fingerprints.
const lastOfVersion1 = "be0f4fb"

// buildVersion1 builds that revision's program. A checkout without history
// cannot.
func buildVersion1(ctx context.Context, t *testing.T) string {
	t.Helper()
	root, err := binaries.Root()
	require.NoError(t, err)
	dir := t.TempDir()
	archive, source := filepath.Join(dir, "source.tar"), filepath.Join(dir, "source")
	if out, err := exec.CommandContext(ctx, "git", "-C", root, "archive", "--prefix=source/", "--output", archive, lastOfVersion1).CombinedOutput(); err != nil {
		t.Skipf("no revision %s in this checkout: %v: %s", lastOfVersion1, err, out)
	}
	out, err := exec.CommandContext(ctx, "tar", "-xf", archive, "-C", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	program, err := install.Build(ctx, install.BuildOptions{Dir: filepath.Join(dir, "bin"), Root: source, Log: t.Output()})
	require.NoError(t, err)
	return program
}

// The way from marks and records of version 1 to those of this version, and back:
// the checkpoint is the same, nothing is reloaded that has not changed, and what
// changes meanwhile is, whatever comes first, engine or webhook.
func TestTheUpgradeFromMarksOfVersion1(t *testing.T) {
	version1 := buildVersion1(t.Context(), t)
	for _, first := range []string{"engine", "webhook"} {
		for _, strategy := range []string{"env-vars", "annotations"} {
			t.Run(first+" first, "+strategy, func(t *testing.T) {
				u := newUpgrade(t, first+"-"+strategy, strategy, version1)
				forth := map[string]func(){
					"engine":  func() { u.swapEngine(u.before, u.after, "C", 1) },
					"webhook": func() { u.swapWebhook(program, 2) },
				}
				// An engine of version 1 does not know of the Job that the other one
				// has started.
				back := map[string]func(){
					"engine":  func() { u.swapEngine(u.after, u.before, "D", 2) },
					"webhook": func() { u.swapWebhook(version1, 1) },
				}
				then := map[string]string{"engine": "webhook", "webhook": "engine"}
				forth[first]()
				forth[then[first]]()
				back[then[first]]()
				back[first]()
				u.before.terminate()
			})
		}
	}
}

// upgrade is an installation that is upgraded, with workloads of each kind, each
// with a ConfigMap of its own.
type upgrade struct {
	*world
	hook          *webhook
	before, after *engine
	workloads     []fixture.App
	edits         int
}

// What happens to workloads in an upgrade of the engine; to all others nothing.
const (
	// unheard: the engine has heard of the change, and its patch has not arrived.
	unheard = "unheard"
	// patched: the patch was carried out, and the engine has not heard of that.
	patched = "patched"
	// missed and untouched: the change was made while no engine ran. What is
	// untouched was never reloaded, so that its record is from its creation.
	missed, untouched = "missed", "untouched"
	// edited in an upgrade of the webhook.
	edited = "edited"
	// nightly is the CronJob. Its Job was created, and the engine has not heard of
	// that.
	nightly = "nightly"
)

func newUpgrade(t *testing.T, name, strategy, version1 string) *upgrade {
	t.Helper()
	u := &upgrade{world: newWorld(t, "upgrade-"+name)}
	u.allowJobs()
	for name, kind := range map[string]reloader.WorkloadKind{
		unheard: reloader.StatefulSet, patched: reloader.Deployment, missed: reloader.DaemonSet, untouched: reloader.Deployment,
		edited: reloader.Deployment, "stateful": reloader.StatefulSet, "daemon": reloader.DaemonSet, "still": reloader.Deployment,
	} {
		app := u.app(name, name)
		app.Kind = kind
		u.workloads = append(u.workloads, app)
		u.set(name, "A")
	}
	u.set(nightly, "A")
	u.hook = u.webhook()
	u.hook.swap(version1, 1)
	u.before = u.engine("before", "--reload-strategy="+strategy)
	u.before.program = version1
	u.after = u.engine("after", "--reload-strategy="+strategy)
	u.create(u.workloads...)
	u.createCronJob()
	u.before.up()
	since := u.now()
	for _, app := range u.workloads {
		if app.Name != untouched {
			u.set(app.Name, "B")
		}
	}
	u.set(nightly, "B")
	u.awaitReloaded(len(u.workloads)-1, since)
	u.awaitJobs(1, 1)
	u.awaitCheckpoint()
	u.requireRecords(1)
	return u
}

// swapEngine has another engine take over, after changes to this value that the
// one before has not finished, or not heard of. The CronJob has at most so many
// Jobs of its change.
func (u *upgrade) swapEngine(from, to *engine, value string, mostJobs int) {
	u.t.Helper()
	u.controllersHaveSeen()
	jobs, since := u.jobs(), u.now()
	from.lieInWait(u.inMotion(from))
	for _, name := range []string{unheard, patched, nightly} {
		u.set(name, value)
	}
	from.requireEnd(128+int(syscall.SIGKILL), time.Minute)
	from.lieInWait(nil)
	u.set(missed, value)
	u.set(untouched, value)
	to.up()
	u.awaitReloaded(4, since)
	u.quiet(1500 * time.Millisecond)
	u.awaitJobs(jobs+1, jobs+mostJobs)
	u.history.Look(func(s *history.Story) {
		u.t.Logf("from %s to %s: %d reloads of what was patched, %d Jobs", from.name, to.name, len(s.Reloads(u.named(patched).Workload(), since)), u.jobs()-jobs)
	})
	u.requireReloadsOf(since, map[string][2]int{
		unheard: {1, 1}, missed: {1, 1}, untouched: {1, 1},
		// The mark of the other version is not known to be of this content.
		patched: {1, 2},
	})
}

// inMotion kills the engine when its three writes stand where they are to stand.
func (u *upgrade) inMotion(e *engine) func(fault.Request, fault.Moment) bool {
	var mu sync.Mutex
	stand := map[string]bool{}
	return func(r fault.Request, m fault.Moment) bool {
		var name string
		switch {
		case r.Verb == "patch" && (r.Name == unheard || r.Name == patched || r.Name == nightly):
			name = r.Name
		case r.Verb == "create" && r.Resource == "jobs":
			name = nightly
		default:
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		if m == fault.Arrived && name != unheard && !stand[name] {
			return true
		}
		if !stand[name] {
			stand[name] = true
			if len(stand) == 3 {
				e.kill()
			}
		}
		return false
	}
}

// swapWebhook has another webhook take over, which then sees every workload. Only
// what changes is reloaded, once.
func (u *upgrade) swapWebhook(program string, version int) {
	u.t.Helper()
	u.edits++
	more := fmt.Sprintf("more-%d", u.edits)
	u.set(more, "A")
	before := u.now()
	u.hook.swap(program, version)
	for _, app := range u.workloads {
		u.patch(app, fmt.Sprintf(`{"metadata":{"labels":{"seen":"%d"}}}`, u.edits))
	}
	u.patch(u.named(edited), `{"spec":{"template":{"spec":{"containers":[{"name":"app","envFrom":[{"configMapRef":{"name":"`+more+`"}},{"configMapRef":{"name":"`+edited+`"}}]}]}}}}`)
	u.requireRecord(edited, version)
	u.quiet(1500 * time.Millisecond)
	u.requireReloadsOf(before, nil)

	jobs, since := u.jobs(), u.now()
	u.set(more, "B")
	u.set("still", more)
	u.set(nightly, more)
	u.awaitReloaded(2, since)
	u.quiet(1500 * time.Millisecond)
	u.awaitJobs(jobs+1, jobs+1)
	u.requireReloadsOf(since, map[string][2]int{edited: {1, 1}, "still": {1, 1}})
}

func (u *upgrade) named(name string) fixture.App {
	return u.workloads[slices.IndexFunc(u.workloads, func(a fixture.App) bool { return a.Name == name })]
}

// requireReloadsOf fails unless each workload has been reloaded since that revision
// at least and at most so often; those that are not named not at all.
func (u *upgrade) requireReloadsOf(since int64, want map[string][2]int) {
	u.t.Helper()
	u.history.Look(func(s *history.Story) {
		for _, app := range u.workloads {
			got, bounds := len(s.Reloads(app.Workload(), since)), want[app.Name]
			if got < bounds[0] || got > bounds[1] {
				require.Failf(u.t, "wrong number of reloads", "%s was reloaded %d times since revision %d, not %d to %d; its story:\n%s",
					app.Workload(), got, since, bounds[0], bounds[1], s.Tell(app.Workload()))
			}
		}
	})
}

// patch changes a workload as its owner would.
func (u *upgrade) patch(app fixture.App, body string) {
	u.t.Helper()
	resource := map[reloader.WorkloadKind]string{
		reloader.Deployment: "deployments", reloader.StatefulSet: "statefulsets", reloader.DaemonSet: "daemonsets",
	}[app.Workload().Kind]
	require.NoError(u.t, u.client.AppsV1().RESTClient().Patch(types.StrategicMergePatchType).
		Namespace(app.Namespace).Resource(resource).Name(app.Name).Body([]byte(body)).Do(u.t.Context()).Error())
}

// requireRecords fails unless all workloads have records of that version.
func (u *upgrade) requireRecords(version int) {
	u.t.Helper()
	for _, app := range u.workloads {
		u.requireRecord(app.Name, version)
	}
}

func (u *upgrade) requireRecord(name string, version int) {
	u.t.Helper()
	state, err := fixture.Read(u.t.Context(), u.client, u.named(name).Workload())
	require.NoError(u.t, err)
	text := state.Meta.Annotations[annotation.DefaultKeys().Index]
	require.True(u.t, strings.HasPrefix(text, fmt.Sprintf(`{"v":%d,`, version)), "%s has the record %q", name, text)
}

// allowJobs gives the engines what CronJobs need.
func (u *upgrade) allowJobs() {
	u.t.Helper()
	ctx, rbac, name := u.t.Context(), u.client.RbacV1(), "reloader-jobs-"+u.own
	_, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"batch"}, Resources: []string{"cronjobs", "jobs"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}},
		{APIGroups: []string{"apps"}, Resources: []string{"controllerrevisions"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}},
	}}, metav1.CreateOptions{})
	require.NoError(u.t, err)
	_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:" + u.own}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	}, metav1.CreateOptions{})
	require.NoError(u.t, err)
}

// createCronJob makes the CronJob, whose schedule never comes, and whose pods find
// no node.
func (u *upgrade) createCronJob() {
	u.t.Helper()
	app := u.app(nightly, nightly)
	template := app.Template()
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	template.Spec.NodeSelector = map[string]string{"no": "node"}
	_, err := u.client.BatchV1().CronJobs(app.Namespace).Create(u.t.Context(), &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: app.Name, Annotations: app.Annotations},
		Spec:       batchv1.CronJobSpec{Schedule: "0 0 30 2 *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}},
	}, metav1.CreateOptions{})
	require.NoError(u.t, err)
	u.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
		assert.NoError(u.t, u.client.BatchV1().CronJobs(app.Namespace).DeleteCollection(ctx, background, metav1.ListOptions{}))
		assert.NoError(u.t, u.client.BatchV1().Jobs(app.Namespace).DeleteCollection(ctx, background, metav1.ListOptions{}))
	})
}

func (u *upgrade) jobs() int {
	u.t.Helper()
	jobs, err := u.client.BatchV1().Jobs(u.apps).List(u.t.Context(), metav1.ListOptions{})
	require.NoError(u.t, err)
	return len(jobs.Items)
}

// awaitJobs waits for the CronJob to have so many Jobs, and fails if it has more
// than most.
func (u *upgrade) awaitJobs(want, most int) {
	u.t.Helper()
	require.Eventually(u.t, func() bool { return u.jobs() >= want }, time.Minute, 50*time.Millisecond, "the CronJob's %d Jobs", want)
	require.LessOrEqual(u.t, u.jobs(), most, "Jobs of the CronJob")
}
