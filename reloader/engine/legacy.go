package engine

import (
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/pattern"
)

// legacyMarks are what Reloader 1 has left in a pod template: the SHA-1 of the
// content that a source had, by the name of the source's variable. A workload
// whose mark is that of the present content has been reloaded for it, whatever
// the ledger says: by a Reloader 1 that still ran when this engine started, or
// had taken over in between.
//
// They are known of workloads whose template was read, and forgotten with the
// first reload of ours.
type legacyMarks map[string]string

// Templates are a tenant's, and what is taken of them stays in memory: so many marks
// count, of names that Reloader 1 can have made.
const (
	maxLegacyMarks  = 200
	maxLegacyName   = len("STAKATER_") + validation.DNS1123SubdomainMaxLength + len("_SECRETPROVIDERCLASS")
	maxReloadedFrom = 256 << 10
)

func legacyMarksOf(template *corev1.PodTemplateSpec, k annotation.Keys) (marks legacyMarks) {
	if template == nil {
		return nil
	}
	for _, containers := range [][]corev1.Container{template.Spec.Containers, template.Spec.InitContainers} {
		for _, c := range containers {
			for _, v := range c.Env {
				if len(marks) < maxLegacyMarks && len(v.Name) <= maxLegacyName && strings.HasPrefix(v.Name, "STAKATER_") && fingerprint.IsLegacy(v.Value) {
					put((*map[string]string)(&marks), v.Name, v.Value)
				}
			}
		}
	}
	var from struct{ Type, Name, Hash string }
	text := template.Annotations[k.LastReloadedFrom]
	if len(text) > maxReloadedFrom || json.Unmarshal([]byte(text), &from) != nil || !fingerprint.IsLegacy(from.Hash) || !pattern.ValidName(from.Name) {
		return marks
	}
	for _, kind := range reloader.SourceKinds() {
		if strings.EqualFold(from.Type, string(kind)) {
			put((*map[string]string)(&marks), reloader.EnvName(kind, from.Name), from.Hash)
		}
	}
	return marks
}

// legacyMark returns the mark of Reloader 1 that w has for s; empty if none.
func (in *intake) legacyMark(w reloader.Workload, s reloader.Source) string {
	in.mu.Lock()
	defer in.mu.Unlock()
	if t := in.workloads[w]; t != nil && len(t.legacy) > 0 {
		return t.legacy[reloader.EnvName(s.Kind, s.Name)]
	}
	return ""
}

// moved notes who has the content of a source by the marks of Reloader 1, and
// returns those of the overdue workloads that do not.
func (e *Engine) moved(s reloader.Source, read digest, overdue []reloader.Workload) (left []reloader.Workload) {
	has := map[reloader.Workload]bool{}
	for _, w := range e.ledger.waitingFor(s) {
		theirs := e.intake.legacyMark(w, s)
		if theirs != "" && theirs == read.legacy {
			has[w] = true
			e.ledger.paid(w, []debt{{s, read.content.fingerprint}})
			e.log.Info("has been reloaded by Reloader 1", "workload", w.String(), "source", s.String())
		}
	}
	for _, w := range overdue {
		if !has[w] {
			left = append(left, w)
		}
	}
	return left
}

func legacyMarkOf(object readable) string {
	switch o := object.(type) {
	case *corev1.ConfigMap:
		return fingerprint.LegacyConfigMap(o.Data, o.BinaryData)
	case *corev1.Secret:
		return fingerprint.LegacySecret(o.Data)
	}
	return ""
}

// lookForMarks has the sources looked at again that w waits for, if it has marks
// of Reloader 1: they may have come meanwhile.
func (e *Engine) lookForMarks(w reloader.Workload) {
	for _, d := range e.ledger.due(w) {
		if e.intake.legacyMark(w, d.source) != "" {
			e.ledger.putBack(d.source)
			e.queues.sources.Add(d.source)
		}
	}
}

// waitingFor returns the workloads that wait for the present content of s.
func (l *ledger) waitingFor(s reloader.Source) (waiting []reloader.Workload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sources[s]; a != nil {
		for w := range a.waiting {
			waiting = append(waiting, w)
		}
	}
	return waiting
}
