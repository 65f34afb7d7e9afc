package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func runLint(t *testing.T, stdin string, args ...string) (out, errOut string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := newLintCommand()
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

func TestLint(t *testing.T) {
	t.Parallel()
	out, errOut, err := runLint(t, "", "--output=json", "../../reloader/lint/testdata/dir/first.yml", "../../reloader/lint/testdata/missing.yaml")
	require.ErrorIs(t, err, errRejected)
	assert.Empty(t, errOut)
	assert.Equal(t, `{
  "findings": [
    {
      "file": "../../reloader/lint/testdata/dir/first.yml",
      "document": 1,
      "line": 1,
      "kind": "ConfigMap",
      "name": "first",
      "denied": false,
      "severity": "doubtful",
      "reason": "ValueNotBoolean",
      "field": "metadata.annotations",
      "key": "reloader.stakater.com/ignore",
      "message": "reloader.stakater.com/ignore \"yes\" does nothing: write \"true\""
    }
  ],
  "failures": [
    {
      "file": "../../reloader/lint/testdata/missing.yaml",
      "error": "stat: no such file or directory"
    }
  ]
}
`, out)

	out, _, err = runLint(t, "", "--output=json", "../../reloader/lint/testdata/good.yaml")
	require.NoError(t, err)
	assert.JSONEq(t, `{"findings": [], "failures": []}`, out)

	out, _, err = runLint(t, "", "--admission=warn", "../../reloader/lint/testdata/bad.yaml")
	require.NoError(t, err, "nothing is denied")
	assert.Contains(t, out, "bad.yaml:1: document 1: Deployment shop/web: warning: ")
}

func TestLintRefusesWrongFlags(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want string
	}{
		"no file":           {[]string{}, "requires at least 1 arg(s), only received 0"},
		"an unknown mode":   {[]string{"--admission=loud", "-"}, `--admission: "loud" is no admission mode: write one of off, warn, default, strict`},
		"an unknown output": {[]string{"--output=xml", "-"}, "--output=xml: use text or json"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _, err := runLint(t, "", tc.args...)
			require.EqualError(t, err, tc.want)
			assert.Empty(t, out)
		})
	}
}
