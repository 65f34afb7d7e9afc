package reference

import (
	corev1 "k8s.io/api/core/v1"

	"k8s-reloader/reloader"
)

// csiDriver is the driver whose volumes name a SecretProviderClass, under
// csiClass in their attributes. Other drivers give attributes of the same name
// another meaning, and never report a pod status.
const (
	csiDriver = "secrets-store.csi.k8s.io"
	csiClass  = "secretProviderClass"
)

// maxMounted bounds what mounts multiply: containers of a volume times its
// sources and their keys, over all volumes.
const maxMounted = 50_000

// Of returns every reference of spec to a source.
//
// There is one reference per source, container and way of use; its Keys are
// those of all such uses, and it is optional only if all of them are. They are
// sorted by kind and name, then by container in the order of the spec (app
// containers, init containers, ephemeral containers, none), then by how: the
// first reference to a source that is not Init names the container to mark.
// The order of volumes, mounts and variables makes no difference.
//
// A spec in which many containers mount volumes of many sources or keys would
// make more references than it has bytes: beyond maxMounted, a volume counts as
// used by the first of its containers only, and no source is lost.
//
// A name that is empty is no reference. spec is not changed and nothing of it
// but strings is kept; it may be one that the API server would refuse.
func Of(spec *corev1.PodSpec) []reloader.Reference {
	users := containers(spec)
	var m merger
	for i := range users {
		addEnv(&m, &users[i])
	}
	addVolumes(&m, spec.Volumes, users)
	for _, pull := range spec.ImagePullSecrets {
		m.add(use{kind: reloader.Secret, name: pull.Name, how: reloader.HowImagePull}, nobody, nil)
	}
	return m.references()
}

// FirstContainer returns the name of the first app container, which carries
// the mark if the source is used by none; empty if there is no container.
func FirstContainer(spec *corev1.PodSpec) string {
	if len(spec.Containers) == 0 {
		return ""
	}
	return spec.Containers[0].Name
}

// user is a container of any sort, reduced to what can name a source.
type user struct {
	container
	env     []corev1.EnvVar
	envFrom []corev1.EnvFromSource
	mounts  []corev1.VolumeMount
}

// containers returns all containers of spec in the order of references.
func containers(spec *corev1.PodSpec) []user {
	users := make([]user, 0, len(spec.Containers)+len(spec.InitContainers)+len(spec.EphemeralContainers))
	add := func(name string, inner bool, env []corev1.EnvVar, envFrom []corev1.EnvFromSource, mounts []corev1.VolumeMount) {
		c := container{rank: len(users), name: name, inner: inner}
		users = append(users, user{container: c, env: env, envFrom: envFrom, mounts: mounts})
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		add(c.Name, false, c.Env, c.EnvFrom, c.VolumeMounts)
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		add(c.Name, true, c.Env, c.EnvFrom, c.VolumeMounts)
	}
	for i := range spec.EphemeralContainers {
		c := &spec.EphemeralContainers[i]
		add(c.Name, true, c.Env, c.EnvFrom, c.VolumeMounts)
	}
	return users
}

// addEnv adds what u's environment is made of.
func addEnv(m *merger, u *user) {
	for i := range u.env {
		from := u.env[i].ValueFrom
		if from == nil {
			continue
		}
		if ref := from.ConfigMapKeyRef; ref != nil {
			m.add(use{reloader.ConfigMap, ref.Name, reloader.HowEnv, isTrue(ref.Optional)}, u.container, []string{ref.Key})
		}
		if ref := from.SecretKeyRef; ref != nil {
			m.add(use{reloader.Secret, ref.Name, reloader.HowEnv, isTrue(ref.Optional)}, u.container, []string{ref.Key})
		}
	}
	for i := range u.envFrom {
		if ref := u.envFrom[i].ConfigMapRef; ref != nil {
			m.add(use{reloader.ConfigMap, ref.Name, reloader.HowEnvFrom, isTrue(ref.Optional)}, u.container, nil)
		}
		if ref := u.envFrom[i].SecretRef; ref != nil {
			m.add(use{reloader.Secret, ref.Name, reloader.HowEnvFrom, isTrue(ref.Optional)}, u.container, nil)
		}
	}
}

