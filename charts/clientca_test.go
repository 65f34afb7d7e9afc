package charts_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func TestTheCAOfTheAPIServersIsHandedOn(t *testing.T) {
	const name, flag = "demo-reloader-webhook", "--client-ca=/etc/reloader/client-ca/ca.crt"
	without := render(t)
	assert.NotContains(t, webhookArgs(t, without), flag)
	assert.NotContains(t, without, "ConfigMap "+name+"-client-ca")
	assert.Empty(t, get[*appsv1.Deployment](t, without, "Deployment "+name).Spec.Template.Spec.Volumes)

	const ca = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----"
	with := render(t, "webhook.clientCA="+ca, "webhook.podAnnotations.a=b")
	assert.Contains(t, webhookArgs(t, with), flag)
	assert.Equal(t, ca+"\n", get[*corev1.ConfigMap](t, with, "ConfigMap "+name+"-client-ca").Data["ca.crt"])
	template := get[*appsv1.Deployment](t, with, "Deployment "+name).Spec.Template
	require.Len(t, template.Spec.Volumes, 1)
	assert.Equal(t, name+"-client-ca", template.Spec.Volumes[0].ConfigMap.Name)
	assert.Equal(t, []corev1.VolumeMount{{Name: "client-ca", MountPath: "/etc/reloader/client-ca", ReadOnly: true}},
		template.Spec.Containers[0].VolumeMounts)
	assert.Equal(t, "b", template.Annotations["a"])

	other := render(t, "webhook.clientCA="+ca+"\n"+ca)
	assert.NotEqual(t, template.Annotations["checksum/client-ca"],
		get[*appsv1.Deployment](t, other, "Deployment "+name).Spec.Template.Annotations["checksum/client-ca"], "it is read at the start")
}
