package engine

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// Of the many Jobs of a namespace those alone are read that the CronJob
// controls, and of those no more than it takes.
func TestARunWaitsForTheJobsOfItsCronJob(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	controlledBy := func(name string, uid types.UID) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(now.Add(-time.Minute)),
			OwnerReferences: []metav1.OwnerReference{{Kind: "CronJob", UID: uid, Controller: new(true)}},
		}
	}
	ended := batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}}
	const list = "/apis/batch/v1/namespaces/shop/jobs"
	tests := map[string]struct {
		jobs     map[string]batchv1.JobStatus // those of the CronJob
		since    time.Time
		want     time.Duration
		wantRead []string
	}{
		"there are none":                   {wantRead: []string{list}},
		"they have ended":                  {jobs: map[string]batchv1.JobStatus{"a": ended, "b": ended}, wantRead: []string{list, list + "/a", list + "/b"}},
		"one of them has not":              {jobs: map[string]batchv1.JobStatus{"a": ended, "b": {}, "c": {}}, want: 15 * time.Second, wantRead: []string{list, list + "/a", list + "/b"}},
		"its status tells of one":          {since: now.Add(-time.Minute), want: 15 * time.Second},
		"its status tells of one for long": {since: now.Add(-time.Hour), want: lastPoll},
		"its status tells of a new one":    {since: now.Add(time.Second), want: firstRunPoll},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := play(t, func(r request) (int, http.Header, any) {
				if r.path != list {
					name := r.path[len(list)+1:]
					return http.StatusOK, nil, batchv1.Job{
						TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
						ObjectMeta: controlledBy(name, "first"), Status: tc.jobs[name],
					}
				}
				assert.Contains(t, r.header.Get("Accept"), "as=PartialObjectMetadataList")
				all := metav1.PartialObjectMetadataList{
					TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"},
					Items:    []metav1.PartialObjectMetadata{{ObjectMeta: controlledBy("other", "second")}},
				}
				for _, name := range []string{"a", "b", "c"} {
					if _, there := tc.jobs[name]; there {
						all.Items = append(all.Items, metav1.PartialObjectMetadata{ObjectMeta: controlledBy(name, "first")})
					}
				}
				return http.StatusOK, nil, all
			})
			e := newTestEngine(t, server.config, new(told))
			e.clock = clocktesting.NewFakeClock(now)
			m := &kind.Manifest{Kind: reloader.CronJob, Meta: &metav1.ObjectMeta{Namespace: "shop", Name: "nightly", UID: "first"}}
			wait, err := e.makeWay(t.Context(), m, kind.Run{
				Job: new(batchv1.Job), Concurrency: batchv1.ForbidConcurrent, Since: tc.since,
			})
			require.NoError(t, err)
			assert.Equal(t, tc.want, wait)
			assert.Equal(t, tc.wantRead, paths(server))
		})
	}
}
