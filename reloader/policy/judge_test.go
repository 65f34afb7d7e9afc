package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

var usesConfigMap = []reloader.Reference{{Kind: reloader.ConfigMap, Name: "app", Container: "c", How: reloader.HowEnv}}

func TestJudge(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind               reloader.WorkloadKind // Deployment
		workload, template notes
		subject            func(*policy.Subject)
		settings           func(*policy.Settings)
		want               []string // severity, reason, field, message
	}{
		"nothing of ours": {},
		"every key in its place": {
			workload: notes{
				"auto": "true", "secrets.exclude/reload": "a,b.c", "deployment/pause-period": "5m",
				"deployment/paused-at": "2026-01-01T00:00:00Z", "index": "{}",
			},
			template: notes{"last-reloaded-from": "{}"},
		},
		"opted in on the template": {template: notes{"auto": "true", "configmaps.exclude/reload": "a"}},

		"a pause-period that does not parse": {
			workload: notes{"auto": "true", "deployment/pause-period": "5 minutes"},
			want:     []string{`broken PausePeriodInvalid metadata.annotations: deployment.reloader.stakater.com/pause-period "5 minutes" is not a duration above zero: write one such as "5m"`},
		},
		"a pause-period of zero": {
			workload: notes{"auto": "true", "deployment/pause-period": "0s"},
			want:     []string{`broken PausePeriodInvalid metadata.annotations: deployment.reloader.stakater.com/pause-period "0s" is not a duration above zero: write one such as "5m"`},
		},
		"a named entry that does not compile": {
			workload: notes{"configmap/reload": "app,x["},
			want:     []string{`broken EntryInvalid metadata.annotations: configmap.reloader.stakater.com/reload: "x[" is no regular expression and is skipped: correct it`},
		},
		"a named entry on the template that does not compile": {
			template: notes{"secret/reload": "x["},
			want:     []string{`broken EntryInvalid spec.template.metadata.annotations: template's secret.reloader.stakater.com/reload: "x[" is no regular expression and is skipped: correct it`},
		},
		"a pattern in both lists, of which the exclude list takes no notice": {
			workload: notes{"configmap/reload": "app-.*", "configmaps.exclude/reload": "app-.*"},
			want:     []string{`doubtful ExcludeNotExact metadata.annotations: configmaps.exclude.reloader.stakater.com/reload: "app-.*" is no exact name, excludes nothing: write full names`},
		},
		"a named entry that is too long": {
			workload: notes{"configmap/reload": strings.Repeat("a", 600) + "*"},
			want:     []string{`broken TooManyPatterns metadata.annotations: configmap.reloader.stakater.com/reload: "aaaaaaaaaaaaaaaaaaaaaaaa…" has more than 512 bytes and is skipped: shorten it`},
		},
		"too many patterns": {
			workload: notes{"configmap/reload": manyPatterns(103)},
			want:     []string{`broken TooManyPatterns metadata.annotations: configmap.reloader.stakater.com/reload: "p100+" comes after 100 patterns and is skipped: simplify the list`},
		},
		"too many names": {
			workload: notes{"configmap/reload": strings.Repeat("a,", 1000) + "last,beyond"},
			want:     []string{`broken TooManyPatterns metadata.annotations: configmap.reloader.stakater.com/reload: "last" comes after 1000 names and is skipped: simplify the list`},
		},
		"patterns that are too large": {
			workload: notes{"configmap/reload": strings.Repeat("a{1000}", 20)},
			want:     []string{`broken TooManyPatterns metadata.annotations: configmap.reloader.stakater.com/reload: "a{1000}a{1000}…" makes the list too complex and is skipped: simplify the list`},
		},
		"a coalescing window": {
			workload: notes{"auto": "true", "coalesce-window": "30s"},
		},
		"a coalescing window that is none": {
			workload: notes{"auto": "true", "coalesce-window": "-1s"},
			want:     []string{`broken WindowInvalid metadata.annotations: reloader.stakater.com/coalesce-window "-1s" is not a duration from 0s to 1h: write one such as "5s"`},
		},
		"a coalescing window that is too long": {
			workload: notes{"auto": "true", "coalesce-window": "61m"},
			want:     []string{`broken WindowInvalid metadata.annotations: reloader.stakater.com/coalesce-window "61m" is not a duration from 0s to 1h: write one such as "5s"`},
		},
		"a coalescing window on the template": {
			workload: notes{"auto": "true"},
			template: notes{"coalesce-window": "5s"},
			want:     []string{`doubtful KeyMisplaced spec.template.metadata.annotations: template's reloader.stakater.com/coalesce-window does nothing: move it to the Deployment's metadata`},
		},
		"a rollout-strategy that does not exist": {
			kind: "Rollout", workload: notes{"rollout-strategy": "recreate"},
			want: []string{`broken StrategyUnknown metadata.annotations: reloader.stakater.com/rollout-strategy "recreate" is unknown: write "rollout" or "restart"`},
		},
		"a rollout-strategy that does": {kind: "Rollout", workload: notes{"rollout-strategy": "restart"}},
		"named and excluded": {
			workload: notes{"configmap/reload": "a,my.cm,b", "configmaps.exclude/reload": "my.cm,c"},
			want:     []string{`broken NamedAndExcluded metadata.annotations: configmap.reloader.stakater.com/reload names "my.cm", which the exclude list of its kind excludes: remove one`},
		},
		"named on the template and excluded on the metadata": {
			workload: notes{"secrets.exclude/reload": "a"}, template: notes{"secret/reload": "a"},
			want: []string{`broken NamedAndExcluded spec.template.metadata.annotations: template's secret.reloader.stakater.com/reload names "a", which the exclude list of its kind excludes: remove one`},
		},
		"named in the one and excluded in the other kind": {
			workload: notes{"configmap/reload": "a", "secrets.exclude/reload": "a"},
		},

		"auto with search": {
			workload: notes{"auto": "true", "search": "true"},
			want:     []string{`doubtful AutoBeatsSearch metadata.annotations: reloader.stakater.com/search does not restrict reloader.stakater.com/auto "true": remove one of them`},
		},
		"auto: false with a named list, search and a typed true": {
			workload: notes{"auto": "false", "configmap/reload": "a", "search": "true", "secret/auto": "true"},
			subject: func(w *policy.Subject) {
				w.References = []reloader.Reference{{Kind: reloader.Secret, Name: "s", How: reloader.HowEnv}}
			},
			want: []string{
				`doubtful AutoFalseNotOff metadata.annotations: reloader.stakater.com/auto "false" does not stop configmap.reloader.stakater.com/reload: remove one of them`,
				`doubtful AutoFalseNotOff metadata.annotations: reloader.stakater.com/auto "false" does not stop reloader.stakater.com/search: remove one of them`,
				`doubtful AutoFalseNotOff metadata.annotations: reloader.stakater.com/auto "false" does not stop secret.reloader.stakater.com/auto: remove one of them`,
			},
		},
		"auto: true with a typed false": {
			workload: notes{"auto": "true", "secret/auto": "false"},
			want:     []string{`doubtful TypedAutoNotOff metadata.annotations: secret.reloader.stakater.com/auto "false" does not restrict auto "true": write typed keys only`},
		},
		"auto: yes": {
			workload: notes{"auto": "yes"},
			want:     []string{`doubtful ValueNotBoolean metadata.annotations: reloader.stakater.com/auto "yes" counts as false, for --auto-reload-all too: write "true" or "false"`},
		},
		"auto: empty": {
			workload: notes{"auto": ""},
			want:     []string{`doubtful ValueNotBoolean metadata.annotations: reloader.stakater.com/auto "" opts nothing in, yet hides the template's keys: write "true" or "false"`},
		},
		"auto: empty on the template": {
			template: notes{"configmap/auto": ""},
			want:     []string{`doubtful ValueNotBoolean spec.template.metadata.annotations: template's configmap.reloader.stakater.com/auto "" does nothing: write "true" or "false"`},
		},
		"a typed auto: on": {
			workload: notes{"secret/auto": "on"},
			want:     []string{`doubtful ValueNotBoolean metadata.annotations: secret.reloader.stakater.com/auto "on" counts as false, for --auto-reload-all too: write "true" or "false"`},
		},
		"search: True": {
			workload: notes{"search": "True"},
			want:     []string{`doubtful ValueNotBoolean metadata.annotations: reloader.stakater.com/search "True" does nothing: write "true"`},
		},
		"search: false": {workload: notes{"search": "false"}},
		"keys on the metadata that hide others on the template": {
			workload: notes{"configmap/reload": "a"},
			template: notes{"auto": "true", "configmap/reload": "b", "secret/reload": "s", "configmaps.exclude/reload": "c"},
			want: []string{
				`doubtful TemplateHidden spec.template.metadata.annotations: template's configmap.reloader.stakater.com/reload is hidden by the keys on the workload: move it there`,
				`doubtful TemplateHidden spec.template.metadata.annotations: template's configmaps.exclude.reloader.stakater.com/reload is hidden by the keys on the workload: move it there`,
				`doubtful TemplateHidden spec.template.metadata.annotations: template's reloader.stakater.com/auto is hidden by the keys on the workload: move it there`,
			},
		},
		"the same keys in both places":                  {workload: notes{"auto": "true"}, template: notes{"auto": "true"}},
		"a broken entry on the template that is hidden": {workload: notes{"configmap/reload": "a["}, template: notes{"configmap/reload": "a["}, want: []string{`broken EntryInvalid metadata.annotations: configmap.reloader.stakater.com/reload: "a[" is no regular expression and is skipped: correct it`}},
		"match and ignore on a workload": {
			workload: notes{"match": "true"}, template: notes{"ignore": "true"},
			want: []string{
				`doubtful KeyMisplaced metadata.annotations: reloader.stakater.com/match does nothing on a Deployment: put it on the ConfigMap or Secret`,
				`doubtful KeyMisplaced spec.template.metadata.annotations: template's reloader.stakater.com/ignore does nothing on a Deployment: put it on the source, or use an exclude list`,
			},
		},
		"an exclude list with a regular expression": {
			workload: notes{"auto": "true", "configmaps.exclude/reload": "app-.*,a.b"},
			want:     []string{`doubtful ExcludeNotExact metadata.annotations: configmaps.exclude.reloader.stakater.com/reload: "app-.*" is no exact name, excludes nothing: write full names`},
		},
		"an exclude list with a namespace": {
			workload: notes{"auto": "true", "configmaps.exclude/reload": "ns/app"},
			want:     []string{`doubtful EntryNeverMatches metadata.annotations: configmaps.exclude.reloader.stakater.com/reload: "ns/app" excludes nothing: leave out the namespace`},
		},
		"pause-period on another kind": {
			kind: reloader.StatefulSet, workload: notes{"auto": "true", "deployment/pause-period": "x"},
			want: []string{`doubtful PauseWithoutEffect metadata.annotations: deployment.reloader.stakater.com/pause-period does nothing on a StatefulSet, only on a Deployment: remove it`},
		},
		"pause-period on the template": {
			workload: notes{"auto": "true"}, template: notes{"deployment/pause-period": "5m"},
			want: []string{`doubtful PauseWithoutEffect spec.template.metadata.annotations: template's deployment.reloader.stakater.com/pause-period does nothing: move it to the Deployment's metadata`},
		},
		"pause-period without an opt-in": {
			workload: notes{"deployment/pause-period": "5m"},
			want:     []string{`doubtful PauseWithoutEffect metadata.annotations: deployment.reloader.stakater.com/pause-period does nothing without an opt-in: add reloader.stakater.com/auto "true"`},
		},
		"pause-period with auto-reload-all": {
			workload: notes{"deployment/pause-period": "5m"},
			settings: func(s *policy.Settings) { s.AutoReloadAll = true },
		},
		"rollout-strategy on another kind": {
			kind: reloader.DaemonSet, workload: notes{"rollout-strategy": "restart"},
			want: []string{`doubtful StrategyWrongKind metadata.annotations: reloader.stakater.com/rollout-strategy does nothing on a DaemonSet, only on an Argo Rollout: remove it`},
		},
		"rollout-strategy on a Rollout's template": {
			kind: "Rollout", template: notes{"rollout-strategy": "restart"},
			want: []string{`doubtful KeyMisplaced spec.template.metadata.annotations: template's reloader.stakater.com/rollout-strategy does nothing: move it to the Rollout's metadata`},
		},
		"an unknown key with a near one": {
			workload: notes{"configmaps/reload": "a"},
			want:     []string{`doubtful KeyUnknown metadata.annotations: configmaps.reloader.stakater.com/reload is unknown: did you mean configmap.reloader.stakater.com/reload?`},
		},
		"the longest key with a typo": {
			workload: notes{"secretproviderclases.exclude/reload": "a"},
			want:     []string{`doubtful KeyUnknown metadata.annotations: secretproviderclases.exclude.rel… is unknown: did you mean secretproviderclasses.exclude.reloader.stakater.com/reload?`},
		},
		"an unknown key without a near one": {
			workload: notes{"something-else": "a"}, template: notes{"a.b/c": "d"},
			want: []string{
				`doubtful KeyUnknown metadata.annotations: reloader.stakater.com/something-else is unknown and does nothing: correct or remove it`,
				`doubtful KeyUnknown spec.template.metadata.annotations: template's a.b.reloader.stakater.com/c is unknown and does nothing: correct or remove it`,
			},
		},
		"an unknown key with control characters": {
			subject: func(w *policy.Subject) { w.Annotations = map[string]string{"reloader.stakater.com/a\nb\x00\xff": ""} },
			want:    []string{`doubtful KeyUnknown metadata.annotations: reloader.stakater.com/a\nb\x00\xff is unknown and does nothing: correct or remove it`},
		},
		"a key that a flag renamed is unknown": {
			workload: notes{"auto": "true"},
			settings: func(s *policy.Settings) { s.Keys.Auto = "example.com/reload-automatically" },
			want:     []string{`doubtful KeyUnknown metadata.annotations: reloader.stakater.com/auto is unknown and does nothing: correct or remove it`},
		},
		"a domain that only ends alike is not ours": {
			subject: func(w *policy.Subject) {
				w.Annotations = map[string]string{"myreloader.stakater.com/a": "", "reloader.stakater.com.au/a": ""}
			},
		},
		"a known key as a label": {
			subject: func(w *policy.Subject) {
				w.Labels = notes{"auto": "true", "own": "x"}.expand()
				w.TemplateLabels = notes{"configmap/reload": "a"}.expand()
			},
			want: []string{
				`doubtful KeyAsLabel metadata.labels: reloader.stakater.com/auto does nothing as a label: write it as an annotation`,
				`doubtful KeyAsLabel spec.template.metadata.labels: configmap.reloader.stakater.com/reload does nothing as a label: write it as an annotation`,
			},
		},
		"a name with a namespace, and a lone star": {
			workload: notes{"configmap/reload": "*,ns/app,ok,a/b|c"},
			want: []string{
				`doubtful EntryNeverMatches metadata.annotations: configmap.reloader.stakater.com/reload: "*" never matches: write ".*" for every name`,
				`doubtful EntryNeverMatches metadata.annotations: configmap.reloader.stakater.com/reload: "ns/app" never matches: leave out the namespace`,
			},
		},
		"names whose variables collide": {
			workload: notes{"auto": "true"},
			subject:  func(w *policy.Subject) { w.References = refs(reloader.ConfigMap, "my.cm", "my-cm", "my-cm", "other") },
			want:     []string{`doubtful EnvNamesCollide spec.template.spec: ConfigMaps "my-cm" and "my.cm" share STAKATER_MY_CM_CONFIGMAP: rename one`},
		},
		"colliding names of a workload that is not opted in": {
			subject: func(w *policy.Subject) { w.References = refs(reloader.ConfigMap, "my.cm", "my-cm") },
		},
		"colliding names, one of them excluded": {
			workload: notes{"auto": "true", "configmaps.exclude/reload": "my.cm"},
			subject:  func(w *policy.Subject) { w.References = refs(reloader.ConfigMap, "my.cm", "my-cm") },
		},
		"auto without any reference": {
			workload: notes{"auto": "true"},
			subject: func(w *policy.Subject) {
				w.References = []reloader.Reference{{Kind: reloader.Secret, Name: "pull", How: reloader.HowImagePull}}
			},
			want: []string{`notice AutoWithoutReferences metadata.annotations: reloader.stakater.com/auto follows nothing, no source is used: write configmap.reloader.stakater.com/reload`},
		},
		"auto with a reference that a flag makes count": {
			workload: notes{"auto": "true"},
			subject: func(w *policy.Subject) {
				w.References = []reloader.Reference{{Kind: reloader.Secret, Name: "pull", How: reloader.HowImagePull}}
			},
			settings: func(s *policy.Settings) { s.FollowAll = true },
		},
		"typed auto without a reference of its kind": {
			workload: notes{"secret/auto": "true"},
			want:     []string{`notice AutoWithoutReferences metadata.annotations: secret.reloader.stakater.com/auto follows nothing, the template uses no Secret`},
		},
		"CSI keys while CSI is off": {
			workload: notes{"secretproviderclass/reload": "a"}, template: notes{"secretproviderclass/auto": "true"},
			want: []string{
				`doubtful TemplateHidden spec.template.metadata.annotations: template's secretproviderclass.reloader.stakater.com/auto is hidden by the keys on the workload: move it there`,
				`notice CSIOff metadata.annotations: secretproviderclass.reloader.stakater.com/reload does nothing without --enable-csi-integration`,
				`notice CSIOff spec.template.metadata.annotations: template's secretproviderclass.reloader.stakater.com/auto does nothing without --enable-csi-integration`,
			},
		},
		"CSI keys while CSI is on": {
			workload: notes{"secretproviderclass/reload": "a"},
			settings: func(s *policy.Settings) { s.CSI = true },
		},
		"OnDelete": {
			kind: reloader.StatefulSet, workload: notes{"auto": "true"},
			subject: func(w *policy.Subject) { w.OnDelete = true },
			want:    []string{`notice OnDelete spec.updateStrategy.type: updateStrategy OnDelete: a reload changes the template only, delete the pods for them to follow`},
		},
		"OnDelete without an opt-in": {
			kind:    reloader.StatefulSet,
			subject: func(w *policy.Subject) { w.OnDelete = true },
		},
		"a CronJob's pod template": {
			kind: reloader.CronJob, template: notes{"auto": "true", "secret/reload": "a"},
			subject: func(w *policy.Subject) { w.Template = "spec.jobTemplate.spec.template" },
			want: []string{
				`notice OptsInJobs spec.jobTemplate.spec.template.metadata.annotations: template's reloader.stakater.com/auto restarts running Jobs, too: move it to the CronJob's metadata`,
				`notice OptsInJobs spec.jobTemplate.spec.template.metadata.annotations: template's secret.reloader.stakater.com/reload restarts running Jobs, too: move it to the CronJob's metadata`,
			},
		},
		"a CronJob's metadata": {
			kind: reloader.CronJob, workload: notes{"auto": "true"}, template: notes{"search": "false"},
			subject: func(w *policy.Subject) { w.Template = "spec.jobTemplate.spec.template" },
			want: []string{
				`doubtful TemplateHidden spec.jobTemplate.spec.template.metadata.annotations: template's reloader.stakater.com/search is hidden by the keys on the workload: move it there`,
			},
		},
		"a template that is another workload's has references that are not known": {
			kind: reloader.Rollout, workload: notes{"auto": "true"},
			subject: func(w *policy.Subject) { w.References, w.Borrows = nil, true },
		},
		"the worst comes first": {
			workload: notes{"auto": "yes", "configmap/reload": "a[,b", "secretproviderclass/auto": "true"},
			want: []string{
				`broken EntryInvalid metadata.annotations: configmap.reloader.stakater.com/reload: "a[" is no regular expression and is skipped: correct it`,
				`doubtful ValueNotBoolean metadata.annotations: reloader.stakater.com/auto "yes" counts as false, for --auto-reload-all too: write "true" or "false"`,
				`notice CSIOff metadata.annotations: secretproviderclass.reloader.stakater.com/auto does nothing without --enable-csi-integration`,
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := policy.Settings{Keys: annotation.DefaultKeys()}
			if tc.settings != nil {
				tc.settings(&s)
			}
			if tc.kind == "" {
				tc.kind = reloader.Deployment
			}
			w := policy.Subject{Kind: tc.kind, Annotations: tc.workload.expand(), TemplateAnnotations: tc.template.expand(), References: usesConfigMap}
			if tc.subject != nil {
				tc.subject(&w)
			}
			assert.Equal(t, tc.want, lines(t, policy.Judge(w, s)))
		})
	}
}

