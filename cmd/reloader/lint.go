package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/webhook/review"
)

// errRejected means that lint found what admission would deny, or something
// it could not read. All there is to say has been printed.
var errRejected = errors.New("manifests rejected")

// lintFlags are what the lint command line says.
type lintFlags struct {
	settings  settingsFlags
	admission string
	output    string
}

func newLintCommand() *cobra.Command {
	f := new(lintFlags)
	cmd := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Check manifests as the webhook would",
		Long: `Lint reads manifests and tells about Reloader's annotations what the webhook
would tell at admission. It needs no cluster. FILE is a file with one or more
YAML documents, or JSON; a directory, in which every .yaml, .yml and .json file
is read; or - for standard input. Objects that are neither workloads nor sources
are skipped.

The exit status is 1 if the webhook would deny something, or if something
cannot be read.`,
		Example: `  helm template . | reloader lint -
  reloader lint --admission=strict deploy/`,
		Args:          cobra.MinimumNArgs(1),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          f.run,
	}
	flags := cmd.Flags()
	f.settings.bind(flags)
	flags.StringVar(&f.admission, "admission", string(policy.ModeDefault),
		"what becomes of problems: off, warn, default (reject what cannot work) or strict (reject what is doubtful, too)")
	flags.StringVarP(&f.output, "output", "o", "text", "text or json")
	return cmd
}

func (f *lintFlags) run(cmd *cobra.Command, paths []string) error {
	settings, err := f.settings.parse()
	if err != nil {
		return err
	}
	mode, err := policy.ParseMode(f.admission)
	if err != nil {
		return fmt.Errorf("--admission: %w", err)
	}
	if f.output != "text" && f.output != "json" {
		return fmt.Errorf("--output=%s: use text or json", f.output)
	}
	l := lint{settings: settings, mode: mode}
	l.paths(paths, cmd.InOrStdin())
	if f.output == "json" {
		err = l.printJSON(cmd.OutOrStdout())
	} else {
		err = l.printText(cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	if err != nil {
		return fmt.Errorf("print findings: %w", err)
	}
	if l.rejected() {
		return errRejected
	}
	return nil
}

// position is where something stands.
type position struct {
	File string `json:"file"`
	// Document counts from 1, and so does Line, that of its first line. Both
	// are 0 for what is about a whole file.
	Document int `json:"document,omitempty"`
	Line     int `json:"line,omitempty"`
}

// String returns the position in the form that editors understand.
func (p position) String() string {
	if p.Document == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d: document %d", p.File, p.Line, p.Document)
}

// finding is one problem of one object.
type finding struct {
	position
	Kind      string          `json:"kind"`
	Namespace string          `json:"namespace,omitempty"`
	Name      string          `json:"name"`
	Denied    bool            `json:"denied"`
	Severity  string          `json:"severity"`
	Reason    reloader.Reason `json:"reason"`
	Field     string          `json:"field"`
	Key       string          `json:"key,omitempty"`
	Message   string          `json:"message"`
}

// failure is something that cannot be read.
type failure struct {
	position
	Error string `json:"error"`
}

// lint collects what is found in manifests.
type lint struct {
	settings policy.Settings
	mode     policy.Mode

	Findings []finding `json:"findings"`
	Failures []failure `json:"failures"`
}

func (l *lint) rejected() bool {
	for _, f := range l.Findings {
		if f.Denied {
			return true
		}
	}
	return len(l.Failures) > 0
}

func (l *lint) fail(at position, err error) {
	l.Failures = append(l.Failures, failure{position: at, Error: err.Error()})
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
func (l *lint) object(at position, raw []byte) {
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
	problems, err := review.Object(group, h.Kind, raw, l.settings)
	switch {
	case errors.Is(err, review.ErrKind):
		return
	case err != nil:
		l.fail(at, fmt.Errorf("%s %s: %w", h.Kind, fullName(h.Metadata.Namespace, h.Metadata.Name), err))
		return
	case l.mode == policy.ModeOff:
		return
	}
	for _, p := range problems {
		l.Findings = append(l.Findings, finding{
			position:  at,
			Kind:      h.Kind,
			Namespace: h.Metadata.Namespace,
			Name:      cmp.Or(h.Metadata.Name, h.Metadata.GenerateName),
			Denied:    l.mode.Denies(p.Severity),
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
func (l *lint) list(at position, apiVersion, kind string, raw []byte) {
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

// printText prints findings for people, one a line, and failures aside.
func (l *lint) printText(out, errOut io.Writer) error {
	for _, f := range l.Findings {
		answer := "warning"
		if f.Denied {
			answer = "denied"
		}
		where := f.Field
		if f.Key != "" {
			where += fmt.Sprintf("[%s]", shown(f.Key))
		}
		if _, err := fmt.Fprintf(out, "%s: %s %s: %s: %s (%s %s)\n", f.position, shown(f.Kind),
			shown(fullName(f.Namespace, f.Name)), answer, f.Message, f.Reason, where); err != nil {
			return err
		}
	}
	for _, f := range l.Failures {
		if _, err := fmt.Fprintf(errOut, "%s: error: %s\n", f.position, f.Error); err != nil {
			return err
		}
	}
	return nil
}

// printJSON prints everything as one JSON object.
func (l *lint) printJSON(out io.Writer) error {
	// Empty lists, not null: scripts count them.
	l.Findings = append([]finding{}, l.Findings...)
	l.Failures = append([]failure{}, l.Failures...)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(l)
}

func fullName(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// shown keeps what a manifest says from playing tricks with a terminal,
// and from filling it.
func shown(s string) string {
	const longest = 317 // of a key: prefix, slash and name
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	if quoted := strconv.Quote(s); quoted != `"`+s+`"` {
		return quoted
	}
	return s
}
