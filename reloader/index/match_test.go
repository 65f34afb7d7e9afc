package index

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

// holder sets a workload of namespace tenant with that list.
func holder(x *Index, name, list string) {
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	x.Set(reloader.Workload{Kind: reloader.CronJob, Namespace: "tenant", Name: name},
		Entry{Policy: policy.Parse(map[string]string{s.Keys.ConfigMapNamed: list}, nil, s)})
}

func configMap(name string) reloader.Source {
	return reloader.Source{Kind: reloader.ConfigMap, Namespace: "tenant", Name: name}
}

func TestMatching(t *testing.T) {
	x := New(policy.Settings{Keys: annotation.DefaultKeys()})
	for i := range 150 {
		holder(x, fmt.Sprint("same-", i), "app-.*,other")
	}
	app, none := configMap("app-1"), configMap("none")
	assert.True(t, x.Depended(none), "it is not known yet")

	m, spent, complete := x.Match(app, 1<<30)
	assert.True(t, complete)
	assert.Positive(t, spent)
	assert.Len(t, x.Dependents(app, m, nil), 150)
	assert.Less(t, spent, 10_000, "equal lists are matched once")
	found(x, none)
	assert.False(t, x.Depended(none))

	_, spent, complete = x.Match(app, 0)
	assert.True(t, complete, "what is known is remembered")
	assert.Zero(t, spent)

	holder(x, "new", "no.*")
	assert.True(t, x.Depended(none), "the new list has yet to be tried")
	m = found(x, none)
	assert.Len(t, x.Dependents(none, m, nil), 1)
	assert.True(t, x.Matched(reloader.Workload{Kind: reloader.CronJob, Namespace: "tenant", Name: "new"}, none, m))
	holder(x, "new", "none-.*")
	assert.Empty(t, x.Dependents(none, m, nil), "a list that is gone matches nothing")
	found(x, none)
	assert.False(t, x.Depended(none))
}

// TestMatchingGoesOnWhereItEnded: whatever a namespace may spend at a time, each
// call tries one list at least, and none twice.
func TestMatchingGoesOnWhereItEnded(t *testing.T) {
	x := New(policy.Settings{Keys: annotation.DefaultKeys()})
	const lists = 300
	for i := range lists {
		holder(x, fmt.Sprint("w-", i), fmt.Sprintf("(?:.?){200}%d|app", i))
	}
	s, calls := configMap(strings.Repeat("a", 253)), 0
	for complete := false; !complete; calls++ {
		_, _, complete = x.Match(s, 1)
	}
	assert.LessOrEqual(t, calls, lists+1)
	assert.Len(t, x.Dependents(configMap("app"), found(x, configMap("app")), nil), lists)
}

// TestWhatIsRememberedIsBounded: a tenant with many names and many lists has its
// share and no more, and is answered all the same.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	x := New(policy.Settings{Keys: annotation.DefaultKeys()})
	x.patterned = 1 << 20 // as many others have their share
	for i := range 40 {
		holder(x, fmt.Sprint("w-", i), fmt.Sprintf("(?:.?){5}x|.*%d", i%10))
	}
	for i := range 1_000 {
		s := configMap(fmt.Sprintf("%s-%d", strings.Repeat("a", 200), i))
		m := found(x, s)
		if i%500 == 0 {
			assert.Len(t, x.Dependents(s, m, nil), 4)
		}
	}
	p := &x.namespaces["tenant"].patterns[0]
	assert.LessOrEqual(t, p.bytes, minShare)
	assert.LessOrEqual(t, p.compiled, minShare)
	sum, compiled := 0, 0
	for name, m := range p.known {
		sum += sizeOf(name, m)
	}
	for _, set := range p.sets {
		compiled += set.matcher.Bytes()
	}
	assert.Equal(t, sum, p.bytes)
	assert.Equal(t, compiled, p.compiled)
	for i := range 40 {
		x.Delete(reloader.Workload{Kind: reloader.CronJob, Namespace: "tenant", Name: fmt.Sprint("w-", i)})
	}
	assert.Empty(t, x.namespaces)
	assert.Equal(t, 1<<20, x.patterned)
}

// TestListsThatAreGoneTakeNoMemory: a tenant writes another list of the greatest
// length every time, and has it matched.
func TestListsThatAreGoneTakeNoMemory(t *testing.T) {
	x := New(policy.Settings{Keys: annotation.DefaultKeys()})
	holder(x, "stays", "app|b.*")
	app := configMap("app")
	entries := strings.Repeat("x.y,", 1_900)
	before := heap()
	for i := range 1_000 {
		holder(x, "changes", fmt.Sprintf("%sapp|%d.*", entries, i))
		m := found(x, app)
		require.Len(t, x.Dependents(app, m, nil), 2)
	}
	assert.Less(t, int64(heap())-int64(before), int64(1<<20))
	m := found(x, app)
	assert.Len(t, x.Dependents(app, m, nil), 2)
	assert.LessOrEqual(t, len(m.sets), 2+maxGone)
	runtime.KeepAlive(x)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
