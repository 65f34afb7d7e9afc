package report

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/alert"
	"k8s-reloader/reloader/printable"
)

// Alerter takes messages for people. It must not block.
type Alerter interface {
	Send(alert.Alert)
}

// alerts send people one message per reload. Of failures in a row only the first
// of each workload is sent: retries have no end. They are safe for concurrent use.
type alerts struct {
	to Alerter // nil sends nothing

	mu sync.Mutex // guards everything below
	// failing are the workloads whose failure was sent, by namespace.
	failing map[string]map[reloader.Workload]struct{}
	// failures counts them.
	failures int
}

const (
	// maxFailing bounds the memory for workloads that may have been deleted.
	maxFailing = 1024
	// maxNamed is how many sources a message names.
	maxNamed = 5
	// maxCause is the length in bytes of an error in a message.
	maxCause = 512
)

func (a *alerts) reloaded(r Reload) {
	if a.to == nil {
		return
	}
	a.recovered(r.Workload)
	done := "Hence reloaded "
	if r.Posted {
		done = "Hence called the webhook for "
	}
	a.send(r, false, named(changes(r).Plainly(done), r.Workload))
}

func (a *alerts) failed(r Reload, err error) {
	if a.to == nil || !a.first(r.Workload) {
		return
	}
	a.send(r, true, named(changes(r).Plainly("Could not reload "), r.Workload).
		Plainly(", trying again: "+printable.Clip(err.Error(), maxCause)))
}

func (a *alerts) held(r Reload, wait time.Duration) {
	if a.to == nil {
		return
	}
	a.send(r, true, named(changes(r).Plainly("Held back "), r.Workload).
		Plainly(fmt.Sprintf(" for %s, because it has been reloaded too often", wait)))
}

func (a *alerts) takenBack(r Reload, by string) {
	if a.to == nil {
		return
	}
	a.send(r, true, named(changes(r).Plainly("Held back "), r.Workload).
		Plainly(" for an hour, because the field manager ").Boldly(by).Plainly(" keeps taking its reloads back"))
}

func (a *alerts) send(r Reload, failure bool, text alert.Text) {
	a.to.Send(alert.Alert{Namespace: r.Workload.Namespace, Text: text, Failure: failure})
}

// recovered forgets that a workload has failed.
func (a *alerts) recovered(w reloader.Workload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, failed := a.failing[w.Namespace][w]; failed {
		a.forgetLocked(w)
	}
}

// first reports whether the workload did not fail before. If too many fail,
// another one is forgotten, of the namespace with most of them, and may be sent
// once more.
func (a *alerts) first(w reloader.Workload) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.failing[w.Namespace][w]; known {
		return false
	}
	if a.failing == nil {
		a.failing = map[string]map[reloader.Workload]struct{}{}
	}
	if a.failing[w.Namespace] == nil {
		a.failing[w.Namespace] = map[reloader.Workload]struct{}{}
	}
	a.failing[w.Namespace][w] = struct{}{}
	if a.failures++; a.failures <= maxFailing {
		return true
	}
	most, of := "", 0
	for namespace, failing := range a.failing {
		others := len(failing)
		if namespace == w.Namespace {
			others--
		}
		if others > of {
			most, of = namespace, others
		}
	}
	for one := range a.failing[most] {
		if one != w {
			a.forgetLocked(one)
			break
		}
	}
	return true
}

func (a *alerts) forgetLocked(w reloader.Workload) {
	a.failures--
	delete(a.failing[w.Namespace], w)
	if len(a.failing[w.Namespace]) == 0 {
		delete(a.failing, w.Namespace)
	}
}

// changes names the changed sources. For a single source it is the sentence of
// Reloader 1, which receivers may parse.
func changes(r Reload) alert.Text {
	t := alert.Text{}.Plainly("Reloader detected changes in ")
	for i, s := range r.Sources[:min(len(r.Sources), maxNamed)] {
		if i > 0 {
			t = t.Plainly(", ")
		}
		t = t.Boldly(s.Name).Plainly(" of type ").Boldly(strings.ToUpper(string(s.Kind))).
			Plainly(" in namespace ").Boldly(s.Namespace)
	}
	if more := len(r.Sources) + r.More - maxNamed; more > 0 {
		t = t.Plainly(fmt.Sprintf(" and %d more", more))
	}
	return t.Plainly(". ")
}

// named returns t with the workload behind it.
func named(t alert.Text, w reloader.Workload) alert.Text {
	return t.Boldly(w.Name).Plainly(" of type ").Boldly(string(w.Kind)).Plainly(" in namespace ").Boldly(w.Namespace)
}
