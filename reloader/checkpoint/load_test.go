package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestLoadReturnsWhatAnotherStoreWrote(t *testing.T) {
	r := newRig(t, newFake())
	assert.Equal(t, Summary{Fresh: true}, r.load(t))
	for n := range 1000 {
		r.Set(source(n), entry(n))
	}
	require.NoError(t, r.Flush(t.Context()))

	other := newRig(t, r.fake)
	assert.Equal(t, Summary{Entries: 1000, Written: time.UnixMilli(noon.UnixMilli())}, other.load(t))
	for n := range 1000 {
		got, ok := other.Lookup(source(n))
		require.True(t, ok)
		require.Equal(t, entry(n), got)
	}
	gets, updates := r.fake.counts()
	assert.Equal(t, 2*Shards, gets)
	require.NoError(t, other.Flush(t.Context()))
	assert.Equal(t, updates, r.fake.writes(), "nothing changed, nothing written")
}

func TestLoadDiscardsWhatWasInMemory(t *testing.T) {
	r := loaded(t, newFake())
	r.Set(source(1), entry(1))
	require.NoError(t, r.Flush(t.Context()))
	r.Set(source(1), entry(2))
	r.Set(source(2), entry(2))

	assert.Equal(t, 1, r.load(t).Entries)
	got, _ := r.Lookup(source(1))
	assert.Equal(t, entry(1), got)
	_, ok := r.Lookup(source(2))
	assert.False(t, ok)
	before := r.fake.writes()
	require.NoError(t, r.Flush(t.Context()))
	assert.Equal(t, before, r.fake.writes())
}

// TestLoadSetsDamageAside holds for every flaw: it is one problem in one line,
// the other shards count, and the next write moves the bytes aside, once.
func TestLoadSetsDamageAside(t *testing.T) {
	for name, tc := range flaws() {
		t.Run(name, func(t *testing.T) {
			writer := loaded(t, newFake())
			for n := range 100 {
				writer.Set(source(n), entry(n))
			}
			require.NoError(t, writer.Flush(t.Context()))
			lost := len(writer.shards[3].entries)
			writer.fake.put(3, tc.stored)

			r := newRig(t, writer.fake)
			summary := r.load(t)
			assert.Equal(t, 100-lost, summary.Entries)
			assert.False(t, summary.Fresh)
			require.Len(t, summary.Problems, 1)
			assertProblem(t, summary.Problems[0], tc.want.Error())

			require.NoError(t, r.Flush(t.Context()))
			want := tc.stored[:min(len(tc.stored), asideSize)]
			assert.True(t, bytes.Equal(want, r.fake.get(3).BinaryData[asideEntry]))
			r.Set(inShard(3), entry(1))
			require.NoError(t, r.Flush(t.Context()))
			assert.True(t, bytes.Equal(want, r.fake.get(3).BinaryData[asideEntry]), "later writes leave it alone")

			again := newRig(t, writer.fake)
			assert.Empty(t, again.load(t).Problems)
			got, ok := again.Lookup(inShard(3))
			assert.True(t, ok)
			assert.Equal(t, entry(1), got)
		})
	}
}

func TestDamageSetAsideDoesNotGrow(t *testing.T) {
	fake := newFake()
	for _, letter := range []string{"a", "b"} {
		fake.change(3, func(cm *corev1.ConfigMap) {
			aside := cm.BinaryData[asideEntry]
			cm.BinaryData = map[string][]byte{storedEntry: bytes.Repeat([]byte(letter), 900<<10)}
			if aside != nil {
				cm.BinaryData[asideEntry] = aside
			}
		})
		r := newRig(t, fake)
		r.load(t)
		require.NoError(t, r.Flush(t.Context()))
		assert.Equal(t, bytes.Repeat([]byte(letter), asideSize), fake.get(3).BinaryData[asideEntry])
		assert.Len(t, fake.get(3).BinaryData, 2)
	}
}

func TestTextInPlaceOfACheckpointIsSetAside(t *testing.T) {
	fake := newFake()
	fake.change(3, func(cm *corev1.ConfigMap) {
		cm.Data = map[string]string{storedEntry: "text", asideEntry: "more", "note": "kept"}
	})
	r := newRig(t, fake)
	assert.Len(t, r.load(t).Problems, Shards, "this one, and the others for being empty")
	require.NoError(t, r.Flush(t.Context()))
	cm := fake.get(3)
	assert.Equal(t, map[string]string{"note": "kept"}, cm.Data)
	assert.Equal(t, "text", string(cm.BinaryData[asideEntry]))
	assert.Contains(t, cm.Labels, "app.kubernetes.io/managed-by")
}