func TestJudgeSource(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind                reloader.SourceKind
		labels, annotations notes
		csi                 bool
		want                []string
	}{
		"nothing of ours": {},
		"match and ignore": {
			annotations: notes{"match": "true", "ignore": "false"},
			labels:      notes{"meta-info": "reloader"},
		},
		"values that do nothing": {
			annotations: notes{"match": "True", "ignore": "yes"},
			want: []string{
				`doubtful ValueNotBoolean metadata.annotations: reloader.stakater.com/ignore "yes" does nothing: write "true"`,
				`doubtful ValueNotBoolean metadata.annotations: reloader.stakater.com/match "True" does nothing: write "true"`,
			},
		},
		"keys of workloads": {
			kind: reloader.Secret, annotations: notes{"auto": "true", "search": "true"},
			want: []string{
				`doubtful KeyMisplaced metadata.annotations: reloader.stakater.com/auto does nothing on a Secret: put it on the workload`,
				`doubtful KeyMisplaced metadata.annotations: reloader.stakater.com/search does nothing on a Secret: write reloader.stakater.com/match "true"`,
			},
		},
		"a typo and a label": {
			annotations: notes{"ingore": "true"}, labels: notes{"ignore": "true"},
			want: []string{
				`doubtful KeyUnknown metadata.annotations: reloader.stakater.com/ingore is unknown: did you mean reloader.stakater.com/ignore?`,
				`doubtful KeyAsLabel metadata.labels: reloader.stakater.com/ignore does nothing as a label: write it as an annotation`,
			},
		},
		"a SecretProviderClass while CSI is off": {
			kind: reloader.SecretProviderClass, annotations: notes{"match": "true"},
			want: []string{`notice CSIOff metadata.annotations: reloader.stakater.com/match does nothing without --enable-csi-integration`},
		},
		"a SecretProviderClass while CSI is on": {
			kind: reloader.SecretProviderClass, annotations: notes{"match": "true"}, csi: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.kind == "" {
				tc.kind = reloader.ConfigMap
			}
			s := policy.Settings{Keys: annotation.DefaultKeys(), CSI: tc.csi}
			assert.Equal(t, tc.want, lines(t, policy.JudgeSource(tc.kind, tc.labels.expand(), tc.annotations.expand(), s)))
		})
	}
}

