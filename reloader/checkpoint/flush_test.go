package checkpoint

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"k8s-reloader/reloader"
)

func TestABurstMakesAHandfulOfWrites(t *testing.T) {
	r := loaded(t, newFake())
	gets, before := r.fake.counts()
	stop := r.run(t)
	for n := range 1000 {
		r.Set(source(n), entry(n))
	}
	r.clock.Step(time.Second)
	r.eventually(t, before+Shards)
	for range 5 {
		for n := range 1000 {
			r.Set(source(n), entry(n))
		}
		r.clock.Step(time.Second)
	}
	require.NoError(t, stop())
	getsAfter, after := r.fake.counts()
	assert.Equal(t, Shards, after-before, "the same again is no change")
	assert.Equal(t, gets, getsAfter, "writes need no reads")
}

func TestOnlyShardsThatChangedAreWritten(t *testing.T) {
	r := loaded(t, newFake())
	before := r.fake.writes()
	r.Set(inShard(2), entry(1))
	require.NoError(t, r.Flush(t.Context()))
	assert.Equal(t, before+1, r.fake.writes())
	r.Delete(inShard(2))
	r.Delete(inShard(4))
	require.NoError(t, r.Flush(t.Context()))
	assert.Equal(t, before+2, r.fake.writes())
}

func TestALargeShardRestsLongerAfterAWrite(t *testing.T) {
	r := loaded(t, newFake())
	for n := range 5000 * Shards { // about 200 KiB per shard
		r.Set(source(n), entry(n))
	}
	require.NoError(t, r.Flush(t.Context()))
	before := r.fake.writes()
	r.Set(inShard(3), entry(1_000_000))
	tick := func() error {
		r.clock.Step(time.Second)
		_, err := r.flush(t.Context(), false)
		return err
	}
	require.NoError(t, tick())
	require.NoError(t, tick())
	assert.Equal(t, before, r.fake.writes())
	require.NoError(t, tick())
	assert.Equal(t, before+1, r.fake.writes())
	r.Set(inShard(3), entry(2_000_000))
	require.NoError(t, r.Flush(t.Context()))
	assert.Equal(t, before+2, r.fake.writes(), "a flush that was asked for does not wait")
}

func TestFlushBeforeLoadIsAnError(t *testing.T) {
	r := newRig(t, newFake())
	require.ErrorIs(t, r.Flush(t.Context()), errNotLoaded)
	assert.Zero(t, r.fake.writes())
}

// TestTwoStoresRace tells the story of an old leader that was stopped, and woke
// up after the new one had taken over.
func TestTwoStoresRace(t *testing.T) {
	fake, src := newFake(), inShard(3)
	old := loaded(t, fake)
	next := newRig(t, fake)
	next.load(t)

	next.Set(src, entry(2))
	require.NoError(t, next.Flush(t.Context()))

	old.Set(src, entry(1))
	old.Set(inShard(5), entry(1))
	before := fake.writes()
	require.ErrorIs(t, old.Flush(t.Context()), ErrConflict)
	assert.Equal(t, before+1, fake.writes(), "it stops at the first conflict")
	lookup := newRig(t, fake)
	lookup.load(t)
	got, _ := lookup.Lookup(src)
	assert.Equal(t, entry(2), got)

	// It may read again, and then goes on from there.
	assert.Equal(t, 1, old.load(t).Entries)
	got, _ = old.Lookup(src)
	assert.Equal(t, entry(2), got)

	// Or, if it is the leader after all, it writes what it has.
	next.Set(src, entry(3))
	require.NoError(t, next.Flush(t.Context()))
	old.Set(src, entry(4))
	require.ErrorIs(t, old.Flush(t.Context()), ErrConflict)
	require.NoError(t, old.Flush(t.Context()))
	lookup.load(t)
	got, _ = lookup.Lookup(src)
	assert.Equal(t, entry(4), got)
	next.Set(src, entry(5))
	require.ErrorIs(t, next.Flush(t.Context()), ErrConflict)
}

