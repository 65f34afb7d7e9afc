package report

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/alert"
)

// Alerter takes messages for people. It must not block.
type Alerter interface {
	Send(alert.Alert)
}

// alerts tell people what came of reloads. Of failures in a row each workload
// tells the first only: trying again goes on without an end. It is safe for
// concurrent use.
type alerts struct {
	to Alerter // nil tells nobody

	mu sync.Mutex // guards everything below
	// failing are the workloads whose failure was told.
	failing map[reloader.Workload]struct{}
}

// maxFailing bounds what is remembered of workloads that may be gone.
const maxFailing = 1024

func (a *alerts) reloaded(r Reload) {
	if a.to == nil {
		return
	}
	a.mu.Lock()
	delete(a.failing, r.Workload)
	a.mu.Unlock()
	done := "Hence reloaded %s"
	if r.Posted {
		done = "Hence called the webhook for %s"
	}
	for _, s := range r.Sources {
		a.to.Send(alert.Alert{Text: changesIn(s) + fmt.Sprintf(done, bold(r.Workload))})
	}
}

func (a *alerts) failed(r Reload, err error) {
	if a.to == nil || !a.first(r.Workload) {
		return
	}
	for _, s := range r.Sources {
		a.to.Send(alert.Alert{Failure: true, Text: clip(changesIn(s) +
			fmt.Sprintf("Could not reload %s, trying again: %v", bold(r.Workload), err))})
	}
}

// first reports whether the workload did not fail before.
func (a *alerts) first(w reloader.Workload) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, told := a.failing[w]; told {
		return false
	}
	if a.failing == nil || len(a.failing) >= maxFailing {
		a.failing = map[reloader.Workload]struct{}{}
	}
	a.failing[w] = struct{}{}
	return true
}

func (a *alerts) held(r Reload, wait time.Duration) {
	if a.to == nil {
		return
	}
	for _, s := range r.Sources {
		a.to.Send(alert.Alert{Failure: true, Text: changesIn(s) +
			fmt.Sprintf("Held back %s for %s, because it has been reloaded too often", bold(r.Workload), wait)})
	}
}

func (a *alerts) takenBack(r Reload, by string) {
	if a.to == nil {
		return
	}
	for _, s := range r.Sources {
		a.to.Send(alert.Alert{Failure: true, Text: changesIn(s) +
			fmt.Sprintf("Held back %s for an hour, because the field manager *%s* keeps taking its reloads back", bold(r.Workload), by)})
	}
}

func changesIn(s reloader.Source) string {
	return fmt.Sprintf("Reloader detected changes in *%s* of type *%s* in namespace *%s*. ",
		s.Name, strings.ToUpper(string(s.Kind)), s.Namespace)
}

func bold(w reloader.Workload) string {
	return fmt.Sprintf("*%s* of type *%s* in namespace *%s*", w.Name, w.Kind, w.Namespace)
}
