package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/report"
)

// However many sources change at once, what is posted has a bound and says that it
// is cut; the id is still that of all of them.
func TestACallIsBounded(t *testing.T) {
	for n, wantMore := range map[int]int{1: 0, maxCallSources: 0, maxCallSources + 1: 1, 20_000: 19_000} {
		t.Run(fmt.Sprint(n, " sources"), func(t *testing.T) {
			e := newTestEngine(t, unreachable(t), new(told))
			debts := make([]debt, n)
			for i := range debts {
				name := fmt.Sprintf("%06d-%s", i, strings.Repeat("a", 246))
				debts[i] = debt{reloader.Source{Kind: reloader.SecretProviderClass, Namespace: strings.Repeat("n", 63), Name: name}, "b"}
			}
			to := target{policy: policy.Parse(map[string]string{keys.Auto: "true"}, nil, e.settings)}
			c := e.newCall(report.Reload{Workload: web, UID: "first"}, debts, to)
			assert.Len(t, c.Sources, min(n, maxCallSources))
			assert.Equal(t, wantMore, c.MoreSources)
			body, err := json.Marshal(c)
			require.NoError(t, err)
			assert.Less(t, len(body), 450<<10)
			assert.Equal(t, wantMore > 0, strings.Contains(string(body), "moreSources"), "what is small is as it was")

			if wantMore > 0 {
				debts[n-1].fingerprint = "c"
				other := e.newCall(report.Reload{Workload: web, UID: "first"}, debts, to)
				assert.NotEqual(t, c.ID, other.ID)
			}
		})
	}
}
