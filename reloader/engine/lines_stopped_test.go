package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
)

func TestNoNamespaceKeepsAPlaceThatItDoesNotTake(t *testing.T) {
	t.Parallel()
	for _, swept := range []bool{false, true} {
		l, start := newLines(), time.Unix(1_000, 0)
		victim := reloader.Workload{Kind: reloader.Deployment, Namespace: "victim", Name: "web"}
		served := false
		for second := 0; second < 60 && !served; second++ {
			now := start.Add(time.Duration(second) * time.Second)
			// Each asks once, then it is deleted.
			l.join(reloader.Workload{Kind: reloader.Deployment, Namespace: "hostile", Name: fmt.Sprint(second)}, now)
			l.join(victim, now)
			served = l.call(victim, now, 1, func(string) int { return 1 })
			if swept {
				l.sweep(now)
			}
		}
		assert.True(t, served, "swept: %t", swept)
	}
}