// addVolumes adds what the volumes are made of, once for each container that
// mounts the volume.
func addVolumes(m *merger, volumes []corev1.Volume, users []user) {
	if len(volumes) == 0 {
		return
	}
	mounted := make(map[string][]container, len(volumes))
	for i := range users {
		for j := range users[i].mounts {
			name, c := users[i].mounts[j].Name, users[i].container
			if name == "" {
				continue // no API server takes that, but admission comes before it
			}
			// One container may mount parts of a volume in many places.
			if by := mounted[name]; len(by) == 0 || by[len(by)-1].rank != c.rank {
				mounted[name] = append(by, c)
			}
		}
	}
	size := 0
	for i := range volumes {
		uses := 0
		visitVolume(&volumes[i], func(_ use, keys []string) { uses += 1 + len(keys) })
		size += uses * len(mounted[volumes[i].Name])
	}
	for i := range volumes {
		by := mounted[volumes[i].Name]
		if len(by) == 0 {
			by = []container{nobody}
		}
		if size > maxMounted {
			by = by[:1]
		}
		visitVolume(&volumes[i], func(u use, keys []string) {
			for _, c := range by {
				m.add(u, c, keys)
			}
		})
	}
}

// visitVolume calls visit for every source that v names.
func visitVolume(v *corev1.Volume, visit func(u use, keys []string)) {
	if s := v.ConfigMap; s != nil {
		visit(use{reloader.ConfigMap, s.Name, reloader.HowVolume, isTrue(s.Optional)}, itemKeys(s.Items))
	}
	if s := v.Secret; s != nil {
		visit(use{reloader.Secret, s.SecretName, reloader.HowVolume, isTrue(s.Optional)}, itemKeys(s.Items))
	}
	if v.Projected != nil {
		visitProjected(v.Projected.Sources, visit)
	}
	if s := v.CSI; s != nil {
		if s.Driver == csiDriver {
			visit(use{kind: reloader.SecretProviderClass, name: s.VolumeAttributes[csiClass], how: reloader.HowCSI}, nil)
		}
		if s.NodePublishSecretRef != nil {
			visit(use{kind: reloader.Secret, name: s.NodePublishSecretRef.Name, how: reloader.HowNodePublish}, nil)
		}
	}
	visit(use{kind: reloader.Secret, name: pluginSecret(&v.VolumeSource), how: reloader.HowVolumePlugin}, nil)
}

func visitProjected(sources []corev1.VolumeProjection, visit func(u use, keys []string)) {
	for i := range sources {
		if s := sources[i].ConfigMap; s != nil {
			visit(use{reloader.ConfigMap, s.Name, reloader.HowProjected, isTrue(s.Optional)}, itemKeys(s.Items))
		}
		if s := sources[i].Secret; s != nil {
			visit(use{reloader.Secret, s.Name, reloader.HowProjected, isTrue(s.Optional)}, itemKeys(s.Items))
		}
	}
}

// pluginSecret returns the Secret with which the kubelet mounts a volume of
// one of the in-tree plugins; empty if it is none of them or needs no Secret.
// A volume has one source, so there is at most one.
func pluginSecret(s *corev1.VolumeSource) string {
	var ref *corev1.LocalObjectReference
	switch {
	case s.AzureFile != nil:
		return s.AzureFile.SecretName
	case s.CephFS != nil:
		ref = s.CephFS.SecretRef
	case s.Cinder != nil:
		ref = s.Cinder.SecretRef
	case s.FlexVolume != nil:
		ref = s.FlexVolume.SecretRef
	case s.ISCSI != nil:
		ref = s.ISCSI.SecretRef
	case s.RBD != nil:
		ref = s.RBD.SecretRef
	case s.ScaleIO != nil:
		ref = s.ScaleIO.SecretRef
	case s.StorageOS != nil:
		ref = s.StorageOS.SecretRef
	}
	if ref == nil {
		return ""
	}
	return ref.Name
}

// itemKeys returns the keys that items select; nil, which stands for all of
// them, if there are no items.
func itemKeys(items []corev1.KeyToPath) []string {
	if len(items) == 0 {
		return nil
	}
	keys := make([]string, len(items))
	for i := range items {
		keys[i] = items[i].Key
	}
	return keys
}

func isTrue(b *bool) bool {
	return b != nil && *b
}
