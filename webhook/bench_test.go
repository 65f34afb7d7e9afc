package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

// ordinary is a Deployment as many clusters have them: two containers with
// variables, probes and limits, some volumes, and managedFields.
func ordinary(image string) *appsv1.Deployment {
	d := deployment(map[string]string{auto: "true", "deployment.kubernetes.io/revision": "7"})
	d.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
	d.UID, d.Generation, d.ResourceVersion = "5f1e4b1a-4f0e-4e5c-9a59-0c1c6e2d8b11", 7, "123456"
	d.Labels = map[string]string{"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "shop"}
	d.Spec.Replicas = ptr.To[int32](3)
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: d.Labels}
	d.Spec.Template = template("tls", "database")
	d.Spec.Template.Labels = d.Labels
	main := &d.Spec.Template.Spec.Containers[0]
	main.Image = image
	for i := range 20 {
		main.Env = append(main.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", i), Value: "some value of usual length"})
	}
	main.Env = append(main.Env, corev1.EnvVar{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "database"}, Key: "password"}}})
	main.Resources.Limits = corev1.ResourceList{"memory": resource.MustParse("512Mi"), "cpu": resource.MustParse("500m")}
	main.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/live"}}}
	main.VolumeMounts = []corev1.VolumeMount{{Name: "tls", MountPath: "/tls"}, {Name: "database", MountPath: "/database"}}
	d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, *main.DeepCopy())
	d.Spec.Template.Spec.Containers[1].Name = "sidecar"
	fields := []byte(`{"f:metadata":{"f:annotations":{".":{},"f:a":{}}},"f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:env":{}`)
	for i := range 20 {
		fields = fmt.Appendf(fields, `,"k:{\"name\":\"SETTING_%d\"}":{".":{},"f:name":{},"f:value":{}}`, i)
	}
	fields = append(fields, `}}}}}}`...)
	for _, manager := range []string{"helm", "kube-controller-manager"} {
		d.ManagedFields = append(d.ManagedFields, metav1.ManagedFieldsEntry{
			Manager: manager, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(string(fields)),
		})
	}
	return d
}

// reviewOf returns the JSON of a review as the API server sends it.
func reviewOf(tb testing.TB, updated, old any) []byte {
	tb.Helper()
	raw := func(object any) runtime.RawExtension {
		text, err := json.Marshal(object)
		require.NoError(tb, err)
		return runtime.RawExtension{Raw: text}
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID("5f1e4b1a"), Kind: metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"},
			Operation: admissionv1.Update, Namespace: "shop", Name: "web", Object: raw(updated), OldObject: raw(old),
		},
	})
	require.NoError(tb, err)
	return body
}

// BenchmarkReview is one admission of a new image for an ordinary Deployment.
func BenchmarkReview(b *testing.B) {
	w, err := New(Options{Settings: policy.Settings{Keys: annotation.DefaultKeys()}})
	require.NoError(b, err)
	mux := http.NewServeMux()
	w.Register(mux.Handle)
	body := reviewOf(b, ordinary("web:2"), ordinary("web:1"))
	for _, path := range []string{PathMutateWorkload, PathValidateWorkload} {
		b.Run(path[1:], func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, path, bytes.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				answer := httptest.NewRecorder()
				mux.ServeHTTP(answer, r)
				if answer.Code != http.StatusOK {
					b.Fatal(answer.Code, answer.Body)
				}
			}
		})
	}
}
