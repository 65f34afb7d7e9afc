package review

import (
	"encoding/json"
	"errors"
	"fmt"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/excerpt"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/reference"
)

// ErrKind is returned for kinds that are neither workloads nor sources.
var ErrKind = errors.New("kind is not judged")

// errMetadata contains no details, because they would quote the input.
var errMetadata = errors.New("metadata cannot be decoded")

// Workload judges a decoded workload.
func Workload(m *kind.Manifest, s policy.Settings) []reloader.Problem {
	return policy.Judge(policy.Subject{
		Kind:                m.Kind,
		Labels:              m.Meta.Labels,
		Annotations:         m.Meta.Annotations,
		Template:            m.TemplatePath,
		Borrows:             m.Borrows,
		TemplateLabels:      m.Template.Labels,
		TemplateAnnotations: m.Template.Annotations,
		References:          reference.Of(&m.Template.Spec),
		OnDelete:            m.OnDelete,
	}, s)
}

// maxMetadata bounds the memory for the metadata of a source, in bytes, and keyCost
// is the overhead of one annotation.
const (
	maxMetadata = 2 << 20
	keyCost     = 200
)

// Source judges the JSON of a source. Nothing but labels and annotations of ours
// is decoded.
func Source(source reloader.SourceKind, raw []byte, s policy.Settings) ([]reloader.Problem, error) {
	var object struct {
		Metadata struct {
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	keys := policy.Relevant(s.Keys)
	taken, err := excerpt.Take(raw, excerpt.Field{Members: []excerpt.Member{excerpt.Object("metadata",
		excerpt.Map("labels", keyCost, keys),
		excerpt.Map("annotations", keyCost, keys),
	)}}, maxMetadata)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", source, err)
	}
	if err := json.Unmarshal(taken.JSON, &object); err != nil {
		return nil, fmt.Errorf("decode %s: %w", source, errMetadata)
	}
	return policy.JudgeSource(source, object.Metadata.Labels, object.Metadata.Annotations, s), nil
}

// SourceKind returns the kind of source with that API group and kind.
func SourceKind(group, name string) (reloader.SourceKind, bool) {
	source, ok := reloader.ParseSourceKind(name)
	if source == reloader.SecretProviderClass {
		return source, group == "secrets-store.csi.x-k8s.io"
	}
	return source, ok && group == ""
}

// Object judges the JSON of an object of any kind. The error is ErrKind for
// kinds that are not judged, and never quotes the input.
func Object(kinds kind.Set, group, name string, raw []byte, s policy.Settings) ([]reloader.Problem, error) {
	if source, ok := SourceKind(group, name); ok {
		return Source(source, raw, s)
	}
	k, ok := kinds.ByGroupKind(group, name)
	if !ok {
		return nil, ErrKind
	}
	m, err := k.Decode(raw)
	if err != nil {
		return nil, err
	}
	return Workload(m, s), nil
}
