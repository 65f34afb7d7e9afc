package standalone

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
)

func TestIgnoredKindsOfWorkloadAreLeftAlone(t *testing.T) {
	rights := append(writing(),
		may("batch", "jobs", "get", "list", "watch", "create", "delete"),
		may("apps", "controllerrevisions", "get", "list", "watch", "create", "patch", "delete"),
		may("batch", "cronjobs", "get", "list", "watch", "patch"),
	)
	tests := map[string]struct {
		ns               string
		args             []string
		wantJob, wantRun bool // reloaded
	}{
		"Jobs and CronJobs":         {ns: "ignored-batch", args: []string{"--ignored-workload-types=jobs,cronjobs"}},
		"Jobs, and CronJobs go on":  {ns: "ignored-jobs", args: []string{"--ignored-workload-types=jobs"}, wantRun: true},
		"CronJobs, and Jobs go on":  {ns: "ignored-cronjobs", args: []string{"--ignored-workload-types=CronJobs"}, wantJob: true},
		"none, unless it is wanted": {ns: "ignored-none", wantJob: true, wantRun: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, tc.ns)
			app := newApp(t, ns, "settings")
			job, cronJob := migration(ns, nil), nightly(ns, nil)
			job.replicas = 0 // there are no pods whose end has to be waited for
			old, timetable := job.create(t), cronJob.create(t)
			p := startProgram(t, ns, rights, nil, append(tc.args, "--coalesce-window=0s", "--namespaces="+ns)...)
			counted := func(k reloader.WorkloadKind) bool {
				metrics, _ := p.get("/metrics")
				return exposes(metrics, `reloader_action_total{result="success",workload_kind="`+string(k)+`"} 1`)
			}

			edit(t, ns, "settings", "1")
			require.Eventually(t, func() bool {
				return deployment(t, app).Generation == 2 && (!tc.wantJob || counted(reloader.Job)) && (!tc.wantRun || counted(reloader.CronJob))
			}, 3*soon, often, "others are reloaded")
			never(t, func() bool {
				isReplaced := job.read(t).GetUID() != old.GetUID()
				hasRun := len(jobsOf(t, timetable)) > 0
				return isReplaced != tc.wantJob || hasRun != tc.wantRun
			})
			assert.Equal(t, tc.wantJob, counted(reloader.Job))
			assert.Equal(t, tc.wantRun, counted(reloader.CronJob))
		})
	}
}
