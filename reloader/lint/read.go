package lint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// standardInput is the file name in findings for the path "-".
const standardInput = "<stdin>"

func (l *linter) paths(paths []string, stdin io.Reader) {
	for _, path := range paths {
		if path == "-" {
			content, err := io.ReadAll(stdin)
			if err != nil {
				l.fail(Position{File: standardInput}, err)
			}
			l.content(standardInput, content)
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			l.fail(Position{File: path}, reason(err))
		case info.IsDir():
			l.directory(path)
		default:
			l.file(path)
		}
	}
}

// directory lints every manifest below a directory, in the order of names.
func (l *linter) directory(root string) {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			l.fail(Position{File: path}, reason(err))
			return nil
		}
		switch strings.ToLower(filepath.Ext(path)) {
		case ".yaml", ".yml", ".json":
			if !entry.IsDir() {
				l.file(path)
			}
		}
		return nil
	})
	if err != nil {
		l.fail(Position{File: root}, reason(err))
	}
}

func (l *linter) file(path string) {
	content, err := os.ReadFile(path) //nolint:gosec // the user names the files to read
	if err != nil {
		l.fail(Position{File: path}, reason(err))
		return
	}
	l.content(path, content)
}

// content lints the documents of one file.
func (l *linter) content(file string, content []byte) {
	for _, d := range documents(content) {
		at := Position{File: file, Document: d.number, Line: d.line}
		raw, err := yaml.YAMLToJSON(d.content)
		switch {
		case err != nil:
			l.fail(at, yamlError(d, err))
		case bytes.Equal(raw, []byte("null")): // nothing but comments
		default:
			l.object(at, raw)
		}
	}
}

// document is one YAML document of a file.
type document struct {
	number, line int
	content      []byte
}

// documents splits a file at the lines that YAML separates documents with. In
// JSON there are none. Documents without content do not count.
func documents(content []byte) []document {
	var (
		all     []document
		current = document{line: 1}
	)
	finish := func() {
		if len(bytes.TrimSpace(current.content)) > 0 {
			current.number = len(all) + 1
			all = append(all, current)
		}
	}
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(content, []byte("\ufeff"))) {
		number++
		rest, separates := bytes.CutPrefix(line, []byte("---"))
		if !separates || !blankStart(rest) {
			current.content = append(current.content, line...)
			continue
		}
		finish()
		current = document{line: number + 1}
		// What follows on the same line belongs to the new document.
		if text := bytes.TrimSpace(rest); len(text) > 0 && text[0] != '#' {
			current = document{line: number, content: bytes.Clone(rest)}
		}
	}
	finish()
	return all
}

func blankStart(rest []byte) bool {
	return len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r' || rest[0] == '\n'
}

// yamlError takes the layers of YAML libraries off an error, and makes its line
// that of the file.
func yamlError(d document, err error) error {
	padded := append(bytes.Repeat([]byte("\n"), d.line-1), d.content...)
	if _, inFile := yaml.YAMLToJSON(padded); inFile != nil {
		err = inFile
	}
	text := err.Error()
	for _, prefix := range []string{"error converting YAML to JSON: ", "yaml: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return fmt.Errorf("broken YAML: %s", strings.ReplaceAll(text, "\n", " "))
}

// reason takes the path off an error, since it is printed in front of it.
func reason(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", pathError.Op, pathError.Err)
	}
	return err
}
