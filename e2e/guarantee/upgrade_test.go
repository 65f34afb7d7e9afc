package guarantee

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/cluster/binaries"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
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

// The way from marks of version 1 to those of this version, and back: the
// checkpoint is the same, nothing is reloaded, and what changes while no engine
// runs is.
func TestTheUpgradeFromMarksOfVersion1(t *testing.T) {
	version1 := buildVersion1(t.Context(), t)
	for _, strategy := range []string{"env-vars", "annotations"} {
		t.Run(strategy, func(t *testing.T) {
			w := newWorld(t, "upgrade-"+strategy)
			var apps []fixture.App
			for i := range 6 {
				name := fmt.Sprintf("app-%d", i)
				w.set(name, "A")
				apps = append(apps, w.app(name, name))
			}
			w.create(apps...)
			before := w.engine("before", "--reload-strategy="+strategy)
			before.program = version1
			after := w.engine("after", "--reload-strategy="+strategy)

			before.up()
			since := w.now()
			for _, app := range apps {
				w.set(app.Name, "B")
			}
			w.awaitReloaded(len(apps), since)
			w.awaitCheckpoint()
			before.terminate()

			// hands lets another engine take over, after one source has changed.
			hands := func(next *engine, moved int, value string) {
				t.Helper()
				w.controllersHaveSeen()
				since := w.now()
				w.set(apps[moved].Name, value)
				next.up()
				w.awaitReloaded(1, since)
				w.quiet(3 * time.Second)
				for i, app := range apps {
					want := 0
					if i == moved {
						want = 1
					}
					w.requireReloadsIn(t, want, since, app.Workload())
				}
			}
			hands(after, 0, "C")
			since = w.now()
			w.set(apps[1].Name, "C") // marked by version 1 until now
			w.awaitReloaded(1, since)
			w.quiet(2 * time.Second)
			w.requireReloads(1, since, apps[1].Workload())
			after.terminate()

			hands(before, 2, "C")
			before.terminate()
			hands(after, 3, "C")
			// Content that a mark of version 1 still tells of is a change, too.
			since = w.now()
			w.set(apps[4].Name, "A")
			w.awaitReloaded(1, since)
			w.quiet(time.Second)
			w.requireReloads(1, since, apps[4].Workload())
			after.terminate()
		})
	}
}
