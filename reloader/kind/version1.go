package kind

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/fingerprint"
)

// Marks of version 1 were the fingerprint itself and a hash of the template and
// the source's name. They are written no more and prove nothing: whoever may
// read those of others can copy them. What is here does not change any more.

// NameInVersion1 returns the name of the Job that an engine of version 1 gave to
// the run of the CronJob m that the change asks for.
func NameInVersion1(m *Manifest, c Change) string {
	template := templateInVersion1(m.Template, c.Keys)
	hash := sha256.New()
	fmt.Fprintln(hash, string(m.Meta.UID))
	for _, mark := range c.sorted() {
		content := string(mark.Content)
		if mark.Content == fingerprint.Deleted {
			content = "deleted"
		}
		of := sha256.Sum256([]byte(template + "/" + mark.Source.String()))
		fmt.Fprintln(hash, mark.Source, content+"-"+hex.EncodeToString(of[:4]), mark.Written.UTC().Format(time.RFC3339))
	}
	const most = 63
	suffix := "-" + hex.EncodeToString(hash.Sum(nil)[:5])
	name := m.Meta.Name
	if len(name) > most-len(suffix) {
		name = strings.TrimRight(name[:most-len(suffix)], "-.")
	}
	return name + suffix
}

// StartedInVersion1 reports whether the Job found is the run of the CronJob m
// that an engine of version 1 has started for the change, before that moment.
// When a Job was created cannot be forged.
func StartedInVersion1(m *Manifest, c Change, found *Manifest, before time.Time) bool {
	job, ok := found.object.(*batchv1.Job)
	if !ok || job.Name != NameInVersion1(m, c) || !metav1.IsControlledBy(job, m.Meta) || job.CreationTimestamp.After(before) {
		return false
	}
	return !slices.ContainsFunc(c.Marks, func(mark Mark) bool {
		return job.CreationTimestamp.Time.Before(mark.Written.Truncate(time.Second))
	})
}

// templateInVersion1 returns the hash of a pod template without marks.
func templateInVersion1(template *corev1.PodTemplateSpec, k annotation.Keys) string {
	unmarked := *template
	unmarked.Annotations = maps.Clone(template.Annotations)
	delete(unmarked.Annotations, k.LastReloadedFrom)
	unmarked.Spec.Containers = unmarkedInVersion1(template.Spec.Containers)
	unmarked.Spec.InitContainers = unmarkedInVersion1(template.Spec.InitContainers)
	hash := sha256.New()
	// The types of a pod template always have a JSON form, and a hash takes any
	// write.
	_ = json.NewEncoder(hash).Encode(&unmarked)
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

func unmarkedInVersion1(containers []corev1.Container) []corev1.Container {
	containers = slices.Clone(containers)
	for i := range containers {
		containers[i].Env = slices.DeleteFunc(slices.Clone(containers[i].Env), func(v corev1.EnvVar) bool {
			return v.ValueFrom == nil && reloader.IsEnvName(v.Name)
		})
	}
	return containers
}
