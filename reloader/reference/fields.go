package reference

import (
	"k8s-reloader/reloader/excerpt"
)

// What the elements of a pod spec cost: about what they take once they are
// decoded and their references collected.
const (
	containerCost = 1600
	volumeCost    = 600
	useCost       = 300
)

// Fields are the members of a pod spec's JSON that Of reads. A spec that is reduced
// to them has the same references.
func Fields() []excerpt.Member {
	selector := []excerpt.Member{excerpt.Scalar("name"), excerpt.Scalar("key"), excerpt.Scalar("optional")}
	object := []excerpt.Member{excerpt.Scalar("name"), excerpt.Scalar("optional")}
	items := excerpt.List("items", useCost, excerpt.Scalar("key"))
	secretRef := excerpt.Object("secretRef", excerpt.Scalar("name"))
	plugin := func(name string) excerpt.Member { return excerpt.Object(name, secretRef) }

	container := []excerpt.Member{
		excerpt.Scalar("name"),
		excerpt.List("env", useCost, excerpt.Object("valueFrom",
			excerpt.Object("configMapKeyRef", selector...),
			excerpt.Object("secretKeyRef", selector...),
		)),
		excerpt.List("envFrom", useCost,
			excerpt.Object("configMapRef", object...),
			excerpt.Object("secretRef", object...),
		),
		excerpt.List("volumeMounts", useCost, excerpt.Scalar("name")),
	}
	projection := []excerpt.Member{excerpt.Scalar("name"), excerpt.Scalar("optional"), items}
	volume := []excerpt.Member{
		excerpt.Scalar("name"),
		excerpt.Object("configMap", projection...),
		excerpt.Object("secret", excerpt.Scalar("secretName"), excerpt.Scalar("optional"), items),
		excerpt.Object("projected", excerpt.List("sources", useCost,
			excerpt.Object("configMap", projection...),
			excerpt.Object("secret", projection...),
		)),
		excerpt.Object("csi",
			excerpt.Scalar("driver"),
			excerpt.Map("volumeAttributes", useCost, func(key []byte) bool { return string(key) == csiClass }),
			excerpt.Object("nodePublishSecretRef", excerpt.Scalar("name")),
		),
		excerpt.Object("azureFile", excerpt.Scalar("secretName")),
		plugin("cephfs"), plugin("cinder"), plugin("flexVolume"), plugin("iscsi"),
		plugin("rbd"), plugin("scaleIO"), plugin("storageos"),
	}
	return []excerpt.Member{
		excerpt.List("containers", containerCost, container...),
		excerpt.List("initContainers", containerCost, container...),
		excerpt.List("ephemeralContainers", containerCost, container...),
		excerpt.List("volumes", volumeCost, volume...),
		excerpt.List("imagePullSecrets", useCost, excerpt.Scalar("name")),
	}
}
