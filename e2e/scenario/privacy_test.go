package scenario

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
)

// refusal lets nobody reload the workload of a namespace that is called
// refused.
const refusal = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse-reloads}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: [deployments]}
  validations:
  - expression: object.metadata.name != "refused"
    message: nobody may reload this
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refuse-reloads}
spec:
  policyName: refuse-reloads
  validationActions: [Deny]
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}}
`

// TestNoContentIsWrittenAnywhere takes a value past everything that handles
// it, at the highest verbosity, and looks for it in all that was written.
func TestNoContentIsWrittenAnywhere(t *testing.T) {
	given(t, values{"reloader.logLevel": "trace"})
	ns := newNamespace(t, "privacy")
	value := "hunter2-" + rand.Text()
	withEnv := func(name, annotation string) string {
		return fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %[1]s, annotations: {reloader.stakater.com/auto: "true", %[2]s}},
spec: {replicas: 0, selector: {matchLabels: {app: %[1]s}}, template: {metadata: {labels: {app: %[1]s}},
spec: {containers: [{name: app, image: "registry.example/app:1", env: [{name: PASSWORD, value: %[3]q}], envFrom: [{secretRef: {name: secret}}]}]}}}}`,
			name, annotation, value)
	}
	setSecret(t, ns, "secret", value+"-1")
	setConfigMap(t, ns, "settings", value+"-1")

	// Admission: warnings and denials.
	out, ok := apply(t, ns, withEnv("warned", `reloader.stakater.com/search: "true"`))
	require.True(t, ok, out)
	require.Contains(t, out, "Warning: ")
	out, ok = apply(t, ns, withEnv("denied", `deployment.reloader.stakater.com/pause-period: "`+value+`"`))
	require.False(t, ok, out)
	require.Contains(t, out, "denied the request")
	out, ok = apply(t, ns, `{apiVersion: v1, kind: Secret, metadata: {name: odd, annotations: {reloader.stakater.com/auto: "true"}}, stringData: {key: "`+value+`"}}`)
	require.True(t, ok, out)
	require.Contains(t, out, "Warning: ")

	// Reloads: one that works, one that is refused.
	app := fixture.App{Namespace: ns, Name: "app", Annotations: auto(), ConfigMaps: []string{"settings"}, Secrets: []string{"secret"}}
	create(t, app)
	refused := app
	refused.Name = "refused"
	create(t, refused)
	policy := strings.Replace(refusal, "NAMESPACE", ns, 1)
	out, ok = apply(t, ns, policy)
	require.True(t, ok, out)
	require.Eventually(t, func() bool {
		_, err := shared.Kubectl(t.Context(), "label", "deployment", "refused", "-n", ns, "--overwrite", "probe="+unique(), "--dry-run=server")
		return err != nil && strings.Contains(err.Error(), "nobody may reload this")
	}, soon, often, "the policy is in force")
	warned := reloader.Workload{Kind: reloader.Deployment, Namespace: ns, Name: "warned"}
	require.Equal(t, value, read(t, warned).Env("PASSWORD"))
	requireReload(t, app.Workload(), reloader.Secret, "secret", func() { setSecret(t, ns, "secret", value+"-2") })
	requireReload(t, app.Workload(), reloader.ConfigMap, "settings", func() { setConfigMap(t, ns, "settings", value+"-2") })
	requireEvent(t, ns, "warned", "Reloaded")
	require.NotEmpty(t, mark(t, warned, reloader.Secret, "secret"))
	requireEvent(t, ns, "refused", "ReloadFail")
	requireEvent(t, ns, "app", "Reloaded")

	for name, text := range places(t, ns) {
		for form, hidden := range forms(value) {
			assert.NotContains(t, text, hidden, "%s has the value %s", name, form)
		}
	}

	// The same look finds what is there: in every place something, and the
	// value itself once it is planted.
	all := places(t, ns)
	for name, control := range map[string]string{
		"engine":    "Secret " + ns + "/secret",
		"webhook":   "request denied",
		"events":    "Secret " + ns + "/secret",
		"workloads": "STAKATER_SECRET_SECRET",
	} {
		assert.Contains(t, all[name], control, name)
	}
	_, err := shared.Client().CoreV1().Events(ns).Create(t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: ns, Name: "planted"},
		InvolvedObject: corev1.ObjectReference{Kind: "Deployment", Namespace: ns, Name: "app"},
		Message:        "the password is " + base64.StdEncoding.EncodeToString([]byte("x"+value)),
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	found := 0
	for _, hidden := range forms(value) {
		found += strings.Count(places(t, ns)["events"], hidden)
	}
	assert.Equal(t, 1, found, "the value is found when it is there")

	require.NoError(t, shared.Client().AppsV1().Deployments(ns).Delete(t.Context(), "refused", metav1.DeleteOptions{}))
	_, err = shared.KubectlInput(t.Context(), policy, "delete", "-f", "-")
	require.NoError(t, err)
}

// requireEvent waits for an event on a workload.
func requireEvent(t *testing.T, namespace, name, reason string) {
	t.Helper()
	require.Eventually(t, func() bool {
		events, err := shared.Client().CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{
			FieldSelector: "reason=" + reason + ",involvedObject.name=" + name,
		})
		require.NoError(t, err)
		return len(events.Items) > 0
	}, soon, often, "%s of %s", reason, name)
}

// places is everything that the product writes to, as text: what its processes
// say, events, and what it adds to workloads.
func places(t *testing.T, namespace string) map[string]string {
	t.Helper()
	text := map[string]string{}
	logs, err := output()
	require.NoError(t, err)
	for name, log := range logs {
		part := "engine"
		if strings.Contains(name, "webhook") {
			part = "webhook"
		}
		text[part] += string(log)
	}
	events, err := shared.Client().CoreV1().Events("").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	text["events"] = encode(t, events)
	deployments, err := shared.Client().AppsV1().Deployments(namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for i := range deployments.Items {
		d := &deployments.Items[i]
		// kubectl's copy of the manifest, and PASSWORD, are the user's own.
		delete(d.Annotations, corev1.LastAppliedConfigAnnotation)
		var added []corev1.EnvVar
		for _, v := range d.Spec.Template.Spec.Containers[0].Env {
			if v.Name != "PASSWORD" {
				added = append(added, v)
			}
		}
		text["workloads"] += encode(t, []any{d.ObjectMeta, d.Status, d.Spec.Template.ObjectMeta, added})
	}
	return text
}

func encode(t *testing.T, object any) string {
	t.Helper()
	text, err := json.Marshal(object)
	require.NoError(t, err)
	return string(text)
}

// forms are the ways in which a value can stand in a text: as it is, and the
// part of its base64 that does not depend on what stands around it.
func forms(value string) map[string]string {
	all := map[string]string{"as it is": value}
	for offset := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + value))
		// A group of four characters stands for three bytes.
		all[fmt.Sprintf("in base64 from byte %d", offset)] = text[4*((offset+2)/3) : len(text)/4*4-4]
	}
	return all
}
