package kind

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
)

// Way is how a workload is reloaded.
type Way int

// The ways.
const (
	// ByPatch: one patch changes the pod template, or what else makes the
	// controller replace the pods.
	ByPatch Way = iota
	// ByRun: a Job is created from the template, as RunOf says.
	ByRun
	// ByReplacement: another one of the same name takes its place, as
	// Replacement says.
	ByReplacement
)

// Patch is the request that makes a change.
type Patch struct {
	// Body is empty if the workload has the marks already.
	Body []byte
	Type types.PatchType
	// Restarts is true if the pods are replaced by spec.restartAt, and the pod
	// template stays as it is.
	Restarts bool
}

// Reads reports whether the patch of a change is made from the workload as it
// stands. Others find containers and variables by name, so that nothing needs to be
// read before.
func (k Kind) Reads(c Change) bool {
	return k.custom && k.restarts != nil || c.Place() == EnvVars && (k.custom || c.ByPlace)
}

// Merges reports whether the API server merges the variables of a pod template
// one by one, and keeps account of who owns which.
func (k Kind) Merges() bool { return !k.custom }

// Patch returns the patch that makes the change. The same change gives the same
// bytes, and applying it twice changes nothing. m is the workload as it stands
// if Reads says so, and nil else.
func (k Kind) Patch(c Change, m *Manifest) (Patch, error) {
	switch {
	case len(c.Marks) == 0:
		return Patch{}, errors.New("patch without marks")
	case k.restarts != nil && k.restarts(m, c.Keys):
		return restartPatch(c, m)
	case k.Reads(c) && c.MarkedIn(m.Template):
		return Patch{}, nil
	case c.Place() == EnvVars && (k.custom || c.ByPlace):
		return variablesPatch(c, m)
	case !k.custom:
		patch, err := templatePatch(c, types.StrategicMergePatchType)
		if err == nil && c.Pause != nil {
			patch.Body, err = c.Pause.add(patch.Body, c)
		}
		return patch, err
	}
	return templatePatch(c, types.MergePatchType)
}

