package charts_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"k8s-reloader/e2e/cluster/binaries"
	checkpoints "k8s-reloader/reloader/checkpoint"
)

// helm runs the helm that is built with the local cluster.
func helm(t *testing.T, args ...string) (stdout []byte, stderr string, err error) {
	t.Helper()
	paths, err := binaries.Build(t.Context(), binaries.Options{Log: t.Output()}, binaries.Kubernetes())
	require.NoError(t, err)
	home := t.TempDir()
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(t.Context(), paths["helm"], args...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	cmd.Stdout, cmd.Stderr = &out, &problems
	err = cmd.Run()
	return out.Bytes(), problems.String(), err
}

func template(t *testing.T, values ...string) []byte {
	t.Helper()
	out, problems, err := helm(t, templateArgs(values)...)
	require.NoError(t, err, problems)
	return out
}

func templateArgs(values []string) []string {
	args := []string{"template", "demo", "reloader", "--namespace", "system"}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	return args
}

// objects are the objects of a rendered chart, by kind and name. Unknown and
// repeated fields have been refused.
type objects map[string]runtime.Object

func render(t *testing.T, values ...string) objects {
	t.Helper()
	return byName(t, renderList(t, values...))
}

func byName(t *testing.T, list []runtime.Object) objects {
	t.Helper()
	found := objects{}
	for _, obj := range list {
		meta, ok := obj.(interface{ GetName() string })
		require.True(t, ok)
		key := obj.GetObjectKind().GroupVersionKind().Kind + " " + meta.GetName()
		require.NotContains(t, found, key)
		found[key] = obj
	}
	return found
}

// renderList is render for objects of which some differ by namespace alone.
func renderList(t *testing.T, values ...string) []runtime.Object {
	t.Helper()
	return decode(t, template(t, values...))
}

func decode(t *testing.T, manifests []byte) (found []runtime.Object) {
	t.Helper()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for document := range strings.SplitSeq(string(manifests), "\n---\n") {
		raw, err := yaml.YAMLToJSONStrict([]byte(document))
		require.NoError(t, err, document)
		if string(raw) == "null" {
			continue
		}
		obj, _, err := decoder.Decode(raw, nil, nil)
		require.NoError(t, err, document)
		found = append(found, obj)
	}
	return found
}

func get[T runtime.Object](t *testing.T, from objects, key string) T {
	t.Helper()
	obj, ok := from[key].(T)
	require.True(t, ok, "%s is not there", key)
	return obj
}

func (o objects) keys() []string {
	keys := make([]string, 0, len(o))
	for key := range o {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// rules returns every rule that a ServiceAccount is given, the cluster's first.
func (o objects) rules(t *testing.T, account string) (cluster, namespaced []rbacv1.PolicyRule) {
	t.Helper()
	for _, obj := range o {
		switch binding := obj.(type) {
		case *rbacv1.ClusterRoleBinding:
			if binding.Subjects[0].Name == account {
				assert.Len(t, binding.Subjects, 1)
				cluster = append(cluster, get[*rbacv1.ClusterRole](t, o, "ClusterRole "+binding.RoleRef.Name).Rules...)
			}
		case *rbacv1.RoleBinding:
			if binding.Subjects[0].Name == account {
				assert.Len(t, binding.Subjects, 1)
				assert.Equal(t, "system", binding.Namespace)
				namespaced = append(namespaced, get[*rbacv1.Role](t, o, "Role "+binding.RoleRef.Name).Rules...)
			}
		}
	}
	return cluster, namespaced
}

func TestLint(t *testing.T) {
	out, problems, err := helm(t, "lint", "--strict", "reloader")
	assert.NoError(t, err, string(out)+problems)
}

func TestTheSameValuesGiveTheSameBytes(t *testing.T) {
	first, second := template(t), template(t)
	assert.Equal(t, string(first), string(second))
	everything := append(templateArgs(nil), "--values", "testdata/stakater-values.yaml")
	first, problems, err := helm(t, everything...)
	require.NoError(t, err, problems)
	second, problems, err = helm(t, everything...)
	require.NoError(t, err, problems)
	assert.Equal(t, string(first), string(second))
}

func TestObjects(t *testing.T) {
	engine := []string{
		"ClusterRole demo-reloader-role",
		"ClusterRoleBinding demo-reloader-role-binding",
		"Deployment demo-reloader",
		"Role demo-reloader",
		"RoleBinding demo-reloader",
		"Secret demo-reloader-fingerprint-key",
		"ServiceAccount demo-reloader",
		"ConfigMap reloader-meta-info",
	}
	for _, name := range checkpoint() {
		engine = append(engine, "ConfigMap "+name)
	}
	webhook := []string{
		"ClusterRole demo-reloader-webhook",
		"ClusterRoleBinding demo-reloader-webhook",
		"Deployment demo-reloader-webhook",
		"MutatingWebhookConfiguration demo-reloader-webhook",
		"PodDisruptionBudget demo-reloader-webhook",
		"Role demo-reloader-webhook",
		"RoleBinding demo-reloader-webhook",
		"Secret demo-reloader-webhook-certificate",
		"Service demo-reloader-webhook",
		"ServiceAccount demo-reloader-webhook",
		"ValidatingAdmissionPolicy demo-reloader-webhook-ca-only",
		"ValidatingAdmissionPolicyBinding demo-reloader-webhook-ca-only",
		"ValidatingWebhookConfiguration demo-reloader-webhook",
	}
	assert.ElementsMatch(t, slices.Concat(engine, webhook), render(t).keys())
	assert.ElementsMatch(t, engine, render(t, "webhook.enabled=false").keys())
	assert.ElementsMatch(t, append(engine, "Lease stakater-reloader-lock"),
		render(t, "webhook.enabled=false", "reloader.enableHA=true", "reloader.deployment.replicas=2").keys())
}

// checkpoint returns the names of the ConfigMaps of a checkpoint.
func checkpoint() (names []string) {
	for shard := range checkpoints.Shards {
		names = append(names, fmt.Sprintf("demo-reloader-checkpoint-%d", shard))
	}
	return names
}

func TestTheWebhookMayReadNoSecretButItsOwn(t *testing.T) {
	cluster, namespaced := render(t).rules(t, "demo-reloader-webhook")
	assert.Equal(t, []rbacv1.PolicyRule{{
		APIGroups:     []string{"admissionregistration.k8s.io"},
		Resources:     []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations"},
		ResourceNames: []string{"demo-reloader-webhook"}, Verbs: []string{"list", "watch", "patch"},
	}}, cluster)
	assert.Equal(t, []rbacv1.PolicyRule{{
		APIGroups: []string{""}, Resources: []string{"secrets"},
		ResourceNames: []string{"demo-reloader-webhook-certificate"}, Verbs: []string{"get", "list", "watch", "update"},
	}}, namespaced)
}

func TestSecretsAreShippedEmpty(t *testing.T) {
	rendered := render(t)
	for _, name := range []string{"demo-reloader-fingerprint-key", "demo-reloader-webhook-certificate"} {
		secret := get[*corev1.Secret](t, rendered, "Secret "+name)
		assert.Empty(t, secret.Data)
		assert.Empty(t, secret.StringData)
		assert.Equal(t, corev1.SecretTypeOpaque, secret.Type, "other types must have keys from the start")
	}
}

// webhook is what the webhooks of both kinds of configuration have in common.
type webhook struct {
	name       string
	client     admissionregistrationv1.WebhookClientConfig
	rules      []admissionregistrationv1.RuleWithOperations
	failure    *admissionregistrationv1.FailurePolicyType
	match      *admissionregistrationv1.MatchPolicyType
	effects    *admissionregistrationv1.SideEffectClass
	timeout    *int32
	namespaces []string
	conditions []admissionregistrationv1.MatchCondition
}

func webhooks(t *testing.T, rendered objects) []webhook {
	t.Helper()
	mutating := get[*admissionregistrationv1.MutatingWebhookConfiguration](t, rendered, "MutatingWebhookConfiguration demo-reloader-webhook")
	validating := get[*admissionregistrationv1.ValidatingWebhookConfiguration](t, rendered, "ValidatingWebhookConfiguration demo-reloader-webhook")
	var found []webhook
	for _, w := range mutating.Webhooks {
		assert.Equal(t, admissionregistrationv1.IfNeededReinvocationPolicy, *w.ReinvocationPolicy)
		found = append(found, webhook{w.Name, w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds, w.NamespaceSelector.MatchExpressions[0].Values, w.MatchConditions})
	}
	for _, w := range validating.Webhooks {
		found = append(found, webhook{w.Name, w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds, w.NamespaceSelector.MatchExpressions[0].Values, w.MatchConditions})
	}
	return found
}

func TestWebhookConfigurations(t *testing.T) {
	found := webhooks(t, render(t))
	paths := map[string]string{}
	for _, w := range found {
		paths[w.name] = *w.client.Service.Path
		assert.Empty(t, w.client.CABundle, "the webhook publishes it")
		assert.Equal(t, "demo-reloader-webhook", w.client.Service.Name)
		assert.Equal(t, "system", w.client.Service.Namespace)
		assert.Equal(t, admissionregistrationv1.Ignore, *w.failure)
		assert.Equal(t, admissionregistrationv1.Equivalent, *w.match)
		assert.Equal(t, admissionregistrationv1.SideEffectClassNone, *w.effects)
		assert.Equal(t, int32(3), *w.timeout)
		assert.Equal(t, []string{"kube-system", "system"}, w.namespaces)
		resources := []string{}
		for _, rule := range w.rules {
			assert.Equal(t, []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update}, rule.Operations)
			resources = append(resources, rule.Resources...)
		}
		require.Len(t, w.conditions, 1)
		if strings.HasPrefix(w.name, "validate-source") {
			assert.Equal(t, []string{"configmaps", "secrets"}, resources)
			assert.Contains(t, w.conditions[0].Expression, "reloader.stakater.com/")
			continue
		}
		assert.ElementsMatch(t, []string{"deployments", "statefulsets", "daemonsets", "cronjobs", "jobs", "rollouts", "deploymentconfigs"}, resources)
		assert.Equal(t, `request.userInfo.username != "system:serviceaccount:system:demo-reloader"`, w.conditions[0].Expression)
	}
	assert.Equal(t, map[string]string{
		"mutate-workload.reloader.stakater.com":   "/mutate-workload",
		"validate-workload.reloader.stakater.com": "/validate-workload",
		"validate-source.reloader.stakater.com":   "/validate-source",
	}, paths)

	for _, w := range webhooks(t, render(t, "reloader.ignoreSecrets=true", "reloader.enableCSIIntegration=true")) {
		assert.NotContains(t, w.rules[0].Resources, "secrets", "a Secret that is ignored is sent nowhere")
		if strings.HasPrefix(w.name, "validate-source") {
			require.Len(t, w.rules, 2)
			assert.Equal(t, []string{"secretproviderclasses"}, w.rules[1].Resources)
		}
	}
	for _, w := range webhooks(t, render(t, "reloader.serviceAccount.create=false", "reloader.serviceAccount.name=mine"))[:2] {
		assert.Equal(t, `request.userInfo.username != "system:serviceaccount:system:mine"`, w.conditions[0].Expression)
	}
}

func TestPodsAreRestricted(t *testing.T) {
	rendered := render(t)
	for _, name := range []string{"demo-reloader", "demo-reloader-webhook"} {
		deployment := get[*appsv1.Deployment](t, rendered, "Deployment "+name)
		pod := deployment.Spec.Template.Spec
		assert.Equal(t, name, pod.ServiceAccountName)
		assert.True(t, *pod.SecurityContext.RunAsNonRoot)
		assert.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
		require.Len(t, pod.Containers, 1)
		container := pod.Containers[0]
		assert.True(t, *container.SecurityContext.ReadOnlyRootFilesystem)
		assert.False(t, *container.SecurityContext.AllowPrivilegeEscalation)
		assert.Equal(t, []corev1.Capability{"ALL"}, container.SecurityContext.Capabilities.Drop)
		assert.Equal(t, "/readyz", container.ReadinessProbe.HTTPGet.Path)
		assert.Equal(t, "/live", container.LivenessProbe.HTTPGet.Path)
		assert.Equal(t, map[string]string{"app": name, "release": "demo"}, deployment.Spec.Selector.MatchLabels)
	}
	webhook := get[*appsv1.Deployment](t, rendered, "Deployment demo-reloader-webhook")
	assert.Equal(t, intstr.FromInt32(0), *webhook.Spec.Strategy.RollingUpdate.MaxUnavailable)
}

// Both parts must read annotations the same way, or the engine would not trust
// what the webhook has recorded.
func TestSettingsReachBothParts(t *testing.T) {
	rendered := render(t, "reloader.autoReloadAll=true", "reloader.ignoreSecrets=true", "reloader.logLevel=debug", "reloader.logFormat=json",
		"reloader.reloadStrategy=annotations", "reloader.enableCSIIntegration=true", "reloader.followAllReferences=true", "webhook.mode=strict")
	shared := []string{
		"--auto-reload-all=true", "--resources-to-ignore=secrets", "--enable-csi-integration", "--follow-all-references",
		"--log-level=debug", "--log-format=json",
	}
	engine := get[*appsv1.Deployment](t, rendered, "Deployment demo-reloader").Spec.Template.Spec.Containers[0].Args
	assert.Subset(t, engine, append(shared, "--reload-strategy=annotations"))
	webhook := get[*appsv1.Deployment](t, rendered, "Deployment demo-reloader-webhook").Spec.Template.Spec.Containers[0].Args
	assert.Equal(t, "webhook", webhook[0])
	assert.Subset(t, webhook, append(shared, "--admission=strict"))
}

func TestImage(t *testing.T) {
	tests := map[string]struct {
		values []string
		want   string
	}{
		"by default":            {want: "k8s-reloader/reloader:2.0.0"},
		"a registry":            {values: []string{"image.registry=r.example.com", "image.tag=x"}, want: "r.example.com/k8s-reloader/reloader:x"},
		"a global registry":     {values: []string{"image.registry=r.example.com", "global.imageRegistry=g.example.com/"}, want: "g.example.com/k8s-reloader/reloader:2.0.0"},
		"a complete repository": {values: []string{"image.repository=localhost:5000/me/it"}, want: "localhost:5000/me/it:2.0.0"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			deployment := get[*appsv1.Deployment](t, render(t, tc.values...), "Deployment demo-reloader")
			assert.Equal(t, tc.want, deployment.Spec.Template.Spec.Containers[0].Image)
		})
	}
}

func TestEverythingSwitchedOnRenders(t *testing.T) {
	rendered := render(t,
		"global.imagePullSecrets={a}", "reloader.deployment.env.open.COUNT=1", "reloader.deployment.labels.team=x",
		"reloader.deployment.labels.app=not-this", "reloader.deployment.annotations.a=b", "reloader.deployment.priorityClassName=p",
		"reloader.deployment.nodeSelector.disk=ssd", "reloader.deployment.tolerations[0].operator=Exists",
		"webhook.nodeSelector.disk=ssd", "webhook.tolerations[0].operator=Exists", "webhook.priorityClassName=p",
		"reloader.deployment.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
		"webhook.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
		"fullnameOverride="+strings.Repeat("x", 80))
	name := strings.Repeat("x", 63)
	deployment := get[*appsv1.Deployment](t, rendered, "Deployment "+name)
	assert.Equal(t, name, deployment.Spec.Template.Labels["app"])
	assert.Equal(t, "x", deployment.Spec.Template.Labels["team"])
	assert.Equal(t, []corev1.LocalObjectReference{{Name: "a"}}, deployment.Spec.Template.Spec.ImagePullSecrets)
	assert.Contains(t, deployment.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "COUNT", Value: "1"})
}

