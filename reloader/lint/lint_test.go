package lint_test

import (
	"cmp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/lint"
	"k8s-reloader/reloader/policy"
)

func options() lint.Options {
	return lint.Options{Settings: policy.Settings{Keys: annotation.DefaultKeys()}, Mode: policy.ModeDefault, Kinds: kind.BuiltIn()}
}

func TestRun(t *testing.T) {
	t.Parallel()
	const (
		bad1 = `testdata/bad.yaml:1: document 1: Deployment shop/web: `
		bad2 = `testdata/bad.yaml:15: document 2: StatefulSet db-: `
		bad3 = `testdata/bad.yaml:24: document 3: Secret password: `

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
		paths        []string
		mode         policy.Mode // default policy.ModeDefault
		settings     func(*policy.Settings)
		stdin        string
		wantOut      string
		wantErrOut   string
		wantRejected bool
	}{
		"a file without problems": {paths: []string{"testdata/good.yaml"}},
		"a file with problems": {
			paths: []string{"testdata/bad.yaml"},
			wantOut: bad1 + "denied: " + entry + bad1 + "denied: " + pause + bad1 + "warning: " + auto +
				bad2 + "warning: " + typo + bad2 + "warning: " + label + bad3 + "warning: " + search,
			wantRejected: true,
		},
		"the same when nothing is denied": {
			paths: []string{"testdata/bad.yaml"}, mode: policy.ModeWarn,
			wantOut: bad1 + "warning: " + entry + bad1 + "warning: " + pause + bad1 + "warning: " + auto +
				bad2 + "warning: " + typo + bad2 + "warning: " + label + bad3 + "warning: " + search,
		},
		"the same when strict": {
			paths: []string{"testdata/bad.yaml"}, mode: policy.ModeStrict,
			wantOut: bad1 + "denied: " + entry + bad1 + "denied: " + pause + bad1 + "denied: " + auto +
				bad2 + "denied: " + typo + bad2 + "denied: " + label + bad3 + "denied: " + search,
			wantRejected: true,
		},
		"the same when admission is off": {paths: []string{"testdata/bad.yaml"}, mode: policy.ModeOff},
		"lists": {
			paths: []string{"testdata/lists.yaml"},
			wantOut: `testdata/lists.yaml:1: document 1: DaemonSet agent: warning: reloader.stakater.com/rollout-strategy does nothing on a DaemonSet, only on an Argo Rollout: remove it (StrategyWrongKind metadata.annotations[reloader.stakater.com/rollout-strategy])
testdata/lists.yaml:16: document 2: ConfigMap settings: warning: reloader.stakater.com/match "True" does nothing: write "true" (ValueNotBoolean metadata.annotations[reloader.stakater.com/match])
`,
		},
		"broken documents do not hide the others": {
			paths:   []string{"testdata/invalid.yaml"},
			wantOut: "testdata/invalid.yaml:19: document 5: ConfigMap after: warning: " + ignore,
			wantErrOut: `testdata/invalid.yaml:6: document 2: error: broken YAML: line 9: did not find expected ',' or ']'
testdata/invalid.yaml:11: document 3: error: Deployment shape: decode Deployment: field "metadata.annotations" does not hold a map[string]string
testdata/invalid.yaml:17: document 4: error: not a Kubernetes object
`,
			wantRejected: true,
		},
		"a directory": {
			paths: []string{"testdata/dir"},
			wantOut: "testdata/dir/first.yml:1: document 1: ConfigMap first: warning: " + ignore +
				"testdata/dir/nested/second.json:1: document 1: SecretProviderClass vault: warning: " + csi,
		},
		"a file that does not exist beside one that does": {
			paths:        []string{"testdata/missing.yaml", "testdata/dir/first.yml"},
			wantOut:      "testdata/dir/first.yml:1: document 1: ConfigMap first: warning: " + ignore,
			wantErrOut:   "testdata/missing.yaml: error: stat: no such file or directory\n",
			wantRejected: true,
		},
		"standard input, with a byte order mark and Windows line ends": {
			paths: []string{"-"},
			stdin: "\ufeff---\r\nkind: ConfigMap\r\napiVersion: v1\r\nmetadata:\r\n  name: piped\r\n" +
				"  annotations:\r\n    reloader.stakater.com/ignore: 'yes'\r\n---\r\n# nothing\r\n",
			wantOut: "<stdin>:2: document 1: ConfigMap piped: warning: " + ignore,
		},
		"names that would play with the terminal": {
			paths:   []string{"-"},
			stdin:   `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"\u001b[2J","annotations":{"reloader.stakater.com/\u001b":""}}}`,
			wantOut: `<stdin>:1: document 1: ConfigMap "\x1b[2J": warning: reloader.stakater.com/\x1b is unknown and does nothing: correct or remove it (KeyUnknown metadata.annotations["reloader.stakater.com/\x1b"])` + "\n",
		},
		"auto-reload-all makes a pause-period count": {
			paths: []string{"-"}, settings: func(s *policy.Settings) { s.AutoReloadAll = true },
			stdin: `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","annotations":{"deployment.reloader.stakater.com/pause-period":"5m"}}}`,
		},
		"nothing at all": {paths: []string{"-"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options()
			o.Mode = cmp.Or(tc.mode, o.Mode)
			if tc.settings != nil {
				tc.settings(&o.Settings)
			}
			var out, errOut strings.Builder
			report := lint.Run(o, tc.paths, strings.NewReader(tc.stdin))
			require.NoError(t, report.WriteText(&out, &errOut))
			assert.Equal(t, tc.wantOut, out.String())
			assert.Equal(t, tc.wantErrOut, errOut.String())
			assert.Equal(t, tc.wantRejected, report.Rejected())
			assert.NotContains(t, out.String()+errOut.String(), "hunter2")
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
			got := lint.Run(options(), []string{"-"}, strings.NewReader(manifest))
			assert.Equal(t, len(tc.Denied) > 0, got.Rejected())
			assert.Empty(t, got.Failures)
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
