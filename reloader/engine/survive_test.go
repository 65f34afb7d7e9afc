package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	testclock "k8s.io/utils/clock/testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
)

// holed shards panic at the first reads and writes.
type holed struct {
	shards
	reads, writes atomic.Int32
}

func (h *holed) Get(ctx context.Context, name string, o metav1.GetOptions) (*corev1.ConfigMap, error) {
	if h.reads.Add(-1) >= 0 {
		panic("a read")
	}
	return h.shards.Get(ctx, name, o)
}

func (h *holed) Update(ctx context.Context, c *corev1.ConfigMap, o metav1.UpdateOptions) (*corev1.ConfigMap, error) {
	if h.writes.Add(-1) >= 0 {
		panic("a write")
	}
	return h.shards.Update(ctx, c, o)
}

func TestAPanicOfTheCheckpointLosesNothing(t *testing.T) {
	kept := &holed{shards: shards{objects: map[string]*corev1.ConfigMap{}}}
	kept.reads.Store(1)
	kept.writes.Store(1)
	c := testclock.NewFakeClock(time.Now())
	e := newTestEngine(t, play(t, nil).config, new(told))
	store, err := checkpoint.New(kept, checkpoint.Options{Namespace: "system", Name: "checkpoint", KeyID: "key", FlushInterval: time.Millisecond})
	require.NoError(t, err)
	e.checkpoint, e.clock = store, c

	require.True(t, e.recall(t.Context()), "the read is tried again")
	e.checkpoint.Set(settings, checkpoint.Entry{Fingerprint: "v1-00000000000000000000000000000001", Version: 7})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { e.keep(ctx); close(ended) }()
	require.Eventually(t, c.HasWaiters, time.Minute, time.Millisecond)
	c.Step(stalledRetry)
	require.Eventually(t, func() bool { return entryOf(t, &kept.shards).Version == 7 }, time.Minute, time.Millisecond)

	kept.writes.Store(1)
	e.checkpoint.Set(settings, checkpoint.Entry{Fingerprint: "v1-00000000000000000000000000000001", Version: 8})
	require.Eventually(t, c.HasWaiters, time.Minute, time.Millisecond)
	stop()
	<-ended
	assert.EqualValues(t, 8, entryOf(t, &kept.shards).Version, "the last write is tried once more")
}

func TestAPanicOfWhatIsDoneOnceEndsNothing(t *testing.T) {
	e := newTestEngine(t, play(t, nil).config, new(told))
	e.leading = func(context.Context) { panic("of what others have written") }
	assert.NotPanics(t, func() { e.onceLeading(t.Context()) })
}

func TestAPanicOfARequestIsLeftToTheReflector(t *testing.T) {
	var broke []string
	w := &watcher{refusals: newRefusals(), broke: func(resource string, err error) {
		assert.True(t, panicked(err))
		broke = append(broke, resource)
	}}
	f := &feed{resource: sourceResource(reloader.ConfigMap)}
	_, err := ask(t.Context(), w, f, "list", func() (int, error) { panic("of an object") })
	assert.True(t, panicked(err))
	assert.Equal(t, []string{"configmaps"}, broke)
}

// The goroutine of a watch of reports has ended when the engine has.
func TestWatchesOfReportsAreWaitedFor(t *testing.T) {
	p := new(podStatuses)
	c := &client{statuses: p}
	source := watch.NewFake()
	reports := p.reports(source)
	waited := make(chan struct{})
	go func() { c.waitForReports(); close(waited) }()
	select {
	case <-waited:
		require.Fail(t, "it has not ended")
	default:
	}
	reports.Stop()
	<-waited
	assert.True(t, source.IsStopped())
	(&client{}).waitForReports() // without that integration
}
