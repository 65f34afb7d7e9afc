package history

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// Manager is the field manager that reloads write as.
const Manager = "Reloader"

// Content is a digest of a source's data; empty while there is no source.
type Content string

// Version is a source from one change of its data to the next.
type Version struct {
	Revision int64
	Seen     time.Time
	Content  Content
}

// Template is a workload from one change of its pod template to the next.
type Template struct {
	Revision int64
	Seen     time.Time
	// By is the field manager that made the change; empty if it is not known.
	By string
	// Gone means that there is no workload.
	Gone bool
	UID  types.UID
	// OptedIn means that the workload asks for reloads of all it depends on.
	OptedIn bool
	// Sources are those that the containers take their environment from.
	Sources []reloader.Source
	// Marks are the values that reloads have left, by environment variable.
	Marks map[string]string
	// Rest is a digest of the template without the marks.
	Rest string
}

// ByReload says whether a reload has made this template.
func (t Template) ByReload() bool { return t.By == Manager }

func (t Template) sameTemplate(o Template) bool {
	return t.Gone == o.Gone && t.UID == o.UID && t.Rest == o.Rest && maps.Equal(t.Marks, o.Marks)
}

// Fingerprint is a mark's value without what tells of the template.
func Fingerprint(mark string) string {
	if i := strings.LastIndexByte(mark, '-'); i > 0 {
		return mark[:i]
	}
	return mark
}

// rest is what a mark's value tells of the template, empty if nothing.
func rest(mark string) string { return strings.TrimPrefix(mark, Fingerprint(mark)) }

const markPrefix = "STAKATER_"

func templateOf(meta *metav1.ObjectMeta, template *corev1.PodTemplateSpec) Template {
	t := Template{
		UID:     meta.UID,
		OptedIn: meta.Annotations[annotation.DefaultKeys().Auto] == "true",
		Marks:   map[string]string{},
	}
	bare := template.DeepCopy()
	for i := range bare.Spec.Containers {
		c := &bare.Spec.Containers[i]
		var env []corev1.EnvVar
		for _, v := range c.Env {
			if strings.HasPrefix(v.Name, markPrefix) {
				t.Marks[v.Name] = v.Value
				continue
			}
			env = append(env, v)
		}
		c.Env = env
		for _, from := range c.EnvFrom {
			s := reloader.Source{Namespace: meta.Namespace}
			switch {
			case from.ConfigMapRef != nil:
				s.Kind, s.Name = reloader.ConfigMap, from.ConfigMapRef.Name
			case from.SecretRef != nil:
				s.Kind, s.Name = reloader.Secret, from.SecretRef.Name
			}
			t.Sources = append(t.Sources, s)
		}
	}
	t.Rest = digest(bare)
	return t
}

// writer says who has made now out of before: the manager whose entry in the
// managed fields is new. Two writes of one manager within a second may leave
// the same entry; then marks that have a new value tell that it was a reload,
// because nobody else gives them one.
func writer(before, now *Template, fieldsBefore, fields []metav1.ManagedFieldsEntry) string {
	known := map[string]bool{}
	for _, entry := range fieldsBefore {
		known[digest(entry)] = true
	}
	by := ""
	for _, entry := range fields {
		if entry.Subresource != "" || known[digest(entry)] {
			continue
		}
		if entry.Manager == Manager {
			return Manager
		}
		by = entry.Manager
	}
	if by == "" && before != nil && before.UID == now.UID && before.Rest == now.Rest && !maps.Equal(before.Marks, now.Marks) {
		return Manager
	}
	return by
}

// digest is of what can be encoded always: API types and maps.
func digest(v any) string {
	content, _ := json.Marshal(v)
	sum := sha256.Sum256(content)
	return string(sum[:12])
}
