package lint

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"k8s-reloader/reloader"
)

// Position is the place of a document, or of a whole file.
type Position struct {
	File string `json:"file"`
	// Document counts from 1, and so does Line, that of its first line. Both
	// are 0 for a whole file.
	Document int `json:"document,omitempty"`
	Line     int `json:"line,omitempty"`
}

// String returns the position in the form that editors understand.
func (p Position) String() string {
	if p.Document == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d: document %d", p.File, p.Line, p.Document)
}

// Finding is one problem of one object.
type Finding struct {
	Position
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

// Failure is a file or an object that cannot be read.
type Failure struct {
	Position
	Error string `json:"error"`
}

// Report is the result of linting. Its lists are never nil: scripts count the
// elements.
type Report struct {
	Findings []Finding `json:"findings"`
	Failures []Failure `json:"failures"`
}

// Rejected reports whether admission would deny an object, or something could
// not be read.
func (r *Report) Rejected() bool {
	return len(r.Failures) > 0 || slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Denied })
}

func (r *Report) fail(at Position, err error) {
	r.Failures = append(r.Failures, Failure{Position: at, Error: err.Error()})
}

// WriteText writes findings to out, one a line, and failures to errOut.
func (r *Report) WriteText(out, errOut io.Writer) error {
	for _, f := range r.Findings {
		answer := "warning"
		if f.Denied {
			answer = "denied"
		}
		where := f.Field
		if f.Key != "" {
			where += fmt.Sprintf("[%s]", shown(f.Key))
		}
		if _, err := fmt.Fprintf(out, "%s: %s %s: %s: %s (%s %s)\n", f.Position, shown(f.Kind),
			shown(fullName(f.Namespace, f.Name)), answer, f.Message, f.Reason, where); err != nil {
			return err
		}
	}
	for _, f := range r.Failures {
		if _, err := fmt.Fprintf(errOut, "%s: error: %s\n", f.Position, f.Error); err != nil {
			return err
		}
	}
	return nil
}

// WriteJSON writes everything as one JSON object.
func (r *Report) WriteJSON(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

func fullName(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// shown quotes text of a manifest that contains control characters, and truncates
// it to the length of the longest valid key, so that it cannot disturb a terminal.
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
