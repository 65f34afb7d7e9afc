package reference_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/reference"
)

func TestOf(t *testing.T) {
	type references = []reloader.Reference
	tests := map[string]struct {
		spec string // of a pod, as people write it
		want references
	}{
		"an empty spec references nothing": {
			spec: `{}`,
		},
		"a container without sources references nothing": {
			spec: `
containers:
- name: app
  env: [{name: A, value: b}, {name: B, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
  volumeMounts: [{name: tmp, mountPath: /tmp}]
volumes: [{name: tmp, emptyDir: {}}]`,
		},
		"variables reference keys, united and sorted": {
			spec: `
containers:
- name: app
  env:
  - {name: B, valueFrom: {configMapKeyRef: {name: cm, key: b}}}
  - {name: A, valueFrom: {configMapKeyRef: {name: cm, key: a}}}
  - {name: A2, valueFrom: {configMapKeyRef: {name: cm, key: a}}}
  - {name: S, valueFrom: {secretKeyRef: {name: s, key: k}}}`,
			want: references{
				{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowEnv, Keys: []string{"a", "b"}},
				{Kind: reloader.Secret, Name: "s", Container: "app", How: reloader.HowEnv, Keys: []string{"k"}},
			},
		},
		"envFrom references all keys": {
			spec: `
containers:
- name: app
  envFrom: [{configMapRef: {name: cm}}, {secretRef: {name: s, optional: true}}, {prefix: P, secretRef: {name: p}}]`,
			want: references{
				{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowEnvFrom},
				{Kind: reloader.Secret, Name: "p", Container: "app", How: reloader.HowEnvFrom},
				{Kind: reloader.Secret, Name: "s", Container: "app", How: reloader.HowEnvFrom, Optional: true},
			},
		},
		"the same source in different ways is several references": {
			spec: `
containers:
- name: app
  env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: a}}}]
  envFrom: [{configMapRef: {name: cm}}]
  volumeMounts: [{name: v, mountPath: /v}]
volumes: [{name: v, configMap: {name: cm, items: [{key: x, path: x}, {key: a, path: a}]}}]`,
			want: references{
				{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowEnv, Keys: []string{"a"}},
				{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowEnvFrom},
				{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowVolume, Keys: []string{"a", "x"}},
			},
		},
		"a ConfigMap and a Secret of one name are two sources": {
			spec: `
containers: [{name: app, envFrom: [{configMapRef: {name: x}}, {secretRef: {name: x}}]}]`,
			want: references{
				{Kind: reloader.ConfigMap, Name: "x", Container: "app", How: reloader.HowEnvFrom},
				{Kind: reloader.Secret, Name: "x", Container: "app", How: reloader.HowEnvFrom},
			},
		},
		"a second volume of the same source counts too": {
			spec: `
containers:
- {name: one, volumeMounts: [{name: v1, mountPath: /v}]}
- {name: two, volumeMounts: [{name: v2, mountPath: /v}]}
volumes:
- {name: v1, secret: {secretName: s, items: [{key: a, path: a}]}}
- {name: v2, secret: {secretName: s, items: [{key: b, path: b}]}}`,
			want: references{
				{Kind: reloader.Secret, Name: "s", Container: "one", How: reloader.HowVolume, Keys: []string{"a"}},
				{Kind: reloader.Secret, Name: "s", Container: "two", How: reloader.HowVolume, Keys: []string{"b"}},
			},
		},
		"two volumes of one source in one container take all keys if one does": {
			spec: `
containers:
- {name: app, volumeMounts: [{name: v1, mountPath: /1}, {name: v2, mountPath: /2}]}
volumes:
- {name: v1, secret: {secretName: s, optional: true, items: [{key: a, path: a}]}}
- {name: v2, secret: {secretName: s, optional: false}}`,
			want: references{
				{Kind: reloader.Secret, Name: "s", Container: "app", How: reloader.HowVolume},
			},
		},
		"uses are optional together only if all of them are": {
			spec: `
containers:
- name: app
  env:
  - {name: A, valueFrom: {secretKeyRef: {name: all, key: a, optional: true}}}
  - {name: B, valueFrom: {secretKeyRef: {name: all, key: b, optional: true}}}
  - {name: C, valueFrom: {secretKeyRef: {name: some, key: c, optional: true}}}
  - {name: D, valueFrom: {secretKeyRef: {name: some, key: d}}}`,
			want: references{
				{Kind: reloader.Secret, Name: "all", Container: "app", How: reloader.HowEnv, Keys: []string{"a", "b"}, Optional: true},
				{Kind: reloader.Secret, Name: "some", Container: "app", How: reloader.HowEnv, Keys: []string{"c", "d"}},
			},
		},
		"a volume that no container mounts has no container": {
			spec: `
containers: [{name: app}]
volumes: [{name: v, configMap: {name: cm, optional: true}}]`,
			want: references{
				{Kind: reloader.ConfigMap, Name: "cm", How: reloader.HowVolume, Optional: true},
			},
		},
		"a volume that is mounted twice by one container is one reference": {
			spec: `
containers: [{name: app, volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /b, subPath: b}]}]
volumes: [{name: v, configMap: {name: cm}}]`,
			want: references{
				{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowVolume},
			},
		},
		"references come in the order of containers, app containers first": {
			spec: `
initContainers:
- {name: migrate, envFrom: [{secretRef: {name: s}}]}
- {name: proxy, restartPolicy: Always, envFrom: [{secretRef: {name: s}}]}
containers:
- {name: web, envFrom: [{secretRef: {name: s}}], volumeMounts: [{name: v, mountPath: /v}]}
- {name: app, envFrom: [{secretRef: {name: s}}]}
ephemeralContainers:
- {name: debug, targetContainerName: app, envFrom: [{secretRef: {name: s}}]}
imagePullSecrets: [{name: s}]
volumes: [{name: v, secret: {secretName: s}}]`,
			want: references{
				{Kind: reloader.Secret, Name: "s", Container: "web", How: reloader.HowEnvFrom},
				{Kind: reloader.Secret, Name: "s", Container: "web", How: reloader.HowVolume},
				{Kind: reloader.Secret, Name: "s", Container: "app", How: reloader.HowEnvFrom},
				{Kind: reloader.Secret, Name: "s", Container: "migrate", Init: true, How: reloader.HowEnvFrom},
				{Kind: reloader.Secret, Name: "s", Container: "proxy", Init: true, How: reloader.HowEnvFrom},
				{Kind: reloader.Secret, Name: "s", Container: "debug", Init: true, How: reloader.HowEnvFrom},
				{Kind: reloader.Secret, Name: "s", How: reloader.HowImagePull},
			},
		},
		"a projected volume references each of its sources": {
			spec: `
containers: [{name: app, volumeMounts: [{name: v, mountPath: /v}]}]
volumes:
- name: v
  projected:
    sources:
    - configMap: {name: cm, items: [{key: b, path: b}, {key: a, path: a}]}
    - secret: {name: s, optional: true}
    - secret: {name: s2}
    - serviceAccountToken: {path: token}
    - downwardAPI: {}`,
			want: references{
				{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowProjected, Keys: []string{"a", "b"}},
				{Kind: reloader.Secret, Name: "s", Container: "app", How: reloader.HowProjected, Optional: true},
				{Kind: reloader.Secret, Name: "s2", Container: "app", How: reloader.HowProjected},
			},
		},
		"a volume of the secrets store references its class, and the Secret that it is mounted with": {
			spec: `
containers: [{name: app, volumeMounts: [{name: v, mountPath: /v}]}]
volumes:
- name: v
  csi:
    driver: secrets-store.csi.k8s.io
    volumeAttributes: {secretProviderClass: vault}
    nodePublishSecretRef: {name: creds}`,
			want: references{
				{Kind: reloader.Secret, Name: "creds", Container: "app", How: reloader.HowNodePublish},
				{Kind: reloader.SecretProviderClass, Name: "vault", Container: "app", How: reloader.HowCSI},
			},
		},
		"another CSI driver has no class, but may have a Secret": {
			spec: `
containers: [{name: app}]
volumes:
- name: v
  csi:
    driver: other.csi.example.com
    volumeAttributes: {secretProviderClass: vault}
    nodePublishSecretRef: {name: creds}`,
			want: references{
				{Kind: reloader.Secret, Name: "creds", How: reloader.HowNodePublish},
			},
		},
		"the Secrets of other volume types are told apart from those that pods see": {
			spec: `
containers: [{name: app, volumeMounts: [{name: rbd, mountPath: /rbd}]}]
volumes:
- {name: azure, azureFile: {secretName: azure, shareName: x}}
- {name: ceph, cephfs: {monitors: [a], secretRef: {name: ceph}}}
- {name: cinder, cinder: {volumeID: a, secretRef: {name: cinder}}}
- {name: flex, flexVolume: {driver: a/b, secretRef: {name: flex}}}
- {name: iscsi, iscsi: {targetPortal: a, iqn: b, lun: 0, secretRef: {name: iscsi}}}
- {name: rbd, rbd: {monitors: [a], image: b, secretRef: {name: rbd}}}
- {name: scaleio, scaleIO: {gateway: a, system: b, secretRef: {name: scaleio}}}
- {name: storageos, storageos: {volumeName: a, secretRef: {name: storageos}}}
- {name: without, cephfs: {monitors: [a]}}`,
			want: references{
				{Kind: reloader.Secret, Name: "azure", How: reloader.HowVolumePlugin},
				{Kind: reloader.Secret, Name: "ceph", How: reloader.HowVolumePlugin},
				{Kind: reloader.Secret, Name: "cinder", How: reloader.HowVolumePlugin},
				{Kind: reloader.Secret, Name: "flex", How: reloader.HowVolumePlugin},
				{Kind: reloader.Secret, Name: "iscsi", How: reloader.HowVolumePlugin},
				{Kind: reloader.Secret, Name: "rbd", Container: "app", How: reloader.HowVolumePlugin},
				{Kind: reloader.Secret, Name: "scaleio", How: reloader.HowVolumePlugin},
				{Kind: reloader.Secret, Name: "storageos", How: reloader.HowVolumePlugin},
			},
		},
		"empty names are no references and empty keys are all of them": {
			spec: `
containers:
- name: app
  env:
  - {name: A, valueFrom: {configMapKeyRef: {key: a}}}
  - {name: B, valueFrom: {configMapKeyRef: {name: cm}}}
  envFrom: [{secretRef: {}}]
imagePullSecrets: [{}]
volumes: [{name: v, secret: {}}, {name: w, projected: {sources: [{configMap: {}}]}}]`,
			want: references{
				{Kind: reloader.ConfigMap, Name: "cm", Container: "app", How: reloader.HowEnv},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			spec := parseSpec(t, tc.spec)
			before := spec.DeepCopy()

			assert.Equal(t, tc.want, reference.Of(spec))
			assert.Equal(t, before, spec, "the spec is not changed")
			assert.Equal(t, tc.want, reference.Of(excerptOf(t, spec)), "Fields are all that counts")
		})
	}
}