func TestUnrecorded(t *testing.T) {
	t.Parallel()
	k := annotation.DefaultKeys()
	tests := map[string]struct {
		recorded, actual []reloader.Reference
		want             []string
	}{
		"nothing":  {recorded: nil, actual: []reloader.Reference{}},
		"the same": {recorded: refs(reloader.Secret, "a"), actual: refs(reloader.Secret, "a")},
		"one more": {
			recorded: refs(reloader.Secret, "a"), actual: refs(reloader.Secret, "a", "b", "b"),
			want: []string{`notice ReferenceUnrecorded metadata.annotations: Secret "b" came in after Reloader's webhook: it counts from the next full pass on`},
		},
		"one less": {
			recorded: refs(reloader.Secret, "a"),
			want:     []string{`notice ReferenceUnrecorded metadata.annotations: the references changed after Reloader's webhook saw them: they count from the next full pass on`},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, lines(t, policy.Unrecorded(tc.recorded, tc.actual, k)))
		})
	}
}

func TestIntroduced(t *testing.T) {
	t.Parallel()
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	before := policy.Judge(policy.Subject{Kind: reloader.Deployment, Annotations: notes{"auto": "yes", "deployment/pause-period": "x"}.expand()}, s)
	after := policy.Judge(policy.Subject{Kind: reloader.Deployment, Annotations: notes{"auto": "yes", "deployment/pause-period": "y"}.expand()}, s)
	assert.Empty(t, policy.Introduced(after, after), "an old mistake passes")
	assert.Equal(t,
		[]string{`broken PausePeriodInvalid metadata.annotations: deployment.reloader.stakater.com/pause-period "y" is not a duration above zero: write one such as "5m"`},
		lines(t, policy.Introduced(before, after)), "another mistake in the same key is a new one")
	assert.Equal(t, after, policy.Introduced(nil, after))
}

