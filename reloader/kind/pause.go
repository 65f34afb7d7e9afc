package kind

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Pause is what a patch changes about the pause of a Deployment.
type Pause struct {
	// Paused is the value of spec.paused to be set; nil leaves it as it is.
	// False removes the field, so that nobody owns it afterwards.
	Paused *bool
	// At is the value of the paused-at annotation to be set; nil leaves it as
	// it is, empty removes it.
	At *string
	// ResourceVersion is a precondition: the API server refuses the patch if
	// the Deployment has been written since. Empty is none.
	ResourceVersion string
}

// add returns the patch of a Deployment with the pause in it. The same input
// gives the same bytes.
func (p Pause) add(body []byte, c Change) ([]byte, error) {
	var patch map[string]any
	if err := json.Unmarshal(body, &patch); err != nil {
		return nil, fmt.Errorf("add a pause to a patch: %w", err)
	}
	metadata := branch(patch, "metadata")
	if p.ResourceVersion != "" {
		metadata["resourceVersion"] = p.ResourceVersion
	}
	if p.At != nil {
		branch(metadata, "annotations")[c.Keys.PausedAt] = orNull(*p.At, *p.At != "")
	}
	if p.Paused != nil {
		branch(patch, "spec")["paused"] = orNull(true, *p.Paused)
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	return body, nil
}

// operations are the steps of a JSON patch of the Deployment m that pause or resume
// it.
func (p Pause) operations(m *Manifest) []operation {
	d, ok := m.object.(*appsv1.Deployment)
	switch {
	case !ok || p.Paused == nil:
		return nil
	case *p.Paused:
		return []operation{{"add", "/spec/paused", true}}
	case d.Spec.Paused:
		return []operation{{Op: "remove", Path: "/spec/paused"}}
	}
	return nil
}

// Patch returns a patch that changes the pause and nothing else but the index
// record. Marks and Strategy of the change do not count.
func (p Pause) Patch(c Change) (Patch, error) {
	metadata := map[string]any{"uid": c.UID}
	if c.Record != "" {
		metadata["annotations"] = map[string]string{c.Keys.Index: c.Record}
	}
	body, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return Patch{}, fmt.Errorf("encode patch: %w", err)
	}
	body, err = p.add(body, c)
	return Patch{Body: body, Type: types.StrategicMergePatchType}, err
}

// branch returns the object at the key, made if there is none.
func branch(of map[string]any, key string) map[string]any {
	b, ok := of[key].(map[string]any)
	if !ok {
		b = map[string]any{}
		of[key] = b
	}
	return b
}

// orNull returns the value, or null, which removes the field.
func orNull(value any, keep bool) any {
	if keep {
		return value
	}
	return nil
}