func TestOfIsBoundedByTheSizeOfTheSpec(t *testing.T) {
	names := func(n int, format string) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(format, i)
		}
		return all
	}
	mounting := func(containers, mounts int) []corev1.Container {
		var all []corev1.Container
		for _, name := range names(containers, "c%04d") {
			all = append(all, corev1.Container{Name: name, VolumeMounts: slices.Repeat([]corev1.VolumeMount{{Name: "v"}}, mounts)})
		}
		return all
	}
	var items []corev1.KeyToPath
	for _, key := range names(5000, "k%04d") {
		items = append(items, corev1.KeyToPath{Key: key, Path: key})
	}
	var sources []corev1.VolumeProjection
	for _, name := range names(5000, "s%04d") {
		sources = append(sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: name}}})
	}
	selected := corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, Items: items}}
	tests := map[string]struct {
		containers     []corev1.Container
		volume         corev1.VolumeSource
		wantReferences int
		wantKeys       int // in all references
	}{
		"one container that mounts many keys many times": {mounting(1, 5000), selected, 1, 5000},
		"many containers that mount many keys":           {mounting(5000, 1), selected, 1, 5000},
		"many containers that mount many sources": {
			mounting(5000, 1), corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}, 5000, 0,
		},
		"few containers are all told": {mounting(9, 3), selected, 9, 45_000},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			refs := reference.Of(&corev1.PodSpec{Containers: tc.containers, Volumes: []corev1.Volume{{Name: "v", VolumeSource: tc.volume}}})
			keys := 0
			for _, ref := range refs {
				keys += len(ref.Keys)
			}
			assert.Len(t, refs, tc.wantReferences)
			assert.Equal(t, tc.wantKeys, keys)
			assert.Equal(t, "c0000", refs[0].Container)
		})
	}
}

