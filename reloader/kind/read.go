package kind

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/record"
)

// Read reads the JSON of one object of the kind. What is not what the kind
// promises is told by Unreadable. The error never quotes the input.
func (k Kind) Read(raw []byte) (*Manifest, error) {
	object := k.newObject()
	var err error
	if custom, ok := object.(*unstructured.Unstructured); ok {
		// It may lack apiVersion and kind, as items of a list do.
		err = utiljson.Unmarshal(raw, &custom.Object)
	} else {
		err = json.Unmarshal(raw, object)
	}
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", k.Name, withoutInput(err))
	}
	m := k.manifest(object)
	if !m.Borrows {
		m.Raw.Template = within(raw, strings.Split(m.TemplatePath, ".")...)
	}
	return m, nil
}

// within returns the value at a path of members of a JSON object, as it stands;
// nil if there is none.
func within(object []byte, path ...string) []byte {
	for _, name := range path {
		var members map[string]json.RawMessage
		if json.Unmarshal(object, &members) != nil {
			return nil
		}
		object = members[name]
	}
	return object
}

// TemplateHash returns the hash of the manifest's pod template that records of
// it have. The error never quotes the template.
func (m *Manifest) TemplateHash(k annotation.Keys) (string, error) {
	if m.Kind == reloader.Job {
		return record.TemplateHash(m.Raw.Template, k, generatedLabels()...)
	}
	return record.TemplateHash(m.Raw.Template, k)
}
