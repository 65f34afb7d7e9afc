package fair

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/util/workqueue"
)

// groupOf is what stands before the slash.
func groupOf(key string) string {
	group, _, _ := strings.Cut(key, "/")
	return group
}

func fill(o *Order[string], keys ...string) {
	for _, key := range keys {
		o.Push(key)
	}
}

// take hands out what may be handed out, without Done.
func take(o *Order[string]) (keys []string) {
	for o.Len() > 0 {
		keys = append(keys, o.Pop())
	}
	return keys
}

func TestWhoIsNext(t *testing.T) {
	tests := map[string]struct {
		share int
		push  []string
		want  []string
	}{
		"nobody":                           {},
		"one group is first come first":    {push: []string{"a/1", "a/2", "a/3"}, want: []string{"a/1", "a/2", "a/3"}},
		"groups take turns":                {push: []string{"a/1", "a/2", "a/3", "b/1", "c/1", "b/2"}, want: []string{"a/1", "b/1", "c/1", "a/2", "b/2", "a/3"}},
		"a share is not exceeded":          {share: 2, push: []string{"a/1", "a/2", "a/3", "b/1"}, want: []string{"a/1", "b/1", "a/2"}},
		"a share of one":                   {share: 1, push: []string{"a/1", "a/2", "b/1", "b/2"}, want: []string{"a/1", "b/1"}},
		"the whole cluster has a group":    {push: []string{"/1", "a/1", "/2"}, want: []string{"/1", "a/1", "/2"}},
		"the share of a group that has it": {share: 3, push: []string{"a/1", "a/2", "a/3", "a/4"}, want: []string{"a/1", "a/2", "a/3"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := NewOrder(groupOf, tc.share)
			fill(o, tc.push...)
			assert.Equal(t, len(tc.push), o.Waiting())
			assert.Equal(t, tc.want, take(o))
			assert.Equal(t, len(tc.push)-len(tc.want), o.Waiting())
		})
	}
}

func TestWhoIsDoneMakesRoom(t *testing.T) {
	o := NewOrder(groupOf, 1)
	fill(o, "a/1", "a/2", "b/1")
	require.Equal(t, []string{"a/1", "b/1"}, take(o))
	o.Done("b/1")
	assert.Zero(t, o.Len())
	o.Done("a/1")
	assert.Equal(t, []string{"a/2"}, take(o))
	o.Done("a/2")
	o.Done("a/2") // one too many
	assert.Empty(t, o.groups, "nothing is kept of who has nothing")
}

// A worker that waits must hear of a key that becomes free because another one is
// done, and none may be left behind.
func TestWorkersOfAQueueLeaveNothing(t *testing.T) {
	const workers, keys = 8, 500
	o := NewOrder(groupOf, workers/2)
	q := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{Queue: o})
	handled := make(chan string, 3*keys)
	stopped := make(chan struct{})
	for range workers {
		go func() {
			defer func() { stopped <- struct{}{} }()
			for {
				key, shutDown := q.Get()
				if shutDown {
					return
				}
				handled <- key
				o.Done(key)
				q.Done(key)
			}
		}()
	}
	for i := range keys {
		for _, group := range []string{"a", "b", "c"} {
			q.Add(fmt.Sprintf("%s/%d", group, i))
		}
	}
	got := map[string]int{}
	for range 3 * keys {
		got[<-handled]++
	}
	q.ShutDown()
	for range workers {
		<-stopped
	}
	assert.Len(t, got, 3*keys)
}

func FuzzOrder(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 0, 9, 1, 0}, 2)
	f.Fuzz(func(t *testing.T, steps []byte, share int) {
		share = max(0, share%4)
		o := NewOrder(groupOf, share)
		working, pushed, popped := map[string][]string{}, 0, 0
		last := map[string]int{}
		for i, step := range steps {
			switch group := string('a' + rune(step%4)); {
			case step%3 == 0 && o.Len() > 0:
				key := o.Pop()
				g, n := groupOf(key), 0
				_, err := fmt.Sscanf(key[2:], "%d", &n)
				require.NoError(t, err)
				require.GreaterOrEqual(t, n, last[g], "first come, first served")
				last[g] = n
				working[g] = append(working[g], key)
				popped++
			case step%3 == 1 && len(working[group]) > 0:
				o.Done(working[group][0])
				working[group] = working[group][1:]
			default:
				o.Push(fmt.Sprintf("%s/%d", group, i))
				pushed++
			}
			for g, keys := range working {
				require.True(t, share == 0 || len(keys) <= share, "%s has more than its share", g)
			}
			require.Equal(t, pushed-popped, o.Waiting())
		}
		for o.Waiting() > 0 {
			require.True(t, o.Len() > 0 || func() bool {
				for g, keys := range working {
					if len(keys) > 0 {
						o.Done(keys[0])
						working[g] = keys[1:]
						return true
					}
				}
				return false
			}(), "a key waits and nobody works")
			if o.Len() > 0 {
				key := o.Pop()
				working[groupOf(key)] = append(working[groupOf(key)], key)
			}
		}
	})
}

func BenchmarkQueue(b *testing.B) {
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("namespace-%d/%d", i%50, i)
	}
	run := func(b *testing.B, q *workqueue.Typed[string], done func(string)) {
		b.ReportAllocs()
		for i := range b.N {
			q.Add(keys[i%len(keys)])
			key, _ := q.Get()
			done(key)
			q.Done(key)
		}
	}
	b.Run("fair", func(b *testing.B) {
		o := NewOrder(groupOf, 16)
		run(b, workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{Queue: o}), o.Done)
	})
	b.Run("client-go's", func(b *testing.B) {
		run(b, workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{}), func(string) {})
	})
}
