package engine

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// jobServer serves the Jobs of a namespace in pages.
func jobServer(t *testing.T, jobs map[string]batchv1.Job) *script {
	t.Helper()
	const list = "/apis/batch/v1/namespaces/shop/jobs"
	return play(t, func(r request) (int, http.Header, any) {
		if name, ok := strings.CutPrefix(r.path, list+"/"); ok {
			job, there := jobs[name]
			if !there {
				return failure(apierrors.NewNotFound(batchv1.Resource("jobs"), name))
			}
			if r.method == http.MethodDelete {
				delete(jobs, name)
				return http.StatusOK, nil, metav1.PartialObjectMetadata{
					TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}, ObjectMeta: job.ObjectMeta,
				}
			}
			return http.StatusOK, nil, job
		}
		query, _ := url.ParseQuery(r.query)
		limit, _ := strconv.Atoi(query.Get("limit"))
		names := slices.Sorted(maps.Keys(jobs))
		from, _ := slices.BinarySearch(names, query.Get("continue"))
		page := names[from:min(from+limit, len(names))]
		meta := metav1.ListMeta{ResourceVersion: "9"}
		if from+limit < len(names) {
			meta.Continue = names[from+limit]
		}
		if strings.Contains(r.header.Get("Accept"), "as=PartialObjectMetadataList") {
			all := metav1.PartialObjectMetadataList{
				TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}, ListMeta: meta,
			}
			for _, name := range page {
				all.Items = append(all.Items, metav1.PartialObjectMetadata{ObjectMeta: jobs[name].ObjectMeta})
			}
			return http.StatusOK, nil, all
		}
		all := batchv1.JobList{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}, ListMeta: meta}
		for _, name := range page {
			all.Items = append(all.Items, jobs[name])
		}
		return http.StatusOK, nil, all
	})
}

// Any user who may create Jobs in the namespace of a CronJob can make it their owner.
func TestARunAmongManyJobsTakesFewRequests(t *testing.T) {
	const many = 10_000
	now := time.Unix(1_000_000, 0)
	ended := batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}}
	jobsOf := func(owner types.UID, n int, status batchv1.JobStatus, change func(*batchv1.Job)) func(map[string]batchv1.Job) {
		return func(jobs map[string]batchv1.Job) {
			for i := len(jobs); n > 0; i, n = i+1, n-1 {
				name := fmt.Sprintf("%s-%05d", owner, i)
				job := batchv1.Job{
					TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
					ObjectMeta: metav1.ObjectMeta{
						Namespace: "shop", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(now.Add(-time.Minute)),
						OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "CronJob", Name: "nightly", UID: owner, Controller: new(true)}},
					},
					Status: status,
				}
				if change != nil {
					change(&job)
				}
				jobs[name] = job
			}
		}
	}
	deleted := func(job *batchv1.Job) { job.DeletionTimestamp = new(metav1.NewTime(now)) }
	controller := func(job *batchv1.Job) { job.OwnerReferences[0].Kind = "Workflow" }
	tests := map[string]struct {
		jobs   []func(map[string]batchv1.Job)
		policy batchv1.ConcurrencyPolicy
		// want is how long one attempt after the other waits.
		want []time.Duration
		// most is how many requests one attempt makes.
		most int
		left int
	}{
		"that have ended": {
			[]func(map[string]batchv1.Job){jobsOf("first", many, ended, nil)},
			batchv1.ForbidConcurrent, []time.Duration{0}, 130, many,
		},
		"of which one runs": {
			[]func(map[string]batchv1.Job){jobsOf("first", many, ended, nil), jobsOf("first", 1, batchv1.JobStatus{}, nil)},
			batchv1.ForbidConcurrent, []time.Duration{15 * time.Second}, 130, many + 1,
		},
		"that all run": {
			[]func(map[string]batchv1.Job){jobsOf("first", many, batchv1.JobStatus{}, nil)},
			batchv1.ForbidConcurrent, []time.Duration{15 * time.Second}, 30, many,
		},
		"that are being deleted": {
			[]func(map[string]batchv1.Job){jobsOf("first", many, batchv1.JobStatus{}, deleted)},
			batchv1.ForbidConcurrent, []time.Duration{0}, 30, many,
		},
		"of controllers of another kind": {
			[]func(map[string]batchv1.Job){jobsOf("first", many, batchv1.JobStatus{}, controller)},
			batchv1.ForbidConcurrent, []time.Duration{0}, 30, many,
		},
		"of other CronJobs": {
			[]func(map[string]batchv1.Job){jobsOf("second", many, batchv1.JobStatus{}, nil), jobsOf("first", 2, batchv1.JobStatus{}, nil)},
			batchv1.ReplaceConcurrent, []time.Duration{0}, 30, many,
		},
		"of which some are to be ended": {
			[]func(map[string]batchv1.Job){jobsOf("first", many, ended, nil), jobsOf("first", 50, batchv1.JobStatus{}, nil)},
			batchv1.ReplaceConcurrent, []time.Duration{0}, 200, many,
		},
		"of which many are to be ended": {
			[]func(map[string]batchv1.Job){jobsOf("first", 250, batchv1.JobStatus{}, nil), jobsOf("second", many, batchv1.JobStatus{}, nil)},
			batchv1.ReplaceConcurrent, []time.Duration{nextEnds, nextEnds, 0}, 160, many,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			jobs := map[string]batchv1.Job{}
			for _, add := range tc.jobs {
				add(jobs)
			}
			server := jobServer(t, jobs)
			e := newTestEngine(t, server.config, new(told))
			e.clock = clocktesting.NewFakeClock(now)
			m := &kind.Manifest{Kind: reloader.CronJob, Meta: &metav1.ObjectMeta{Namespace: "shop", Name: "nightly", UID: "first"}}
			for _, want := range tc.want {
				before := len(paths(server))
				wait, err := e.makeWay(t.Context(), m, kind.Run{Job: new(batchv1.Job), Concurrency: tc.policy})
				require.NoError(t, err)
				assert.Equal(t, want, wait)
				assert.LessOrEqual(t, len(paths(server))-before, tc.most)
			}
			left := len(jobs)
			assert.Equal(t, tc.left, left)
		})
	}
}