func TestWhoIsARival(t *testing.T) {
	good := func(key string) []byte {
		h := testHeader()
		h.key = keyOf(key)
		stored := encode(h, testRecords(5))
		return stored
	}
	otherFormat := good("key-1")
	otherFormat[8] = 9
	tests := map[string]struct {
		edit      func(cm *corev1.ConfigMap)
		wantErr   error
		wantLines int
	}{
		"a label is no rival": {edit: func(cm *corev1.ConfigMap) { cm.Labels["a"] = "b" }},
		"someone who empties it is none": {
			edit: func(cm *corev1.ConfigMap) { cm.BinaryData = nil }, wantLines: 1,
		},
		"someone who damages it is none": {
			edit: func(cm *corev1.ConfigMap) { cm.BinaryData[storedEntry] = []byte("x") }, wantLines: 1,
		},
		"another checkpoint is":                 {edit: func(cm *corev1.ConfigMap) { cm.BinaryData[storedEntry] = good("key-1") }, wantErr: ErrConflict},
		"so is one with another key":            {edit: func(cm *corev1.ConfigMap) { cm.BinaryData[storedEntry] = good("key-2") }, wantErr: ErrConflict},
		"and one of another version's Reloader": {edit: func(cm *corev1.ConfigMap) { cm.BinaryData[storedEntry] = otherFormat }, wantErr: ErrConflict},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := loaded(t, newFake())
			r.fake.change(3, tc.edit)
			r.Set(inShard(3), entry(1))
			err := r.Flush(t.Context())
			assert.Len(t, r.logs.all(), tc.wantLines)
			if tc.wantErr != nil {
				require.ErrorIs(t, err, tc.wantErr)
				return
			}
			require.NoError(t, err)
			other := newRig(t, r.fake)
			assert.Equal(t, 1, other.load(t).Entries)
		})
	}
}

func TestALabelOfOthersSurvives(t *testing.T) {
	r := loaded(t, newFake())
	r.fake.change(3, func(cm *corev1.ConfigMap) { cm.Labels["a"] = "b" })
	for n := range 2 {
		r.Set(inShard(3), entry(n))
		require.NoError(t, r.Flush(t.Context()))
	}
	assert.Equal(t, "b", r.fake.get(3).Labels["a"])
	assert.NotEmpty(t, r.fake.get(3).ManagedFields)
}

func TestAWriteThatFailsIsTriedAgain(t *testing.T) {
	tests := map[string]struct {
		answer error
		// lost is true if the write went through nevertheless.
		lost bool
	}{
		"no connection":                    {answer: errors.New("connection refused")},
		"an internal error":                {answer: apierrors.NewInternalError(errors.New("etcd"))},
		"an answer that got lost":          {answer: errors.New("connection reset"), lost: true},
		"a conflict that went through":     {answer: apierrors.NewConflict(configMaps, "x", nil), lost: true},
		"too many requests":                {answer: apierrors.NewTooManyRequests("slow down", 1)},
		"a context that ended too early":   {answer: context.DeadlineExceeded},
		"a deadline after it went through": {answer: context.DeadlineExceeded, lost: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := loaded(t, newFake())
			fail := true
			if tc.lost {
				r.fake.after = func(string) error {
					if fail {
						return tc.answer
					}
					return nil
				}
			} else {
				r.fake.hook(func(_ context.Context, verb, _ string) error {
					if fail && verb == "update" {
						return tc.answer
					}
					return nil
				})
			}
			r.Set(inShard(3), entry(1))
			require.ErrorIs(t, r.Flush(t.Context()), tc.answer)
			r.Set(inShard(3), entry(2))
			fail = false
			require.NoError(t, r.Flush(t.Context()), "the store does not take itself for a rival")

			other := newRig(t, r.fake)
			other.load(t)
			got, _ := other.Lookup(inShard(3))
			assert.Equal(t, entry(2), got)
			before := r.fake.writes()
			require.NoError(t, r.Flush(t.Context()))
			assert.Equal(t, before, r.fake.writes())
		})
	}
}

