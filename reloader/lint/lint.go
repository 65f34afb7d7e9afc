package lint

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/review"
)

// Options of a run.
type Options struct {
	// Settings are the flags of the engine and the webhook.
	Settings policy.Settings
	// Mode is the admission mode, which decides what counts as denied. With
	// policy.ModeOff only what cannot be read is reported.
	Mode policy.Mode
	// Kinds of workload that are judged.
	Kinds kind.Set
}

// Run lints files, directories and, for the path "-", stdin. What cannot be read
// does not keep the rest from being linted.
func Run(o Options, paths []string, stdin io.Reader) *Report {
	l := linter{Options: o, Report: Report{Findings: []Finding{}, Failures: []Failure{}}}
	l.paths(paths, stdin)
	return &l.Report
}

// linter fills a report.
type linter struct {
	Options
	Report
}

// header is what lint needs of any object.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
		Namespace    string `json:"namespace"`
	} `json:"metadata"`
}

// object judges the JSON of one object, or of a list of them.
func (l *linter) object(at Position, raw []byte) {
	// A JSON patch of kustomize, or something else that is no manifest.
	if bytes.HasPrefix(raw, []byte("[")) {
		return
	}
	var h header
	if err := json.Unmarshal(raw, &h); err != nil {
		l.fail(at, errors.New("not a Kubernetes object"))
		return
	}
	if itemKind, ok := strings.CutSuffix(h.Kind, "List"); ok {
		l.list(at, h.APIVersion, itemKind, raw)
		return
	}
	group, _, grouped := strings.Cut(h.APIVersion, "/")
	if !grouped {
		group = ""
	}
	problems, err := review.Object(l.Kinds, group, h.Kind, raw, l.Settings)
	switch {
	case errors.Is(err, review.ErrKind):
		return
	case err != nil:
		l.fail(at, fmt.Errorf("%s %s: %w", h.Kind, fullName(h.Metadata.Namespace, h.Metadata.Name), err))
		return
	case l.Mode == policy.ModeOff:
		return
	}
	for _, p := range problems {
		l.Findings = append(l.Findings, Finding{
			Position:  at,
			Kind:      h.Kind,
			Namespace: h.Metadata.Namespace,
			Name:      cmp.Or(h.Metadata.Name, h.Metadata.GenerateName),
			Denied:    l.Mode.Denies(p.Severity),
			Severity:  p.Severity.String(),
			Reason:    p.Reason,
			Field:     p.Field,
			Key:       p.Key,
			Message:   p.Message,
		})
	}
}

// list judges the items of a list. Those of a typed list may leave out what
// the list says already.
func (l *linter) list(at Position, apiVersion, kind string, raw []byte) {
	var list struct {
		Items []map[string]json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		l.fail(at, errors.New("not a list of Kubernetes objects"))
		return
	}
	for _, item := range list.Items {
		if item == nil {
			continue
		}
		for field, value := range map[string]string{"apiVersion": apiVersion, "kind": kind} {
			if _, ok := item[field]; !ok && kind != "" {
				item[field], _ = json.Marshal(value) // a string always has a JSON form
			}
		}
		itemRaw, err := json.Marshal(item)
		if err != nil {
			l.fail(at, fmt.Errorf("item of the list: %w", err))
			continue
		}
		l.object(at, itemRaw)
	}
}
