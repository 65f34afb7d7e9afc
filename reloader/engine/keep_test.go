package engine

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader/checkpoint"
)

// shards are the ConfigMaps of a checkpoint, each of which is refused to who has
// not seen its last write.
type shards struct {
	mu      sync.Mutex // guards everything below
	objects map[string]*corev1.ConfigMap
	writes  int
}

func (s *shards) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.ConfigMap, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[name]; o != nil {
		return o.DeepCopy(), nil
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "1"}}, nil
}

func (s *shards) Update(_ context.Context, o *corev1.ConfigMap, _ metav1.UpdateOptions) (*corev1.ConfigMap, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.objects[o.Name]; before != nil && before.ResourceVersion != o.ResourceVersion {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "configmaps"}, o.Name, nil)
	}
	s.writes++
	o = o.DeepCopy()
	o.ResourceVersion = strconv.Itoa(s.writes + 1)
	s.objects[o.Name] = o
	return o.DeepCopy(), nil
}

func (s *shards) Create(_ context.Context, o *corev1.ConfigMap, _ metav1.CreateOptions) (*corev1.ConfigMap, error) {
	return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "configmaps"}, o.Name)
}

// store returns a checkpoint that has been loaded.
func (s *shards) store(t *testing.T) *checkpoint.Store {
	t.Helper()
	c, err := checkpoint.New(s, checkpoint.Options{Namespace: "system", Name: "checkpoint", KeyID: "key", FlushInterval: 10 * time.Millisecond})
	require.NoError(t, err)
	_, err = c.Load(t.Context())
	require.NoError(t, err)
	return c
}

// A leader that was frozen wakes up with what it knew, and finds that the next
// one has written.
func TestWhoseCheckpointIsKept(t *testing.T) {
	const theirs, ours = 7, 8
	tests := map[string]struct {
		lease Lease
		want  uint64
	}{
		"that of a leader, whoever else has written": {nil, ours},
		"that of who has the lease":                  {&term{until: time.Now().Add(time.Hour)}, ours},
		"not that of who has lost it":                {&term{until: time.Now().Add(-time.Second)}, theirs},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			kept := &shards{objects: map[string]*corev1.ConfigMap{}}
			e := newTestEngine(t, play(t, nil).config, new(told))
			e.lease, e.checkpoint = tc.lease, kept.store(t)
			next := kept.store(t)
			next.Set(settings, checkpoint.Entry{Fingerprint: "v1-00000000000000000000000000000001", Version: theirs})
			require.NoError(t, next.Flush(t.Context()))

			e.checkpoint.Set(settings, checkpoint.Entry{Fingerprint: "v1-00000000000000000000000000000002", Version: ours})
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { e.keep(ctx); close(ended) }()
			if tc.want == ours {
				require.Eventually(t, func() bool { return entryOf(t, kept).Version == ours }, time.Minute, time.Millisecond)
				stop()
			}
			select {
			case <-ended:
			case <-time.After(time.Minute):
				require.Fail(t, "it goes on")
			}
			stop()
			assert.Equal(t, tc.want, entryOf(t, kept).Version)
		})
	}
}

func entryOf(t *testing.T, of *shards) checkpoint.Entry {
	t.Helper()
	entry, _ := of.store(t).Lookup(settings)
	return entry
}
