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

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind               reloader.WorkloadKind // Deployment
		workload, template notes
		want               []reloader.Reason
	}{
		"nothing of ours":         {},
		"opted in":                {workload: notes{"auto": "true"}},
		"a list that can be used": {workload: notes{"configmap/reload": "app,x-.*"}},
		"what is only odd":        {workload: notes{"configmap/reload": "a,", "auto": "yes"}},
		"an entry that never matches": {
			workload: notes{"configmap/reload": "*"}, want: []reloader.Reason{reloader.ReasonEntryNeverMatches},
		},
		"an entry that is hardly meant so": {
			workload: notes{"configmap/reload": "true"}, want: []reloader.Reason{reloader.ReasonEntryDoubtful},
		},
		"an exclude list with an expression": {
			workload: notes{"auto": "true", "configmaps.exclude/reload": "app-.*"}, want: []reloader.Reason{reloader.ReasonExcludeNotExact},
		},
		"an entry that does not compile": {workload: notes{"configmap/reload": "app,x["}, want: []reloader.Reason{reloader.ReasonEntryInvalid}},
		"one on the template that does not": {
			template: notes{"secret/reload": "x["}, want: []reloader.Reason{reloader.ReasonEntryInvalid},
		},
		"one on the template that does not count": {
			workload: notes{"secret/reload": "a"}, template: notes{"secret/reload": "x["},
		},
		"a name in both lists": {
			workload: notes{"secret/reload": "a", "secrets.exclude/reload": "a"},
			want:     []reloader.Reason{reloader.ReasonNamedAndExcluded},
		},
		"a pause-period that is none": {
			workload: notes{"auto": "true", "deployment/pause-period": "soon"},
			want:     []reloader.Reason{reloader.ReasonPausePeriodInvalid},
		},
		"a coalescing window that is none": {
			workload: notes{"auto": "true", "coalesce-window": "soon"},
			want:     []reloader.Reason{reloader.ReasonWindowInvalid},
		},
		"a rollout-strategy that is none": {
			kind: reloader.Rollout, workload: notes{"auto": "true", "rollout-strategy": "soon"},
			want: []reloader.Reason{reloader.ReasonStrategyUnknown},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.kind == "" {
				tc.kind = reloader.Deployment
			}
			var got []reloader.Reason
			for _, p := range policy.Faults(tc.kind, tc.workload.expand(), tc.template.expand(), policy.Settings{Keys: annotation.DefaultKeys()}) {
				got = append(got, p.Reason)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

// Faults runs for each event: what a tenant writes must not take long.
func TestFaultsAreFoundWithBoundedEffort(t *testing.T) {
	t.Parallel()
	list := func(n int, entry func(i int) string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = entry(i)
		}
		return strings.Join(all, ",")
	}
	tests := map[string]string{
		"large patterns":     list(100, func(i int) string { return fmt.Sprintf("(%x|.){200}", i) }),
		"optional parts":     list(100, func(i int) string { return fmt.Sprintf("(a?){200}%x", i) }),
		"hopeless ones":      list(100, func(i int) string { return fmt.Sprintf("[a-z]*[A-Z]{200}%x", i) }),
		"one endless name":   strings.Repeat("a", 250_000),
		"long names":         list(1_000, func(i int) string { return fmt.Sprintf("%s%d", strings.Repeat("a", 245), i) }),
		"names that are odd": list(1_000, func(i int) string { return fmt.Sprintf("%s%d_", strings.Repeat("a", 245), i) }),
		"an endless blank":   strings.Repeat(" ", 250_000),
		"quotes":             list(10, func(int) string { return strings.Repeat(`"`, 25_000) }),
		"placeholders":       list(10, func(int) string { return strings.Repeat(`{{`, 12_000) }),
	}
	keys := annotation.DefaultKeys()
	for name, value := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			every := map[string]string{}
			for _, key := range []string{
				keys.ConfigMapNamed, keys.SecretNamed, keys.SecretProviderClassNamed,
				keys.ConfigMapExclude, keys.SecretExclude, keys.SecretProviderClassExclude,
			} {
				every[key] = value
			}
			best := func(work func()) time.Duration {
				least := time.Hour
				for range 5 {
					started := time.Now()
					work()
					least = min(least, time.Since(started))
				}
				return least
			}
			s := policy.Settings{Keys: keys}
			parse := best(func() { policy.Parse(every, nil, s) })
			faults := best(func() { policy.Faults(reloader.Deployment, every, nil, s) })
			assert.Less(t, faults, 25*parse+5*time.Millisecond, "parsing takes %s", parse)
		})
	}
}
