package kind

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

func TestNamesOfJobsLeaveRoomForTheirPods(t *testing.T) {
	const suffix = "0123456789"
	plain := batchv1.JobSpec{}
	indexed := func(completions int32) batchv1.JobSpec {
		return batchv1.JobSpec{CompletionMode: new(batchv1.IndexedCompletion), Completions: &completions}
	}
	long := strings.Repeat("a", 80)
	tests := map[string]struct {
		name string
		spec batchv1.JobSpec
		want string
	}{
		"a short name stays as it is":              {name: "nightly.run", spec: plain, want: "nightly.run-" + suffix},
		"a long one leaves room for -xxxxx":        {name: long, spec: plain, want: long[:46] + "-" + suffix},
		"completions without indexes take no room": {name: long, spec: batchv1.JobSpec{Completions: new(int32(100))}, want: long[:46] + "-" + suffix},
		"one index":                   {name: long, spec: indexed(1), want: long[:44] + "-" + suffix},
		"ten indexes":                 {name: long, spec: indexed(10), want: long[:44] + "-" + suffix},
		"eleven":                      {name: long, spec: indexed(11), want: long[:43] + "-" + suffix},
		"a hundred":                   {name: long, spec: indexed(100), want: long[:43] + "-" + suffix},
		"a hundred thousand":          {name: long, spec: indexed(100_000), want: long[:40] + "-" + suffix},
		"as many as there can be":     {name: long, spec: indexed(1<<31 - 1), want: long[:35] + "-" + suffix},
		"none":                        {name: long, spec: indexed(0), want: long[:44] + "-" + suffix},
		"indexes without completions": {name: long, spec: batchv1.JobSpec{CompletionMode: new(batchv1.IndexedCompletion)}, want: long[:44] + "-" + suffix},
		"a name with dots has none where it is a host name": {name: "nightly.run", spec: indexed(3), want: "nightly-run-" + suffix},
		"no dash or dot before the suffix":                  {name: strings.Repeat("a", 44) + ".-b", spec: plain, want: strings.Repeat("a", 44) + "-" + suffix},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := jobName(tc.name, suffix, &tc.spec)
			assert.Equal(t, tc.want, got)
			last := got
			if tc.spec.CompletionMode != nil {
				completions := int32(1)
				if tc.spec.Completions != nil {
					completions = max(1, *tc.spec.Completions)
				}
				last = fmt.Sprintf("%s-%d", got, completions-1)
				assert.Empty(t, validation.IsDNS1123Label(last), "the last pod's host name")
			}
			assert.LessOrEqual(t, len(last)+podSuffix, maxLabel, "the last pod's name")
		})
	}
}

// Every name that a CronJob can have gives a Job that the API server takes.
func FuzzJobName(f *testing.F) {
	f.Add("nightly", int32(1), true, "first")
	f.Add(strings.Repeat("a", 52), int32(100_000), true, "first")
	f.Add(strings.Repeat("a.", 25)+"b", int32(0), false, "second")
	f.Fuzz(func(t *testing.T, name string, completions int32, indexed bool, uid string) {
		if completions < 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
			return
		}
		o := example(t, cronJob()).(*batchv1.CronJob)
		o.Name, o.UID = name, types.UID(uid)
		o.Spec.JobTemplate.Spec.Completions = &completions
		if indexed {
			o.Spec.JobTemplate.Spec.CompletionMode = new(batchv1.IndexedCompletion)
		}
		run, err := RunOf(cronJob().Manifest(o), changeOf(settingsMark("v1-a")))
		require.NoError(t, err)
		require.Empty(t, validation.IsDNS1123Subdomain(run.Job.Name))
		if indexed {
			require.Empty(t, validation.IsDNS1123Label(fmt.Sprintf("%s-%d", run.Job.Name, max(0, completions-1))))
		}
		require.LessOrEqual(t, len(run.Job.Name)+podSuffix, maxLabel)
		again, err := RunOf(cronJob().Manifest(o), changeOf(settingsMark("v1-a")))
		require.NoError(t, err)
		require.Equal(t, run.Job.Name, again.Job.Name)
	})
}