func TestMendingAPartOfAListIntroducesNothing(t *testing.T) {
	t.Parallel()
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	numbered := func(format string, from, to int) string {
		var list []string
		for i := from; i < to; i++ {
			list = append(list, fmt.Sprintf(format, i))
		}
		return strings.Join(list, ",")
	}
	judge := func(list string) []reloader.Problem {
		return policy.Judge(policy.Subject{Kind: reloader.Deployment, Annotations: notes{"configmap/reload": list}.expand()}, s)
	}
	tests := map[string]struct{ before, after string }{
		"one of more mistakes than are told":     {numbered("x%02d[", 0, 40), numbered("x%02d[", 1, 40)},
		"one of more patterns than are compiled": {numbered("p%03d+", 0, 150), numbered("p%03d+", 1, 150)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := judge(tc.before), judge(tc.after)
			assert.NotEmpty(t, after)
			assert.NotEqual(t, before, after)
			assert.Empty(t, policy.Introduced(before, after))
		})
	}
}

func TestJudgeIsBoundedOnHostileInput(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("\x00é[", 70_000)
	entries := make([]string, 10_000)
	for i := range entries {
		entries[i] = fmt.Sprintf("broken-%d[", i)
	}
	k := annotation.DefaultKeys()
	s := policy.Settings{Keys: k}
	annotations := map[string]string{
		k.Auto: huge, k.Search: huge, k.ConfigMapAuto: huge, k.PausePeriod: huge, k.RolloutStrategy: huge, k.Match: huge,
		k.ConfigMapNamed: strings.Join(entries, ","), k.SecretNamed: huge, k.ConfigMapExclude: strings.Join(entries, ","),
		"reloader.stakater.com/" + huge: huge,
	}
	for i := range 10_000 {
		annotations[fmt.Sprintf("reloader.stakater.com/unknown-%d", i)] = ""
	}
	start := time.Now()
	problems := policy.Judge(policy.Subject{
		Kind: reloader.Deployment, Annotations: annotations, TemplateAnnotations: annotations, Labels: annotations,
		References: refs(reloader.ConfigMap, entries...),
	}, s)
	assert.Less(t, time.Since(start), 5*time.Second)
	for _, p := range problems {
		assertLine(t, p.Message)
	}
	verdict := policy.ModeStrict.Verdict(problems)
	assert.Less(t, len(verdict.Message()), 2000)

	start = time.Now()
	assert.NotEmpty(t, policy.JudgeSource(reloader.Secret, annotations, annotations, s))
	assert.Less(t, time.Since(start), 5*time.Second)
}

func manyPatterns(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("p%d+", i)
	}
	return strings.Join(list, ",")
}

func refs(kind reloader.SourceKind, names ...string) []reloader.Reference {
	var all []reloader.Reference
	for _, name := range names {
		all = append(all, reloader.Reference{Kind: kind, Name: name, Container: "c", How: reloader.HowVolume})
	}
	return all
}

// lines shows problems as text, and holds what each of them promises.
func lines(t *testing.T, problems []reloader.Problem) []string {
	t.Helper()
	var all []string
	for _, p := range problems {
		assertLine(t, p.Message)
		all = append(all, fmt.Sprintf("%s %s %s: %s", p.Severity, p.Reason, p.Field, p.Message))
	}
	return all
}
