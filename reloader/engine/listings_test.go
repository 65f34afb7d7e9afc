package engine

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
)

func in(namespace string, n int) (all []app) {
	for i := range n {
		all = append(all, newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: namespace, Name: strconv.Itoa(i)}))
	}
	return all
}

// Whatever a tenant has, the list of others is theirs alone.
func TestWhichListIsMade(t *testing.T) {
	spread := func() (all []app) {
		for i := range manyUnresolved + 1 {
			all = append(all, in(fmt.Sprint("team-", i), 1)...)
		}
		return all
	}
	tests := map[string]struct {
		all       []app
		of        string
		want      area
		wantLists bool
	}{
		"few":                                  {in("shop", 3), "shop", area{}, false},
		"many in one namespace":                {in("shop", manyUnresolved), "shop", area{namespace: "shop"}, true},
		"one beside many of another namespace": {append(in("evil", 10*manyUnresolved), in("shop", 1)...), "shop", area{}, false},
		"many of other namespaces, few each":   {spread(), "team-0", area{}, true},
		"and a namespace with many":            {append(in("evil", manyUnresolved), spread()...), "evil", area{namespace: "evil"}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, unreachable(t), new(told))
			for _, a := range tc.all {
				e.queues.resolve.Add(a.workload)
			}
			got, lists := e.crowd(reloader.Workload{Kind: reloader.Deployment, Namespace: tc.of})
			assert.Equal(t, tc.wantLists, lists)
			assert.Equal(t, tc.want, got)
		})
	}
}

// Objects that no list can hold, or that nobody can decode, are a matter of
// themselves: all others of the list are resolved.
func TestAListWithoutSomeOfItsObjects(t *testing.T) {
	strange := map[string]any{
		"of more than an answer may have": map[string]any{"metadata": map[string]string{"name": "strange", "namespace": "shop", "x": strings.Repeat("x", 11<<20)}},
		"that cannot be decoded":          map[string]any{"metadata": map[string]string{"name": "strange", "namespace": "shop"}, "spec": map[string]any{"replicas": "many"}},
	}
	for name, object := range strange {
		for _, whole := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, limits ignored: %t", name, whole), func(t *testing.T) {
				all := in("shop", manyUnresolved+1)
				server := play(t, func(r request) (int, http.Header, any) {
					items := []any{}
					for _, a := range all {
						if r.path == "/apis/apps/v1/namespaces/shop/deployments/"+a.workload.Name {
							return http.StatusOK, nil, a.object()
						}
						items = append(items, a.object())
					}
					items = append(items, object)
					if strings.HasSuffix(r.path, "strange") {
						return http.StatusOK, nil, object
					}
					var from, limit int
					_, _ = fmt.Sscanf(r.query, "continue=%d&limit=%d", &from, &limit)
					if from == 0 {
						_, _ = fmt.Sscanf(r.query, "limit=%d", &limit)
					}
					list := map[string]any{"items": items}
					if until := from + limit; until < len(items) && !whole {
						list = map[string]any{"items": items[from:until], "metadata": map[string]string{"continue": strconv.Itoa(until)}}
					} else if !whole {
						list["items"] = items[from:]
					}
					return http.StatusOK, nil, list
				})
				e := newTestEngine(t, server.config, new(told))
				for _, a := range all {
					e.intake.observe(a.workload, a.meta(), at(10))
				}
				require.NoError(t, resolveQueued(t, e))
				assert.True(t, e.intake.allResolved())
			})
		}
	}
}

func TestAListIsMadeOnceForAllWhoWait(t *testing.T) {
	l := newListings()
	shop := listOf{reloader.Deployment, area{namespace: "shop"}}
	first, leave := l.enter(shop)
	require.True(t, first)
	other, leaveOther := l.enter(listOf{reloader.StatefulSet, area{namespace: "shop"}})
	require.True(t, other, "another kind waits for nothing")
	leaveOther(true)

	var waiting sync.WaitGroup
	for range 4 {
		waiting.Go(func() {
			first, leave := l.enter(shop)
			assert.False(t, first)
			leave(false)
		})
	}
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.of[shop].users == 5
	}, time.Minute, time.Millisecond)
	leave(true)
	waiting.Wait()
	assert.Empty(t, l.of)

	_, leave = l.enter(shop)
	leave(false)
	first, leave = l.enter(shop)
	require.True(t, first, "one that failed is made again")
	leave(true)
	assert.Empty(t, l.of)
}