// A merge patch, as far as it is ours.
type (
	object struct {
		Metadata metadata `json:"metadata"`
		Spec     *spec    `json:"spec,omitempty"`
	}
	metadata struct {
		UID             types.UID `json:"uid,omitempty"`
		ResourceVersion string    `json:"resourceVersion,omitempty"`
		// An annotation that is nil is removed.
		Annotations map[string]*string `json:"annotations,omitempty"`
	}
	spec struct {
		Template  *template `json:"template,omitempty"`
		RestartAt string    `json:"restartAt,omitempty"`
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

// newObject returns a patch of c's workload that carries its record, or removes
// it.
func (c Change) newObject() object {
	o := object{Metadata: metadata{UID: c.UID}}
	switch {
	case c.Record == "":
	case c.Compact:
		o.Metadata.Annotations = map[string]*string{c.Keys.Index: nil}
	default:
		o.Metadata.Annotations = map[string]*string{c.Keys.Index: &c.Record}
	}
	return o
}

func (o object) encode(t types.PatchType) (Patch, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return Patch{}, fmt.Errorf("encode patch: %w", err)
	}
	return Patch{Body: body, Type: t}, nil
}

// templatePatch marks a template by merging. With environment variables that
// has to be a strategic merge.
func templatePatch(c Change, t types.PatchType) (Patch, error) {
	p := c.newObject()
	p.Spec = &spec{Template: new(template)}
	switch c.Place() {
	case EnvVars:
		// A mark that was left by the other strategy is newer than a variable of
		// the same content: with it gone, that variable starts pods.
		p.Spec.Template.Metadata = &metadata{Annotations: map[string]*string{c.Keys.LastReloadedFrom: nil}}
		p.Spec.Template.Spec = &podSpec{Containers: markedContainers(c.sorted())}
	case Annotations:
		from, err := c.reloadedFromText()
		if err != nil {
			return Patch{}, err
		}
		p.Spec.Template.Metadata = &metadata{Annotations: map[string]*string{c.Keys.LastReloadedFrom: &from}}
	default:
		return Patch{}, unknownStrategy(c.Strategy)
	}
	return p.encode(t)
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

// restartPatch has the controller replace the pods of a template that stays as
// it is. What has been done is on the workload's metadata: without it every
// repetition would be another restart.
func restartPatch(c Change, m *Manifest) (Patch, error) {
	from, done, err := c.remember(m.Meta.Annotations[c.Keys.LastReloadedFrom])
	if err != nil || done {
		return Patch{}, err
	}
	p := c.newObject()
	p.Metadata.ResourceVersion = m.Meta.ResourceVersion
	if p.Metadata.Annotations == nil {
		p.Metadata.Annotations = make(map[string]*string, 1)
	}
	p.Metadata.Annotations[c.Keys.LastReloadedFrom] = &from
	p.Spec = &spec{RestartAt: c.At.UTC().Format(time.RFC3339)}
	patch, err := p.encode(types.MergePatchType)
	patch.Restarts = true
	return patch, err
}

// operation is one step of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// variablesPatch marks a template whose lists the API server cannot merge, or not
// without moving something:
// single variables are set by their places, which hold for the version that was
// read and no other.
func variablesPatch(c Change, m *Manifest) (Patch, error) {
	version := m.Meta.ResourceVersion
	if c.Pause != nil && c.Pause.ResourceVersion != "" {
		version = c.Pause.ResourceVersion
	}
	operations := []operation{{"replace", "/metadata/resourceVersion", version}}
	added := map[int]bool{} // containers that get the first of their variables
	for _, mark := range c.sorted() {
		i := containerNamed(m.Template, mark.Container)
		if i < 0 {
			return Patch{}, fmt.Errorf("%w %q", ErrNoContainer, mark.Container)
		}
		env := "/spec/template/spec/containers/" + strconv.Itoa(i) + "/env"
		present := m.Template.Spec.Containers[i].Env
		value := variable{Name: mark.Env, Value: mark.Value}
		found := false
		for at := range present {
			if present[at].Name == mark.Env {
				operations = append(operations, operation{"replace", env + "/" + strconv.Itoa(at), value})
				found = true
			}
		}
		switch {
		case found:
		case len(present) == 0 && !added[i]:
			operations = append(operations, operation{"add", env, []variable{value}})
			added[i] = true
		default:
			operations = append(operations, operation{"add", env + "/-", value})
		}
	}
	operations = append(operations, annotationOperations("/spec/template/metadata/annotations", m.Template.Annotations,
		map[string]*string{c.Keys.LastReloadedFrom: nil})...)
	annotations := map[string]*string{}
	if c.Record != "" {
		annotations[c.Keys.Index] = &c.Record
	}
	if c.Pause != nil {
		operations = append(operations, c.Pause.operations(m)...)
		if at := c.Pause.At; at != nil && *at != "" {
			annotations[c.Keys.PausedAt] = at
		} else if at != nil {
			annotations[c.Keys.PausedAt] = nil
		}
	}
	operations = append(operations, annotationOperations("/metadata/annotations", m.Meta.Annotations, annotations)...)
	body, err := json.Marshal(operations)
	if err != nil {
		return Patch{}, fmt.Errorf("encode patch: %w", err)
	}
	return Patch{Body: body, Type: types.JSONPatchType}, nil
}

// annotationOperations set annotations at a path; those that are nil are removed.
func annotationOperations(path string, present map[string]string, change map[string]*string) (operations []operation) {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	whole := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(change)) {
		value, at := change[key], path+"/"+escape.Replace(key)
		_, there := present[key]
		switch {
		case value == nil && there:
			operations = append(operations, operation{Op: "remove", Path: at})
		case value == nil:
		case len(present) == 0:
			whole[key] = *value
		default:
			operations = append(operations, operation{"add", at, *value})
		}
	}
	if len(whole) > 0 {
		operations = append(operations, operation{"add", path, whole})
	}
	return operations
}

// Sources returns the sources of the marks, in a fixed order.
func (c Change) Sources() []reloader.Source {
	sources := make([]reloader.Source, len(c.Marks))
	for i, m := range c.sorted() {
		sources[i] = m.Source
	}
	return sources
}