func TestAShardThatWasEmptiedShows(t *testing.T) {
	r := loaded(t, newFake())
	r.fake.put(5, nil)
	summary := newRig(t, r.fake)
	problems := summary.load(t).Problems
	require.Len(t, problems, 1)
	assertProblem(t, problems[0], "it is empty, unlike others")
	assert.Contains(t, problems[0], shardName(5))
}

func TestAShardThatIsRefused(t *testing.T) {
	tests := map[string]struct {
		answer     error
		wantCause  string
		wantRemedy string
	}{
		"missing, and nobody may make it": {
			missingError{apierrors.NewForbidden(configMaps, shardName(3), errors.New("no role"))},
			"the ConfigMap does not exist and cannot be created (", "let the service account create it, or create it empty",
		},
		"forbidden": {
			apierrors.NewForbidden(configMaps, shardName(3), errors.New("no role")),
			"the ConfigMap may not be read", "let the service account get and update it",
		},
		"unauthorized": {
			apierrors.NewUnauthorized("who is that"),
			"the ConfigMap may not be read", "let the service account get and update it",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			fake := newFake()
			loaded(t, fake)
			refuse := func(_ context.Context, verb, name string) error {
				var missing missingError
				switch {
				case name != shardName(3):
					return nil
				case !errors.As(tc.answer, &missing):
					return tc.answer
				case verb == "get":
					return apierrors.NewNotFound(configMaps, name)
				}
				return missing.error
			}
			fake.hook(refuse)
			r := newRig(t, fake)
			summary := r.load(t)
			assert.False(t, summary.Fresh)
			require.Len(t, summary.Problems, 1)
			assertProblem(t, summary.Problems[0], tc.wantCause, tc.wantRemedy)

			// In memory it works, and nobody is asked for a minute.
			r.Set(inShard(3), entry(1))
			gets, updates := fake.counts()
			require.NoError(t, r.Flush(t.Context()))
			got, ok := r.Lookup(inShard(3))
			assert.True(t, ok)
			assert.Equal(t, entry(1), got)
			r.clock.Step(refusedRetry)
			want := tc.answer
			if missing := (missingError{}); errors.As(want, &missing) {
				want = missing.error
			}
			require.ErrorIs(t, r.Flush(t.Context()), want)
			require.NoError(t, r.Flush(t.Context()))
			getsAfter, updatesAfter := fake.counts()
			assert.Equal(t, gets+1, getsAfter)
			assert.Equal(t, updates, updatesAfter)

			// Mended, it is written; what it held before is no rival's.
			fake.hook(nil)
			r.clock.Step(refusedRetry)
			require.NoError(t, r.Flush(t.Context()))
			other := newRig(t, fake)
			other.load(t)
			got, _ = other.Lookup(inShard(3))
			assert.Equal(t, entry(1), got)
		})
	}
}

