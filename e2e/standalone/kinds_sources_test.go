package standalone

import (
	"encoding/base64"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"k8s-reloader/reloader"
)

// sourceForm is a kind of source: how it is written, and by what a pod can use
// it.
type sourceForm struct {
	kind     reloader.SourceKind
	resource schema.GroupVersionResource
	// body has the content that makes it what it is.
	body func(content string) map[string]any
	// mounted is what a pod reports of it, if that is where its content shows.
	mounted func(name, content string) *unstructured.Unstructured
	// references by name; nothing else can name this kind.
	references map[string]func(pod *corev1.PodSpec, name string)
}

func sourceForms() []sourceForm {
	first := func(pod *corev1.PodSpec) *corev1.Container { return &pod.Containers[0] }
	object := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	mounted := func(pod *corev1.PodSpec, source corev1.VolumeSource) {
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "v", VolumeSource: source})
		first(pod).VolumeMounts = append(first(pod).VolumeMounts, corev1.VolumeMount{Name: "v", MountPath: "/v"})
	}
	unused := func(*corev1.PodSpec, string) {}
	return []sourceForm{{
		kind:     reloader.ConfigMap,
		resource: corev1.SchemeGroupVersion.WithResource("configmaps"),
		body:     func(content string) map[string]any { return map[string]any{"data": map[string]any{"a": content}} },
		references: map[string]func(*corev1.PodSpec, string){
			"unused": unused,
			"env": func(pod *corev1.PodSpec, name string) {
				first(pod).Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{
					ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: object(name), Key: "a"},
				}}}
			},
			"env-from": func(pod *corev1.PodSpec, name string) {
				first(pod).EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: object(name)}}}
			},
			"volume": func(pod *corev1.PodSpec, name string) {
				mounted(pod, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: object(name)}})
			},
			"projected": func(pod *corev1.PodSpec, name string) {
				mounted(pod, corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: object(name)}},
				}}})
			},
			"init": func(pod *corev1.PodSpec, name string) {
				pod.InitContainers = []corev1.Container{{Name: "init", Image: "registry.example/init:1", EnvFrom: []corev1.EnvFromSource{
					{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: object(name)}},
				}}}
			},
		},
	}, {
		kind:     reloader.Secret,
		resource: corev1.SchemeGroupVersion.WithResource("secrets"),
		body: func(content string) map[string]any {
			return map[string]any{"data": map[string]any{"a": base64.StdEncoding.EncodeToString([]byte(content))}}
		},
		references: map[string]func(*corev1.PodSpec, string){
			"unused": unused,
			"env": func(pod *corev1.PodSpec, name string) {
				first(pod).Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{
					SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: object(name), Key: "a"},
				}}}
			},
			"env-from": func(pod *corev1.PodSpec, name string) {
				first(pod).EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: object(name)}}}
			},
			"volume": func(pod *corev1.PodSpec, name string) {
				mounted(pod, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}})
			},
			"projected": func(pod *corev1.PodSpec, name string) {
				mounted(pod, corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{Secret: &corev1.SecretProjection{LocalObjectReference: object(name)}},
				}}})
			},
			"init": func(pod *corev1.PodSpec, name string) {
				pod.InitContainers = []corev1.Container{{Name: "init", Image: "registry.example/init:1", EnvFrom: []corev1.EnvFromSource{
					{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: object(name)}},
				}}}
			},
		},
	}, {
		kind:     reloader.SecretProviderClass,
		resource: secretsStore().WithResource("secretproviderclasses"),
		body:     func(string) map[string]any { return map[string]any{"spec": map[string]any{"provider": "vault"}} },
		mounted: func(name, content string) *unstructured.Unstructured {
			o := &unstructured.Unstructured{Object: map[string]any{"status": podStatus("app-0", name, content)}}
			o.SetGroupVersionKind(secretsStore().WithKind("SecretProviderClassPodStatus"))
			o.SetName("app-0-" + name)
			return o
		},
		references: map[string]func(*corev1.PodSpec, string){
			"unused": unused,
			"csi": func(pod *corev1.PodSpec, name string) {
				mounted(pod, corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
					Driver: "secrets-store.csi.k8s.io", VolumeAttributes: map[string]string{"secretProviderClass": name},
				}})
			},
		},
	}}
}
