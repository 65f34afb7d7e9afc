package report

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
)

// What is kept of a reload takes the same however many sources it had, and reads the
// same.
func TestABriefReloadReadsTheSame(t *testing.T) {
	for _, n := range []int{0, 1, mostKept, mostKept + 1, 2_000} {
		r := Reload{Workload: reloader.Workload{Kind: reloader.Deployment, Namespace: "a", Name: "b"}}
		for i := range n {
			r.Sources = append(r.Sources, reloader.Source{Kind: reloader.Secret, Namespace: "a", Name: fmt.Sprint(i)})
		}
		brief := r.Brief()
		assert.LessOrEqual(t, cap(brief.Sources), 2*mostKept, n)
		assert.Equal(t, n, len(brief.Sources)+brief.More)
		assert.Equal(t, takenBackMessage(r, "helm"), takenBackMessage(brief, "helm"))
		assert.Equal(t, changes(r), changes(brief))
		assert.Equal(t, brief, brief.Brief())
	}
}
