package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// value is a line of the README's table.
type value struct {
	path, about, preset string
}

// section is a key of values.yaml as its text has it.
type section struct {
	path  string
	about []string
	// commented says whether something below it has a comment of its own.
	commented bool
}

// readme returns the chart's README.
func readme(values []byte) ([]byte, error) {
	table, err := valueTable(values)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(`# The reloader chart

Installs the engine, which reloads workloads when the ConfigMaps and Secrets that
they use change, and the admission webhook, which tells about mistakes in their
annotations.

    helm install reloader charts/reloader --namespace reloader --create-namespace

[docs/install.md](../../docs/install.md) goes through it,
[docs/migrate.md](../../docs/migrate.md) comes from Stakater's chart, whose values
mean here what they mean there, [docs/security.md](../../docs/security.md) says what
may be done by whom, and [docs/webhook.md](../../docs/webhook.md) what happens when
the webhook does not answer. This file is made from values.yaml by ` + "`make manifests`" + `.

## Values

| value | default | |
|---|---|---|
`)
	escape := strings.NewReplacer("|", `\|`, "<", `\<`)
	for _, v := range table {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.path, v.preset, escape.Replace(v.about))
	}
	return []byte(b.String()), nil
}

// valueTable lists the values with their comments, in the order of the file. A
// map whose keys have no comments is one value.
func valueTable(text []byte) ([]value, error) {
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		return nil, fmt.Errorf("read the chart's values: %w", err)
	}
	var table []value
	var hidden string
	for _, s := range sections(string(text)) {
		if hidden != "" && strings.HasPrefix(s.path, hidden) {
			continue
		}
		preset := lookUp(values, strings.Split(s.path, "."))
		if below, isMap := preset.(map[string]any); isMap && len(below) > 0 {
			if s.commented {
				continue
			}
			hidden = s.path + "."
		}
		encoded, err := json.Marshal(preset)
		if err != nil {
			return nil, fmt.Errorf("encode the value %s: %w", s.path, err)
		}
		table = append(table, value{path: s.path, about: strings.Join(s.about, " "), preset: string(encoded)})
	}
	return table, nil
}

// sections reads the keys of a values file with the comments right above them.
// The file is one of block mappings, indented by two; lists in it are skipped.
func sections(text string) []*section {
	var found []*section
	var open []*section
	var about []string
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		// More than one blank begins an example.
		if comment, ok := strings.CutPrefix(trimmed, "# "); ok && !strings.HasPrefix(comment, " ") {
			about = append(about, comment)
			continue
		}
		key, _, ok := strings.Cut(trimmed, ":")
		if !ok || strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, "- ") {
			about = nil
			continue
		}
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		open = open[:min(depth, len(open))]
		path := key
		if depth > 0 {
			path = open[depth-1].path + "." + key
		}
		if len(about) > 0 {
			for _, above := range open {
				above.commented = true
			}
		}
		s := &section{path: path, about: about}
		open, about = append(open, s), nil
		found = append(found, s)
	}
	return found
}

func lookUp(values map[string]any, path []string) any {
	value := values[path[0]]
	if below, ok := value.(map[string]any); ok && len(path) > 1 {
		return lookUp(below, path[1:])
	}
	return value
}
