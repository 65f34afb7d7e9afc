package engine

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
)

// comes is what the feed sees of the report of a pod that has just started.
func comes(pod, content string, version int) *metav1.PartialObjectMetadata {
	m := holds(pod, content, version)
	m.Generation, m.Annotations[mountedPod] = 1, pod
	return m
}

// follows is what it sees when the pod has been rotated.
func follows(pod, content string, version int) *metav1.PartialObjectMetadata {
	m := comes(pod, content, version)
	m.Generation = 2
	return m
}

// podOf is a pod of web or worker, of a template that was there at that second.
func podOf(w reloader.Workload, name, template string, second int64) metav1.PartialObjectMetadata {
	owner := metav1.OwnerReference{Kind: string(w.Kind), Name: w.Name, Controller: new(true)}
	label := "controller-revision-hash"
	if w.Kind == reloader.Deployment {
		owner.Kind, owner.Name, label = "ReplicaSet", w.Name+"-"+template, "pod-template-hash"
	}
	return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: w.Namespace, Name: name, OwnerReferences: []metav1.OwnerReference{owner},
		Labels: map[string]string{label: template}, CreationTimestamp: metav1.Unix(second, 0),
	}}
}

func TestWhatFollowsFromPodsThatCome(t *testing.T) {
	type events = []*metav1.PartialObjectMetadata
	tests := map[string]struct {
		events    events
		pods      []metav1.PartialObjectMetadata
		forbidden bool
		// want are those that are reloaded, wantLists how often pods are listed.
		want      []reloader.Workload
		wantLists int
	}{
		"the owner of one restarts, with new content, and nobody rotates": {
			events: events{comes("web-3", "b", 20), comes("web-4", "b", 21)},
		},
		"one more pod": {events: events{comes("web-3", "b", 20)}},
		"a rotation in place, as most are": {
			events: events{follows("web-1", "b", 20), follows("web-2", "b", 21), follows("worker-1", "b", 22)},
			want:   []reloader.Workload{web, worker},
		},
		"the owner of one restarts, and the other one follows in place": {
			events: events{comes("web-3", "b", 20), comes("web-4", "b", 21), follows("worker-1", "b", 22)},
			pods: []metav1.PartialObjectMetadata{
				podOf(web, "web-1", "old", 1), podOf(web, "web-3", "new", 5), podOf(web, "web-4", "new", 6), podOf(worker, "worker-1", "r1", 1),
			},
			want: []reloader.Workload{worker}, wantLists: 1,
		},
		"it restarts, and an old pod of its own follows in place": {
			events: events{comes("web-3", "b", 20), follows("web-1", "b", 21)},
			pods: []metav1.PartialObjectMetadata{
				podOf(web, "web-1", "old", 1), podOf(web, "web-3", "new", 5), podOf(worker, "worker-1", "r1", 1),
			},
			want: []reloader.Workload{worker}, wantLists: 1,
		},
		"one more pod, and another one follows in place": {
			events: events{comes("web-3", "b", 20), follows("web-1", "b", 21)},
			pods: []metav1.PartialObjectMetadata{
				podOf(web, "web-1", "same", 1), podOf(web, "web-3", "same", 5), podOf(worker, "worker-1", "r1", 1),
			},
			want: []reloader.Workload{web, worker}, wantLists: 1,
		},
		"two templates of the same second": {
			events: events{comes("web-3", "b", 20), follows("web-1", "b", 21)},
			pods:   []metav1.PartialObjectMetadata{podOf(web, "web-3", "new", 5), podOf(web, "web-1", "old", 5)},
			want:   []reloader.Workload{web, worker}, wantLists: 1,
		},
		"it went back to a template of which an older pod is left": {
			events: events{comes("web-3", "b", 20), follows("worker-1", "b", 21)},
			pods:   []metav1.PartialObjectMetadata{podOf(web, "web-2", "other", 3), podOf(web, "web-1", "same", 1), podOf(web, "web-3", "same", 5)},
			want:   []reloader.Workload{web, worker}, wantLists: 1,
		},
		"it went back, and the older pod is listed first": {
			events: events{comes("web-3", "b", 20), follows("worker-1", "b", 21)},
			pods:   []metav1.PartialObjectMetadata{podOf(web, "web-1", "same", 1), podOf(web, "web-2", "other", 3), podOf(web, "web-3", "same", 5)},
			want:   []reloader.Workload{web, worker}, wantLists: 1,
		},
		"two templates of the same second, and more pods of each": {
			events: events{comes("web-3", "b", 20), comes("web-4", "b", 21), follows("worker-1", "b", 22)},
			pods: []metav1.PartialObjectMetadata{
				podOf(web, "web-2", "old", 5), podOf(web, "web-3", "new", 4), podOf(web, "web-4", "new", 5), podOf(worker, "worker-1", "r1", 1),
			},
			want: []reloader.Workload{web, worker}, wantLists: 1,
		},
		"pods may not be listed": {
			events:    events{comes("web-3", "b", 20), follows("worker-1", "b", 21)},
			forbidden: true, want: []reloader.Workload{web, worker}, wantLists: 1,
		},
		"all go back to what they had": {
			events: events{comes("web-3", "b", 20), comes("web-4", "b", 21), follows("web-3", "a", 22), follows("web-4", "a", 23)},
			pods:   []metav1.PartialObjectMetadata{podOf(web, "web-3", "new", 5), podOf(web, "web-4", "new", 6), podOf(worker, "worker-1", "r1", 1)},
			want:   []reloader.Workload{web}, wantLists: 1,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			lists := 0
			server := play(t, func(r request) (int, http.Header, any) {
				switch {
				case !strings.HasSuffix(r.path, "/pods"):
					return failure(apierrors.NewNotFound(classResource().GroupResource(), "vault"))
				case tc.forbidden:
					lists++
					return failure(apierrors.NewForbidden(corev1.Resource("pods"), "", assert.AnError))
				}
				lists++
				return http.StatusOK, nil, metav1.PartialObjectMetadataList{
					TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}, Items: tc.pods,
				}
			})
			key, err := RandomKey()
			require.NoError(t, err)
			e, err := New(Options{Config: server.config, Key: key, Settings: policy.Settings{Keys: keys, CSI: true}, Reporter: new(told), CoalesceWindow: time.Hour})
			require.NoError(t, err)
			t.Cleanup(e.queues.shutDown)
			for _, w := range []reloader.Workload{web, worker} {
				a := newApp(w).with(func(a *app) { a.annotations = map[string]string{keys.SecretProviderClassNamed: "vault"} })
				e.intake.observe(w, a.recorded(t).meta(), moment{})
			}
			f := e.podStatusFeed(area{})
			require.NoError(t, f.Replace([]any{comes("web-1", "a", 10), comes("web-2", "a", 11), comes("worker-1", "a", 12)}, "12"))
			require.NoError(t, readQueued(t, e))
			for _, event := range tc.events {
				require.NoError(t, f.Update(event))
				require.NoError(t, readQueued(t, e))
			}
			var got []reloader.Workload
			for _, w := range []reloader.Workload{web, worker} {
				if len(e.ledger.due(w)) > 0 {
					got = append(got, w)
				}
			}
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.wantLists, lists)
			assert.True(t, e.ledger.allRead())
		})
	}
}