func TestFirstContainer(t *testing.T) {
	tests := map[string]struct {
		spec string
		want string
	}{
		"the first app container":              {spec: `{containers: [{name: b}, {name: a}]}`, want: "b"},
		"an init container does not count":     {spec: `{initContainers: [{name: i}], containers: [{name: a}]}`, want: "a"},
		"no container at all is an empty name": {spec: `{initContainers: [{name: i}]}`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, reference.FirstContainer(parseSpec(t, tc.spec)))
		})
	}
}

func BenchmarkOf(b *testing.B) {
	small := parseSpec(b, `
containers:
- name: app
  env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: a}}}]
  envFrom: [{configMapRef: {name: cm}}]
  volumeMounts: [{name: v, mountPath: /v}]
volumes: [{name: v, configMap: {name: files}}]`)
	large := &corev1.PodSpec{}
	for c := range 10 {
		container := corev1.Container{Name: fmt.Sprintf("c%d", c)}
		for e := range 100 {
			container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprintf("E%d", e), ValueFrom: &corev1.EnvVarSource{
				SecretKeyRef: &corev1.SecretKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: fmt.Sprintf("s%d", e%20)},
					Key:                  fmt.Sprintf("k%d", e),
				},
			}})
		}
		large.Containers = append(large.Containers, container)
	}
	for name, spec := range map[string]*corev1.PodSpec{"3 references": small, "1000 variables": large} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = reference.Of(spec)
			}
		})
	}
}

func parseSpec(t testing.TB, text string) *corev1.PodSpec {
	t.Helper()
	var spec corev1.PodSpec
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &spec))
	return &spec
}
