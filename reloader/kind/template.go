package kind

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/fingerprint"
)

// Strategy is where in the pod template a reload leaves its mark.
type Strategy string

// The strategies.
const (
	// EnvVars sets an environment variable per source.
	EnvVars Strategy = "env-vars"
	// Annotations sets one annotation.
	Annotations Strategy = "annotations"
)

// ParseStrategy returns the strategy with that name.
func ParseStrategy(name string) (Strategy, error) {
	switch s := Strategy(name); s {
	case EnvVars, Annotations:
		return s, nil
	}
	return "", fmt.Errorf("unknown reload strategy %q: use %s or %s", name, EnvVars, Annotations)
}

// Mark is what one source contributes to a reload.
type Mark struct {
	Source reloader.Source
	// Value derives from the source's name and content and the rest of the
	// template, never from a clock: the same change gives the same value.
	Value string
	// Content is the source's fingerprint. It is written nowhere: other sources
	// of the same content have it, too.
	Content fingerprint.Fingerprint
	// Container carries the environment variable.
	Container string
	// Env is the variable's name.
	Env string
	// UsedBy are the containers that use the source, sorted.
	UsedBy []string
	// Written is when the content came to be, zero if that is not known. It
	// tells a return to older content from what was done for it before.
	Written time.Time
}

// Change is one reload of one workload.
type Change struct {
	// UID is the precondition: the API server refuses the patch if another
	// workload has taken the name.
	UID types.UID
	// Marks of the sources that changed; at least one.
	Marks    []Mark
	Strategy Strategy
	// ByPlace has variables set by their places: merging them would move those of
	// the user, or be refused.
	ByPlace bool
	// Record is the index record for the generation that the patch makes;
	// empty leaves the workload without one.
	Record string
	Keys   annotation.Keys
	// At is the time, for fields that want one. It decides nothing.
	At time.Time
	// Pause of a Deployment that the same patch changes; nil leaves it alone.
	Pause *Pause
	// Compact is for a workload whose annotations leave no room: the mark is a
	// digest in place of names, and the record is removed.
	Compact bool
}

// maxVariables is how many sources of one reload get a variable each. A pod
// template with thousands of them comes near to what etcd takes.
const maxVariables = 100

// Place is where in the pod template the change leaves its mark. Many sources
// are one annotation whatever the strategy: the next reload that sets variables
// removes it, so that going back to what those say starts pods.
func (c Change) Place() Strategy {
	if c.Strategy == EnvVars && (c.Compact || len(c.Marks) > maxVariables) {
		return Annotations
	}
	return c.Strategy
}

// sorted returns the marks in a fixed order.
func (c Change) sorted() []Mark {
	return slices.SortedFunc(slices.Values(c.Marks), func(a, b Mark) int {
		return strings.Compare(a.Source.String(), b.Source.String())
	})
}

// markTemplate puts the marks into a template of its own.
func (c Change) markTemplate(t *corev1.PodTemplateSpec) error {
	switch c.Place() {
	case EnvVars:
		for _, m := range c.sorted() {
			i := containerNamed(t, m.Container)
			if i < 0 {
				return fmt.Errorf("%w %q", ErrNoContainer, m.Container)
			}
			env := &t.Spec.Containers[i].Env
			*env = slices.DeleteFunc(*env, func(v corev1.EnvVar) bool { return v.Name == m.Env })
			*env = append(*env, corev1.EnvVar{Name: m.Env, Value: m.Value})
		}
		delete(t.Annotations, c.Keys.LastReloadedFrom)
		return nil
	case Annotations:
		text, err := c.reloadedFromText()
		if err != nil {
			return err
		}
		if t.Annotations == nil {
			t.Annotations = make(map[string]string, 1)
		}
		t.Annotations[c.Keys.LastReloadedFrom] = text
		return nil
	}
	return unknownStrategy(c.Strategy)
}

// MarkedIn reports whether a template has the marks already.
func (c Change) MarkedIn(t *corev1.PodTemplateSpec) bool {
	if c.Place() == Annotations {
		text, err := c.reloadedFromText()
		return err == nil && t.Annotations[c.Keys.LastReloadedFrom] == text
	}
	if _, newer := t.Annotations[c.Keys.LastReloadedFrom]; newer {
		return false
	}
	return !slices.ContainsFunc(c.Marks, func(m Mark) bool {
		i := containerNamed(t, m.Container)
		return i < 0 || !slices.Contains(t.Spec.Containers[i].Env, corev1.EnvVar{Name: m.Env, Value: m.Value})
	})
}

// Within returns the change as it fits a template. Where the name of a mark stands
// for a value that comes from elsewhere, it is the user's, and the mark gets
// another one.
func (c Change) Within(t *corev1.PodTemplateSpec) Change {
	if c.Strategy != EnvVars {
		return c
	}
	c.Marks = slices.Clone(c.Marks)
	for i := range c.Marks {
		m := &c.Marks[i]
		at := containerNamed(t, m.Container)
		for n := 1; at >= 0 && taken(t.Spec.Containers[at].Env, m.Env); n++ {
			m.Env = reloader.EnvName(m.Source.Kind, fmt.Sprint(m.Source.Name, "-reloader-", n))
		}
	}
	return c
}

func taken(env []corev1.EnvVar, name string) bool {
	return slices.ContainsFunc(env, func(v corev1.EnvVar) bool { return v.Name == name && v.ValueFrom != nil })
}

// ErrNoContainer is wrapped by the error of a change that is meant for another
// pod template than the present one.
var ErrNoContainer = errors.New("the pod template has no container")

func containerNamed(t *corev1.PodTemplateSpec, name string) int {
	return slices.IndexFunc(t.Spec.Containers, func(c corev1.Container) bool { return c.Name == name })
}

func unknownStrategy(s Strategy) error { return fmt.Errorf("unknown reload strategy %q", s) }
