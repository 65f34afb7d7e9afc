package kind

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
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
	// Value derives from the source's content and the rest of the template,
	// never from a clock: the same change gives the same value.
	Value string
	// Container carries the environment variable.
	Container string
	// Env is the variable's name.
	Env string
	// UsedBy are the containers that use the source, sorted.
	UsedBy []string
}

// Change is one reload of one workload.
type Change struct {
	// UID is the precondition: the API server refuses the patch if another
	// workload has taken the name.
	UID types.UID
	// Marks of the sources that changed; at least one.
	Marks    []Mark
	Strategy Strategy
	// Record is the index record for the generation that the patch makes;
	// empty leaves the workload without one.
	Record string
	Keys   policy.Keys
}

// The patch, as far as it is ours. Strategic merge finds containers and
// variables by name, so that nothing needs to be read before.
type (
	object struct {
		Metadata metadata `json:"metadata"`
		Spec     spec     `json:"spec"`
	}
	metadata struct {
		UID types.UID `json:"uid,omitempty"`
		// An annotation that is nil is removed.
		Annotations map[string]*string `json:"annotations,omitempty"`
	}
	spec struct {
		Template template `json:"template"`
	}
	template struct {
		Metadata *metadata `json:"metadata,omitempty"`
		Spec     *podSpec  `json:"spec,omitempty"`
	}
	podSpec struct {
		Containers []container `json:"containers"`
	}
	container struct {
		Name string     `json:"name"`
		Env  []variable `json:"env"`
	}
	variable struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

// reloadedFrom is the value of the last-reloaded-from annotation. The first
// source has the place that today's readers know; Also holds the others that
// changed with it.
type reloadedFrom struct {
	Type          string         `json:"type"`
	Name          string         `json:"name"`
	Namespace     string         `json:"namespace"`
	Hash          string         `json:"hash"`
	ContainerRefs []string       `json:"containerRefs"`
	Also          []reloadedFrom `json:"also,omitempty"`
}

func templatePatch(c Change) ([]byte, types.PatchType, error) {
	if len(c.Marks) == 0 {
		return nil, "", fmt.Errorf("patch without marks")
	}
	marks := slices.SortedFunc(slices.Values(c.Marks), func(a, b Mark) int {
		return strings.Compare(a.Source.String(), b.Source.String())
	})
	p := object{Metadata: metadata{UID: c.UID}}
	if c.Record != "" {
		p.Metadata.Annotations = map[string]*string{c.Keys.Index: &c.Record}
	}
	switch c.Strategy {
	case EnvVars:
		// A mark that was left by the other strategy is newer than a variable of
		// the same content: with it gone, that variable starts pods.
		p.Spec.Template.Metadata = &metadata{Annotations: map[string]*string{c.Keys.LastReloadedFrom: nil}}
		p.Spec.Template.Spec = &podSpec{Containers: markedContainers(marks)}
	case Annotations:
		from, err := json.Marshal(reloadedFromOf(marks))
		if err != nil {
			return nil, "", fmt.Errorf("encode %s: %w", c.Keys.LastReloadedFrom, err)
		}
		p.Spec.Template.Metadata = &metadata{Annotations: map[string]*string{c.Keys.LastReloadedFrom: new(string(from))}}
	default:
		return nil, "", fmt.Errorf("unknown reload strategy %q", c.Strategy)
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, "", fmt.Errorf("encode patch: %w", err)
	}
	return body, types.StrategicMergePatchType, nil
}

func markedContainers(marks []Mark) []container {
	var containers []container
	for _, m := range marks {
		v := variable{Name: m.Env, Value: m.Value}
		i := slices.IndexFunc(containers, func(c container) bool { return c.Name == m.Container })
		if i < 0 {
			containers = append(containers, container{Name: m.Container, Env: []variable{v}})
			continue
		}
		containers[i].Env = append(containers[i].Env, v)
	}
	return containers
}

func reloadedFromOf(marks []Mark) reloadedFrom {
	all := make([]reloadedFrom, len(marks))
	for i, m := range marks {
		all[i] = reloadedFrom{
			Type:          strings.ToUpper(string(m.Source.Kind)),
			Name:          m.Source.Name,
			Namespace:     m.Source.Namespace,
			Hash:          m.Value,
			ContainerRefs: append([]string{}, m.UsedBy...),
		}
	}
	first := all[0]
	first.Also = all[1:]
	return first
}
