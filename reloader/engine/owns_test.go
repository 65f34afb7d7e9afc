package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ownedBy(manager string, variables ...string) metav1.Object {
	fields := `{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{"f:env":{` + strings.Join(variables, ",") + `}}}}}}}`
	return &metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: manager, FieldsV1: metav1.NewFieldsV1(fields)}}}
}

func TestWhoOwnsMarks(t *testing.T) {
	mark := func(name string) string { return variablePrefix + name + variableSuffix }
	ours := func(name string) string { return `"` + mark(name) + `":{".":{},"f:name":{},"f:value":{}}` }
	taken := func(name string) string { return `"` + mark(name) + `":{".":{},"f:name":{}}` }
	tests := map[string]struct {
		meta  metav1.Object
		marks []string
		want  bool
	}{
		"all":                             {ownedBy(FieldManager, ours("A"), ours("B")), []string{mark("A"), mark("B")}, true},
		"all, and variables of the user":  {ownedBy(FieldManager, ours("0"), taken("1"), ours("A")), []string{mark("A")}, true},
		"one is missing":                  {ownedBy(FieldManager, ours("A")), []string{mark("A"), mark("B")}, false},
		"the value is another's":          {ownedBy(FieldManager, taken("A"), ours("B")), []string{mark("A")}, false},
		"a name that ours begins with":    {ownedBy(FieldManager, ours("AB")), []string{mark("A")}, false},
		"it is another's":                 {ownedBy("kubectl", ours("A")), []string{mark("A")}, false},
		"an item with another key, too":   {ownedBy(FieldManager, `"k:{\"name\":\"x\",\"ip\":\"1\"}":{}`, ours("A")), []string{mark("A")}, true},
		"an item of endless name":         {ownedBy(FieldManager, `"k:{\"name\":\"`+strings.Repeat("x", 5_000)+`":{}`, ours("A")), []string{mark("A")}, true},
		"the annotation":                  {ownedBy(FieldManager, `"f:`+keys.LastReloadedFrom+`":{}`), []string{"f:" + keys.LastReloadedFrom}, true},
		"the annotation is not there":     {ownedBy(FieldManager, ours("A")), []string{"f:" + keys.LastReloadedFrom}, false},
		"no marks, which nobody can take": {ownedBy(FieldManager), nil, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, owns(tc.meta, tc.marks)) })
	}
}

// An event of a workload with a hundred marks among a megabyte of fields costs what
// one with a single mark costs, or whoever makes it holds up the watch of its kind.
func TestManyMarksAreLookedForAtOnce(t *testing.T) {
	var variables, marks []string
	for i := range 12_000 {
		mark := variablePrefix + fmt.Sprintf("STAKATER_A%05d_CONFIGMAP", i) + variableSuffix
		variables = append(variables, `"`+mark+`":{".":{},"f:name":{},"f:value":{}}`)
		marks = append(marks, mark)
	}
	meta, marks := ownedBy(FieldManager, variables...), marks[len(marks)-100:]
	took := func(marks []string) time.Duration {
		best := time.Hour
		for range 5 {
			started := time.Now()
			assert.True(t, owns(meta, marks))
			best = min(best, time.Since(started))
		}
		return best
	}
	assert.Less(t, took(marks), 10*took(marks[:1]))
}
