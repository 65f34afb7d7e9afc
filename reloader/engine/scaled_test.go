package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAutoscalersCostNoReads(t *testing.T) {
	kubectl := manages("kubectl", at(1).time)
	by := func(manager, subresource string, second int) metav1.ManagedFieldsEntry {
		e := manages(manager, at(1).time.Add(time.Duration(second)*time.Second))
		e.Subresource = subresource
		return e
	}
	tests := map[string]struct {
		generation int64
		fields     []metav1.ManagedFieldsEntry
		wantRead   bool
	}{
		"a write to scale":                    {2, []metav1.ManagedFieldsEntry{kubectl, by("hpa", "scale", 9)}, false},
		"a write to scale, and of the status": {2, []metav1.ManagedFieldsEntry{kubectl, by("hpa", "scale", 9), by("controller", "status", 9)}, false},
		"a write to the object":               {2, []metav1.ManagedFieldsEntry{by("kubectl", "", 9)}, true},
		"a write to both":                     {3, []metav1.ManagedFieldsEntry{by("kubectl", "", 9), by("hpa", "scale", 9)}, true},
		"more writes than can be told apart":  {3, []metav1.ManagedFieldsEntry{kubectl, by("hpa", "scale", 9)}, true},
		"a write of which nothing is told":    {2, []metav1.ManagedFieldsEntry{kubectl}, true},
		"fields that somebody has emptied":    {2, nil, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			a := newApp(web).recorded(t)
			a.fields = []metav1.ManagedFieldsEntry{kubectl}
			settled(t, in, a)
			a.generation, a.fields = tc.generation, tc.fields
			in.observe(web, a.meta(), at(10))
			assert.Equal(t, tc.wantRead, in.open(web))
			if tc.wantRead {
				return
			}
			a.generation++
			a.fields = []metav1.ManagedFieldsEntry{kubectl, by("hpa", "scale", 20)}
			in.observe(web, a.meta(), at(20))
			assert.False(t, in.open(web), "and the next")
		})
	}
}