func TestLoadFailsWhileTheServerDoesNotAnswer(t *testing.T) {
	tests := map[string]error{
		"no connection":     errors.New("connection refused"),
		"an internal error": apierrors.NewInternalError(errors.New("etcd")),
		"too many requests": apierrors.NewTooManyRequests("slow down", 1),
		"a timeout":         apierrors.NewTimeoutError("late", 1),
		"a server timeout":  apierrors.NewServerTimeout(configMaps, "get", 1),
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			r := loaded(t, newFake())
			r.Set(source(1), entry(1))
			r.fake.hook(func(_ context.Context, _, name string) error {
				if name == shardName(6) {
					return answer
				}
				return nil
			})
			_, err := r.Load(t.Context())
			require.ErrorIs(t, err, answer)
			_, ok := r.Lookup(source(1))
			assert.True(t, ok, "the memory is as it was")
			r.fake.hook(nil)
			assert.Empty(t, r.load(t).Problems)
		})
	}
	t.Run("the context is done", func(t *testing.T) {
		r := newRig(t, newFake())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := r.Load(ctx)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// assertProblem holds that a problem is one line that says what is lost.
func assertProblem(t *testing.T, problem string, parts ...string) {
	t.Helper()
	for _, part := range append(parts, "ops/reloader-checkpoint-", "are not noticed") {
		assert.Contains(t, problem, part)
	}
	assert.NotContains(t, problem, "\n")
	assert.Less(t, strings.Count(problem, "")-1, 300)
}

func TestSummaryTellsTheNewestWrite(t *testing.T) {
	r := loaded(t, newFake())
	for _, n := range []int{2, 6, 4} {
		r.clock.Step(time.Hour)
		r.Set(inShard(n), entry(n))
		require.NoError(t, r.Flush(t.Context()))
	}
	want := time.UnixMilli(noon.Add(3 * time.Hour).UnixMilli())
	assert.Equal(t, want, newRig(t, r.fake).load(t).Written)
}

// The version of the engine that has led before is that of the newest write.
func TestSummaryTellsWhetherVersion1HasWritten(t *testing.T) {
	r := loaded(t, newFake())
	write := func(n int) Summary {
		r.clock.Step(time.Hour)
		r.Set(inShard(n), entry(n))
		require.NoError(t, r.Flush(t.Context()))
		return newRig(t, r.fake).load(t)
	}
	assert.False(t, newRig(t, newFake()).load(t).Version1, "there is no checkpoint yet")
	assert.False(t, write(1).Version1)
	ours := r.writer
	r.writer = [writerSize]byte{1, 2, 3, 4, 5, 6, 7, 8}
	assert.True(t, write(2).Version1)
	r.writer = ours
	assert.False(t, write(3).Version1)
	assert.NotEqual(t, ours, newRig(t, newFake()).writer, "each store has another one")
}

func TestANewLoadDoesNotWaitForARefusal(t *testing.T) {
	r := loaded(t, newFake())
	r.fake.remove(3)
	r.load(t)
	r.fake.put(3, nil)
	r.load(t)
	r.Set(inShard(3), entry(1))
	require.NoError(t, r.Flush(t.Context()))
	assert.NotEmpty(t, r.fake.stored(3))
}

func TestShardsThatDoNotExistAreCreated(t *testing.T) {
	fake := newFake()
	for n := range Shards {
		fake.remove(n)
	}
	r := newRig(t, fake)
	assert.Equal(t, Summary{Fresh: true}, r.load(t))
	r.Set(source(1), entry(1))
	require.NoError(t, r.Flush(t.Context()))

	next := newRig(t, fake)
	assert.Equal(t, 1, next.load(t).Entries)
	fake.remove(idOf(source(1)).shard())
	last := newRig(t, fake)
	problems := last.load(t).Problems
	require.Len(t, problems, 1)
	assertProblem(t, problems[0], "it is empty, unlike others", "it is written anew")
}

func TestShardsThatNobodyMayCreateAreOneProblem(t *testing.T) {
	fake := newFake()
	for n := range Shards {
		fake.remove(n)
	}
	fake.hook(func(_ context.Context, verb, name string) error {
		if verb == "create" {
			return apierrors.NewForbidden(configMaps, name, errors.New("no role"))
		}
		return nil
	})
	r := newRig(t, fake)
	problems := r.load(t).Problems
	require.Len(t, problems, 1)
	assertProblem(t, problems[0], "ops/reloader-checkpoint-0 to -7", "cannot be created (", "for all sources", "let the service account create it")
	r.Set(source(1), entry(1))
	_, ok := r.Lookup(source(1))
	assert.True(t, ok, "it works in memory")

	fake.hook(nil)
	r.clock.Step(refusedRetry)
	require.NoError(t, r.Flush(t.Context()))
	assert.Equal(t, 1, newRig(t, fake).load(t).Entries, "as soon as it may, it is written")
}

// A hole in the decoder is found by what somebody has written into a ConfigMap.
func TestAPanicIsAFlawOfItsShard(t *testing.T) {
	writer := loaded(t, newFake())
	for n := range 100 {
		writer.Set(source(n), entry(n))
	}
	require.NoError(t, writer.Flush(t.Context()))

	r := newRig(t, writer.fake)
	r.decode = func(stored []byte, shard int, key [keySize]byte) (header, map[id]packed, error) {
		if shard == 3 {
			panic("of the text of a stranger")
		}
		return decode(stored, shard, key)
	}
	summary := r.load(t)
	assert.Len(t, summary.Problems, 1)
	assert.NotContains(t, summary.Problems[0], "stranger")
	assert.Positive(t, summary.Entries)
	assert.Less(t, summary.Entries, 100)
	require.NoError(t, r.Flush(t.Context()), "it is written anew")
}