func TestBadValuesAreRefused(t *testing.T) {
	tests := map[string]struct {
		value string
		want  string
	}{
		"a typo at the top":           {value: "reloder.autoReloadAll=true", want: "'reloder' not allowed"},
		"a typo further down":         {value: "reloader.autoReloadAl=true", want: "value must be 'autoReloadAll'"},
		"a typo of the webhook":       {value: "webhook.enable=false", want: "value must be 'enabled'"},
		"a strategy that is unknown":  {value: "reloader.reloadStrategy=restart", want: "/reloader/reloadStrategy"},
		"a mode that is unknown":      {value: "webhook.mode=on", want: "/webhook/mode"},
		"two engines":                 {value: "reloader.deployment.replicas=2", want: "needs reloader.enableHA: true"},
		"another failure policy":      {value: "webhook.failurePolicy=Fail", want: "'failurePolicy' not allowed"},
		"a duration of another kind":  {value: "reloader.coalesceWindow=1d", want: "/reloader/coalesceWindow"},
		"a URL without a scheme":      {value: "reloader.webhookUrl=receiver", want: "/reloader/webhookUrl"},
		"a number that is text":       {value: "webhook.timeoutSeconds=soon", want: "/webhook/timeoutSeconds"},
		"nothing left to be reloaded": {value: "reloader.ignoreSecrets=true,reloader.ignoreConfigMaps=true", want: "set at most one of them"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, problems, err := helm(t, templateArgs([]string{tc.value})...)
			require.Error(t, err)
			assert.Contains(t, problems, tc.want)
		})
	}
}
