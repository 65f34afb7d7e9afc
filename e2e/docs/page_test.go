package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// step is a block of commands of a page, and what they have to print.
type step struct {
	line     int
	commands string
	output   []string
}

// page reads the steps of a Markdown file. Fences of other languages than sh and
// text are left alone.
func page(t *testing.T, root, name string) []step {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	steps, problem := steps(string(text))
	require.Empty(t, problem, name)
	return steps
}

func steps(text string) (found []step, problem string) {
	var language string
	var block []string
	start, inside := 0, false
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && !inside:
			language, block, start, inside = fence, nil, i+1, true
		case isFence:
			inside = false
			switch language {
			case "sh":
				found = append(found, step{line: start, commands: strings.Join(block, "\n")})
			case "text":
				if len(found) == 0 || found[len(found)-1].output != nil {
					return nil, "a block of text without commands before it"
				}
				found[len(found)-1].output = block
			}
		case inside:
			block = append(block, line)
		}
	}
	if inside {
		return nil, "a block that does not end"
	}
	return found, ""
}

func TestSteps(t *testing.T) {
	tests := map[string]struct {
		page        string
		want        []step
		wantProblem string
	}{
		"commands and their output": {
			page: "a\n```sh\none\ntwo\n```\n\n```text\nthree\n```\n```sh\nfour\n```\n",
			want: []step{{line: 2, commands: "one\ntwo", output: []string{"three"}}, {line: 10, commands: "four"}},
		},
		"other languages are left alone": {page: "```yaml\na: b\n```\n"},
		"output of nothing":              {page: "```text\na\n```\n", wantProblem: "a block of text without commands before it"},
		"no end":                         {page: "```sh\na\n", wantProblem: "a block that does not end"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, problem := steps(tc.page)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.wantProblem, problem)
		})
	}
}
