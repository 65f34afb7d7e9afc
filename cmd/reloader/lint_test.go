package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/fixture"
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
	const (
		bad1 = `testdata/lint/bad.yaml:1: document 1: Deployment shop/web: `
		bad2 = `testdata/lint/bad.yaml:15: document 2: StatefulSet db-: `
		bad3 = `testdata/lint/bad.yaml:24: document 3: Secret password: `

		entry  = `configmap.reloader.stakater.com/reload: "app-[" is no regular expression and is skipped: correct it (EntryInvalid metadata.annotations[configmap.reloader.stakater.com/reload])` + "\n"
		pause  = `deployment.reloader.stakater.com/pause-period "5 minutes" is not a duration above zero: write one such as "5m" (PausePeriodInvalid metadata.annotations[deployment.reloader.stakater.com/pause-period])` + "\n"
		auto   = `reloader.stakater.com/auto "yes" counts as false, for --auto-reload-all too: write "true" or "false" (ValueNotBoolean metadata.annotations[reloader.stakater.com/auto])` + "\n"
		typo   = `secrets.reloader.stakater.com/reload is unknown: did you mean secret.reloader.stakater.com/reload? (KeyUnknown metadata.annotations[secrets.reloader.stakater.com/reload])` + "\n"
		label  = `reloader.stakater.com/auto does nothing as a label: write it as an annotation (KeyAsLabel metadata.labels[reloader.stakater.com/auto])` + "\n"
		search = `reloader.stakater.com/search does nothing on a Secret: write reloader.stakater.com/match "true" (KeyMisplaced metadata.annotations[reloader.stakater.com/search])` + "\n"
		ignore = `reloader.stakater.com/ignore "yes" does nothing: write "true" (ValueNotBoolean metadata.annotations[reloader.stakater.com/ignore])` + "\n"
		csi    = `reloader.stakater.com/match does nothing without --enable-csi-integration (CSIOff metadata.annotations[reloader.stakater.com/match])` + "\n"
	)
	tests := map[string]struct {
		args         []string
		stdin        string
		wantOut      string
		wantErrOut   string
		wantRejected bool
	}{
		"a file without problems": {args: []string{"testdata/lint/good.yaml"}},
		"a file with problems": {
			args: []string{"testdata/lint/bad.yaml"},
			wantOut: bad1 + "denied: " + entry + bad1 + "denied: " + pause + bad1 + "warning: " + auto +
				bad2 + "warning: " + typo + bad2 + "warning: " + label + bad3 + "warning: " + search,
			wantRejected: true,
		},
		"the same when nothing is denied": {
			args: []string{"--admission=warn", "testdata/lint/bad.yaml"},
			wantOut: bad1 + "warning: " + entry + bad1 + "warning: " + pause + bad1 + "warning: " + auto +
				bad2 + "warning: " + typo + bad2 + "warning: " + label + bad3 + "warning: " + search,
		},
		"the same when strict": {
			args: []string{"--admission", "strict", "testdata/lint/bad.yaml"},
			wantOut: bad1 + "denied: " + entry + bad1 + "denied: " + pause + bad1 + "denied: " + auto +
				bad2 + "denied: " + typo + bad2 + "denied: " + label + bad3 + "denied: " + search,
			wantRejected: true,
		},
		"the same when admission is off": {args: []string{"--admission=off", "testdata/lint/bad.yaml"}},
		"lists": {
			args: []string{"testdata/lint/lists.yaml"},
			wantOut: `testdata/lint/lists.yaml:1: document 1: DaemonSet agent: warning: reloader.stakater.com/rollout-strategy does nothing on a DaemonSet, only on an Argo Rollout: remove it (StrategyWrongKind metadata.annotations[reloader.stakater.com/rollout-strategy])
testdata/lint/lists.yaml:16: document 2: ConfigMap settings: warning: reloader.stakater.com/match "True" does nothing: write "true" (ValueNotBoolean metadata.annotations[reloader.stakater.com/match])
`,
		},
		"broken documents do not hide the others": {
			args:    []string{"testdata/lint/invalid.yaml"},
			wantOut: "testdata/lint/invalid.yaml:19: document 5: ConfigMap after: warning: " + ignore,
			wantErrOut: `testdata/lint/invalid.yaml:6: document 2: error: broken YAML: line 9: did not find expected ',' or ']'
testdata/lint/invalid.yaml:11: document 3: error: Deployment shape: decode Deployment: field "metadata.annotations" does not hold a map[string]string
testdata/lint/invalid.yaml:17: document 4: error: not a Kubernetes object
`,
			wantRejected: true,
		},
		"a directory": {
			args: []string{"testdata/lint/dir"},
			wantOut: "testdata/lint/dir/first.yml:1: document 1: ConfigMap first: warning: " + ignore +
				"testdata/lint/dir/nested/second.json:1: document 1: SecretProviderClass vault: warning: " + csi,
		},
		"a file that does not exist beside one that does": {
			args:         []string{"testdata/lint/missing.yaml", "testdata/lint/dir/first.yml"},
			wantOut:      "testdata/lint/dir/first.yml:1: document 1: ConfigMap first: warning: " + ignore,
			wantErrOut:   "testdata/lint/missing.yaml: error: stat: no such file or directory\n",
			wantRejected: true,
		},
		"standard input, with a byte order mark and Windows line ends": {
			args: []string{"-"},
			stdin: "\ufeff---\r\nkind: ConfigMap\r\napiVersion: v1\r\nmetadata:\r\n  name: piped\r\n" +
				"  annotations:\r\n    reloader.stakater.com/ignore: 'yes'\r\n---\r\n# nothing\r\n",
			wantOut: "<stdin>:2: document 1: ConfigMap piped: warning: " + ignore,
		},
		"names that would play with the terminal": {
			args:    []string{"-"},
			stdin:   `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"\u001b[2J","annotations":{"reloader.stakater.com/\u001b":""}}}`,
			wantOut: `<stdin>:1: document 1: ConfigMap "\x1b[2J": warning: reloader.stakater.com/\x1b is unknown and does nothing: correct or remove it (KeyUnknown metadata.annotations["reloader.stakater.com/\x1b"])` + "\n",
		},
		"auto-reload-all makes a pause-period count": {
			args:  []string{"--auto-reload-all", "-"},
			stdin: `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","annotations":{"deployment.reloader.stakater.com/pause-period":"5m"}}}`,
		},
		"nothing at all": {args: []string{"-"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, errOut, err := runLint(t, tc.stdin, tc.args...)
			assert.Equal(t, tc.wantOut, out)
			assert.Equal(t, tc.wantErrOut, errOut)
			if tc.wantRejected {
				require.ErrorIs(t, err, errRejected)
			} else {
				require.NoError(t, err)
			}
			assert.NotContains(t, out+errOut, "hunter2")
		})
	}
}