func TestRunLogsFailuresOnceAndTheirEnd(t *testing.T) {
	r := loaded(t, newFake())
	down := errors.New("connection refused")
	r.fake.hook(func(context.Context, string, string) error { return down })
	stop := r.run(t)
	r.Set(inShard(3), entry(1))
	for range 5 {
		gets, updates := r.fake.counts()
		r.clock.Step(time.Second)
		require.Eventually(t, func() bool {
			g, u := r.fake.counts()
			return g+u > gets+updates
		}, 10*time.Second, time.Millisecond)
	}
	r.fake.hook(nil)
	r.clock.Step(time.Second)
	require.Eventually(t, func() bool { return len(r.logs.all()) == 2 }, 10*time.Second, time.Millisecond)
	require.NoError(t, stop())
	logs := r.logs.all()
	require.Len(t, logs, 2)
	assert.Contains(t, logs[0], "connection refused")
	assert.Contains(t, logs[0], shardName(3))
	assert.Contains(t, logs[1], "up to date again")
}

func TestAShardThatVanishesIsAskedForEveryMinute(t *testing.T) {
	r := loaded(t, newFake())
	r.fake.remove(3)
	r.Set(inShard(3), entry(1))
	require.True(t, apierrors.IsNotFound(r.Flush(t.Context())))
	gets, updates := r.fake.counts()
	for range 30 {
		r.clock.Step(time.Second)
		require.NoError(t, r.Flush(t.Context()))
	}
	getsAfter, updatesAfter := r.fake.counts()
	assert.Equal(t, []int{gets, updates}, []int{getsAfter, updatesAfter})

	r.fake.put(3, nil)
	r.clock.Step(refusedRetry)
	require.NoError(t, r.Flush(t.Context()))
	assert.NotEmpty(t, r.fake.stored(3))
}

func TestRunFlushesWhenItEnds(t *testing.T) {
	r := loaded(t, newFake())
	stop := r.run(t)
	r.Set(source(1), entry(1))
	require.NoError(t, stop())
	other := newRig(t, r.fake)
	assert.Equal(t, 1, other.load(t).Entries)
}

// TestRunEndsAlthoughTheServerHangs also holds that nobody waits for the API
// server to read or change the memory.
func TestRunEndsAlthoughTheServerHangs(t *testing.T) {
	r := loaded(t, newFake())
	hangs := make(chan struct{}, Shards)
	r.fake.hook(func(ctx context.Context, _, _ string) error {
		hangs <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	require.Eventually(t, r.clock.HasWaiters, 10*time.Second, time.Millisecond)
	r.Set(inShard(3), entry(1))
	r.clock.Step(time.Second)
	<-hangs

	r.Set(inShard(3), entry(2))
	got, _ := r.Lookup(inShard(3))
	assert.Equal(t, entry(2), got)
	r.Delete(inShard(4))
	r.Retain(func(func(reloader.Source) bool) {})

	cancel()
	<-hangs // the last flush
	require.Empty(t, done)
	require.Eventually(t, func() bool {
		r.clock.Step(defaultGrace)
		return len(done) == 1
	}, 10*time.Second, time.Millisecond)
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestRunEndsAtAConflict(t *testing.T) {
	fake := newFake()
	r, rival := loaded(t, fake), newRig(t, fake)
	rival.load(t)
	rival.Set(inShard(3), entry(1))
	require.NoError(t, rival.Flush(t.Context()))

	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	require.Eventually(t, r.clock.HasWaiters, 10*time.Second, time.Millisecond)
	r.Set(inShard(3), entry(2))
	before := fake.writes()
	r.clock.Step(time.Second)
	require.ErrorIs(t, <-done, ErrConflict)
	assert.Equal(t, before+1, fake.writes(), "no last flush")
}

func TestRunWithoutLoadEnds(t *testing.T) {
	r := newRig(t, newFake())
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	require.Eventually(t, r.clock.HasWaiters, 10*time.Second, time.Millisecond)
	r.clock.Step(time.Second)
	require.ErrorIs(t, <-done, errNotLoaded)
}

func TestALabelBeforeTheFirstWriteOfANewLeaderIsNoRival(t *testing.T) {
	fake := newFake()
	loaded(t, fake)
	next := newRig(t, fake)
	next.load(t)
	fake.change(3, func(cm *corev1.ConfigMap) { cm.Labels["a"] = "b" })
	next.Set(inShard(3), entry(1))
	require.NoError(t, next.Flush(t.Context()))
}
