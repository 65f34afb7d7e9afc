package guarantee

import (
	"fmt"
	"testing"
	"time"

	"k8s-reloader/e2e/fixture"
)

func TestThereAndBack(t *testing.T) {
	const count = 20
	// Two writes are within the window even on a busy machine.
	const window = 4 * time.Second
	w := newWorld(t, "there-and-back")
	w.set("settings", "A")
	var apps []fixture.App
	for i := range count {
		apps = append(apps, w.app(fmt.Sprintf("app-%02d", i), "settings"))
	}
	w.create(apps...)
	e := w.engine("a", append(unlimited(), "--coalesce-window="+window.String())...)
	e.up()
	for round := range w.windowRounds {
		since := w.now()
		w.set("settings", "B")
		w.wait(w.upTo(500 * time.Millisecond))
		w.set("settings", "A")
		w.quiet(window + 2*time.Second)
		w.requireReloads(0, since, workloadsOf(apps)...)

		w.set("settings", "B")
		w.awaitReloaded(count, since)
		w.wait(w.upTo(200 * time.Millisecond))
		w.set("settings", "A")
		w.quiet(window + 2*time.Second)
		w.requireReloads(2, since, workloadsOf(apps)...)
		t.Logf("round %d is right", round)
	}
	w.requireRight(time.Minute)
	e.terminate()
}