// TestLintSaysWhatAdmissionSays: the scenarios hold the same cases against the
// API server.
func TestLintSaysWhatAdmissionSays(t *testing.T) {
	t.Parallel()
	cases, err := fixture.AdmissionCases()
	require.NoError(t, err)
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			t.Parallel()
			manifest, err := tc.Manifest("example")
			require.NoError(t, err)
			out, errOut, err := runLint(t, manifest, "--output=json", "-")
			assert.Equal(t, len(tc.Denied) > 0, errors.Is(err, errRejected))
			assert.Empty(t, errOut)
			var got struct {
				Findings []finding
			}
			require.NoError(t, json.Unmarshal([]byte(out), &got))
			var denied, warnings []string
			for _, f := range got.Findings {
				if f.Denied {
					denied = append(denied, f.Message)
				} else {
					warnings = append(warnings, f.Message)
				}
			}
			assert.Equal(t, tc.Denied, denied)
			assert.Equal(t, tc.Warnings, warnings)
		})
	}
}

func TestLintAsJSON(t *testing.T) {
	t.Parallel()
	out, errOut, err := runLint(t, "", "--output=json", "testdata/lint/dir/first.yml", "testdata/lint/missing.yaml")
	require.ErrorIs(t, err, errRejected)
	assert.Empty(t, errOut)
	assert.Equal(t, `{
  "findings": [
    {
      "file": "testdata/lint/dir/first.yml",
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
      "file": "testdata/lint/missing.yaml",
      "error": "stat: no such file or directory"
    }
  ]
}
`, out)

	out, _, err = runLint(t, "", "--output=json", "testdata/lint/good.yaml")
	require.NoError(t, err)
	assert.JSONEq(t, `{"findings": [], "failures": []}`, out)
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