// What could not be found out is asked again, and nothing is lost meanwhile.
func TestPodsThatCannotBeListedAreListedAgain(t *testing.T) {
	away := true
	server := play(t, func(r request) (int, http.Header, any) {
		if away {
			return failure(apierrors.NewInternalError(assert.AnError))
		}
		if strings.HasSuffix(r.path, "/pods") {
			return failure(apierrors.NewForbidden(corev1.Resource("pods"), "", assert.AnError))
		}
		return failure(apierrors.NewNotFound(classResource().GroupResource(), "vault"))
	})
	e, f, _ := watching(t, nil)
	c, err := newClient(server.config, server.config, logr.Discard())
	require.NoError(t, err)
	e.client = c
	require.NoError(t, f.Replace([]any{comes("1", "a", 10)}, "11"))
	require.NoError(t, readQueued(t, e))
	require.NoError(t, f.Add(comes("2", "b", 12)))
	require.NoError(t, f.Update(follows("2", "a", 13)))
	require.Error(t, e.readSource(t.Context(), vault()))
	assert.Empty(t, e.ledger.due(web))
	away = false
	require.NoError(t, e.readSource(t.Context(), vault()))
	assert.NotEmpty(t, e.ledger.due(web))
	assert.Empty(t, e.rotations.returned(vault()))
}

func TestWhichWorkloadAPodBelongsTo(t *testing.T) {
	tests := map[string]struct {
		owner        *metav1.OwnerReference
		labels       map[string]string
		annotations  map[string]string
		want         reloader.Workload
		wantTemplate string
	}{
		"a Deployment": {
			owner:  &metav1.OwnerReference{Kind: "ReplicaSet", Name: "a-b-5f7"},
			labels: map[string]string{"pod-template-hash": "5f7"},
			want:   reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: "a-b"}, wantTemplate: "5f7",
		},
		"a Rollout": {
			owner:  &metav1.OwnerReference{Kind: "ReplicaSet", Name: "a-5f7"},
			labels: map[string]string{"rollouts-pod-template-hash": "5f7"},
			want:   reloader.Workload{Kind: reloader.Rollout, Namespace: "shop", Name: "a"}, wantTemplate: "5f7",
		},
		"a ReplicaSet of its own": {owner: &metav1.OwnerReference{Kind: "ReplicaSet", Name: "a"}},
		"a ReplicaSet with another label": {
			owner: &metav1.OwnerReference{Kind: "ReplicaSet", Name: "a-1"}, labels: map[string]string{"pod-template-hash": "2"},
		},
		"a StatefulSet": {
			owner:  &metav1.OwnerReference{Kind: "StatefulSet", Name: "db"},
			labels: map[string]string{"controller-revision-hash": "db-6c"},
			want:   reloader.Workload{Kind: reloader.StatefulSet, Namespace: "shop", Name: "db"}, wantTemplate: "db-6c",
		},
		"a DaemonSet": {
			owner:  &metav1.OwnerReference{Kind: "DaemonSet", Name: "agent"},
			labels: map[string]string{"controller-revision-hash": "6c"},
			want:   reloader.Workload{Kind: reloader.DaemonSet, Namespace: "shop", Name: "agent"}, wantTemplate: "6c",
		},
		"a DeploymentConfig": {
			owner:       &metav1.OwnerReference{Kind: "ReplicationController", Name: "web-3"},
			annotations: map[string]string{"openshift.io/deployment-config.name": "web"},
			want:        reloader.Workload{Kind: reloader.DeploymentConfig, Namespace: "shop", Name: "web"}, wantTemplate: "web-3",
		},
		"a Job":  {owner: &metav1.OwnerReference{Kind: "Job", Name: "once"}},
		"nobody": {},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", Labels: tc.labels, Annotations: tc.annotations}}
			if tc.owner != nil {
				tc.owner.Controller = new(true)
				pod.OwnerReferences = []metav1.OwnerReference{*tc.owner}
			}
			w, template := kind.OwnerOf(pod)
			assert.Equal(t, tc.want, w)
			assert.Equal(t, tc.wantTemplate, template)
		})
	}
}
