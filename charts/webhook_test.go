package charts_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"k8s-reloader/reloader/kind"
)

// withCertManager renders the chart for a cluster that has cert-manager.
func withCertManager(t *testing.T, values ...string) objects {
	t.Helper()
	require.NoError(t, certmanagerv1.AddToScheme(scheme.Scheme))
	args := append(templateArgs(append(values, "certificates.certManager.enabled=true")), "--api-versions", "cert-manager.io/v1")
	out, problems, err := helm(t, args...)
	require.NoError(t, err, problems)
	return byName(t, decode(t, out))
}

func webhookArgs(t *testing.T, rendered objects) []string {
	t.Helper()
	return get[*appsv1.Deployment](t, rendered, "Deployment demo-reloader-webhook").Spec.Template.Spec.Containers[0].Args
}

func TestRulesCoverEveryKindOfWorkload(t *testing.T) {
	configuration := get[*admissionregistrationv1.MutatingWebhookConfiguration](t, render(t), "MutatingWebhookConfiguration demo-reloader-webhook")
	covered := map[string]bool{}
	for _, rule := range configuration.Webhooks[0].Rules {
		for _, resource := range rule.Resources {
			covered[rule.APIGroups[0]+"/"+rule.APIVersions[0]+"/"+resource] = true
		}
	}
	for _, k := range kind.BuiltIn().All() {
		assert.True(t, covered[k.Resource.Group+"/"+k.Resource.Version+"/"+k.Resource.Resource], k.Name)
	}
}

func TestTheUsersSelectorsAreAddedToTheExclusions(t *testing.T) {
	rendered := render(t, "webhook.excludedNamespaces={build,system}", "webhook.namespaceSelector.matchLabels.team=a",
		"webhook.namespaceSelector.matchExpressions[0].key=tier", "webhook.namespaceSelector.matchExpressions[0].operator=Exists",
		"webhook.objectSelector.matchLabels.checked=yes")
	configuration := get[*admissionregistrationv1.ValidatingWebhookConfiguration](t, rendered, "ValidatingWebhookConfiguration demo-reloader-webhook")
	for _, w := range configuration.Webhooks {
		assert.Equal(t, &metav1.LabelSelector{
			MatchLabels: map[string]string{"team": "a"},
			MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system", "system", "build"}},
				{Key: "tier", Operator: metav1.LabelSelectorOpExists},
			},
		}, w.NamespaceSelector)
		assert.Equal(t, &metav1.LabelSelector{MatchLabels: map[string]string{"checked": "yes"}}, w.ObjectSelector)
	}
}

// selectors are what a rendered chart's webhooks and policies select.
func selectors(t *testing.T, list []runtime.Object) (namespaces, objects []*metav1.LabelSelector, names []string) {
	t.Helper()
	for _, obj := range list {
		switch o := obj.(type) {
		case *admissionregistrationv1.MutatingWebhookConfiguration:
			names = append(names, o.Name)
			for _, w := range o.Webhooks {
				namespaces, objects = append(namespaces, w.NamespaceSelector), append(objects, w.ObjectSelector)
			}
		case *admissionregistrationv1.ValidatingWebhookConfiguration:
			names = append(names, o.Name)
			for _, w := range o.Webhooks {
				namespaces, objects = append(namespaces, w.NamespaceSelector), append(objects, w.ObjectSelector)
			}
		case *admissionregistrationv1.ValidatingAdmissionPolicy:
			if strings.Contains(o.Name, "-ca-only") {
				continue // about the webhook itself, which no namespace is asked for
			}
			names = append(names, o.Name)
			namespaces, objects = append(namespaces, o.Spec.MatchConstraints.NamespaceSelector), append(objects, o.Spec.MatchConstraints.ObjectSelector)
		}
	}
	return namespaces, objects, names
}

func TestOnlyWatchedNamespacesAreAskedAbout(t *testing.T) {
	name := func(operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: corev1.LabelMetadataName, Operator: operator, Values: values}
	}
	notOurs := metav1.LabelSelectorRequirement{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"demo-reloader", "demo-reloader-webhook"}}
	tests := map[string]struct {
		values         []string
		wantNamespaces []metav1.LabelSelectorRequirement
		wantObjects    *metav1.LabelSelector
		// wantAfter is what the names end with.
		wantAfter string
	}{
		"all": {wantNamespaces: []metav1.LabelSelectorRequirement{name(metav1.LabelSelectorOpNotIn, "kube-system", "system")}},
		"all but those that are ignored": {
			values:         []string{`reloader.ignoreNamespaces=a\, system`},
			wantNamespaces: []metav1.LabelSelectorRequirement{name(metav1.LabelSelectorOpNotIn, "kube-system", "system", "a")},
		},
		"the release's own, but not its own objects": {
			values:         []string{"reloader.watchGlobally=false"},
			wantNamespaces: []metav1.LabelSelectorRequirement{name(metav1.LabelSelectorOpNotIn, "kube-system"), name(metav1.LabelSelectorOpIn, "system")},
			wantObjects:    &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{notOurs}},
			wantAfter:      ".system",
		},
		"those that are named, in one string": {
			values: []string{"reloader.watchGlobally=false", `reloader.namespaces=a\, b`},
			wantNamespaces: []metav1.LabelSelectorRequirement{
				name(metav1.LabelSelectorOpNotIn, "kube-system", "system"), name(metav1.LabelSelectorOpIn, "a", "b"),
			},
			wantAfter: ".system",
		},
		"its own and another, of the objects what the user selects": {
			values: []string{
				"reloader.watchGlobally=false", "reloader.namespaces={system,a}", "webhook.objectSelector.matchLabels.checked=yes",
				"webhook.objectSelector.matchExpressions[0].key=tier", "webhook.objectSelector.matchExpressions[0].operator=Exists",
			},
			wantNamespaces: []metav1.LabelSelectorRequirement{name(metav1.LabelSelectorOpNotIn, "kube-system"), name(metav1.LabelSelectorOpIn, "system", "a")},
			wantObjects: &metav1.LabelSelector{
				MatchLabels:      map[string]string{"checked": "yes"},
				MatchExpressions: []metav1.LabelSelectorRequirement{notOurs, {Key: "tier", Operator: metav1.LabelSelectorOpExists}},
			},
			wantAfter: ".system",
		},
	}
	for what, tc := range tests {
		t.Run(what, func(t *testing.T) {
			namespaces, objects, names := selectors(t, renderList(t, append(tc.values, "webhook.admissionPolicy.enabled=true")...))
			require.Len(t, namespaces, 5, "three webhooks and two policies")
			for i := range namespaces {
				assert.Equal(t, &metav1.LabelSelector{MatchExpressions: tc.wantNamespaces}, namespaces[i])
				assert.Equal(t, tc.wantObjects, objects[i])
			}
			after := "demo-reloader-webhook" + tc.wantAfter
			assert.ElementsMatch(t, []string{after, after, after + "-broken", after + "-doubtful"}, names)
		})
	}
}

// Whatever reads annotations has to read the same ones.
func TestEverythingFollowsTheKeysOfTheUser(t *testing.T) {
	keyFlags := map[string]string{
		"auto": "auto-annotation", "configmap_auto": "configmap-auto-annotation", "secret_auto": "secret-auto-annotation",
		"configmap": "configmap-annotation", "secret": "secret-annotation", "search": "auto-search-annotation",
		"match": "search-match-annotation", "ignore": "ignore-annotation",
		"pausePeriod": "pause-deployment-annotation", "pauseTime": "pause-deployment-time-annotation",
	}
	values := []string{"webhook.admissionPolicy.enabled=true"}
	var flags, keys []string
	for name, flag := range keyFlags {
		key := "example.com/the-" + strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		values, keys = append(values, "reloader.custom_annotations."+name+"="+key), append(keys, key)
		flags = append(flags, "--"+flag+"="+key)
	}
	rendered := render(t, values...)
	engine := get[*appsv1.Deployment](t, rendered, "Deployment demo-reloader").Spec.Template.Spec.Containers[0].Args
	assert.Subset(t, engine, flags)
	assert.Subset(t, webhookArgs(t, rendered), flags)

	sources := get[*admissionregistrationv1.ValidatingWebhookConfiguration](t, rendered, "ValidatingWebhookConfiguration demo-reloader-webhook").Webhooks[1]
	for _, key := range keys {
		assert.Contains(t, sources.MatchConditions[0].Expression, strconv.Quote(key))
	}

	var policies strings.Builder
	for _, name := range []string{"broken", "doubtful"} {
		policy := get[*admissionregistrationv1.ValidatingAdmissionPolicy](t, rendered, "ValidatingAdmissionPolicy demo-reloader-webhook-"+name)
		for _, v := range policy.Spec.Validations {
			policies.WriteString(v.Expression + v.Message + v.MessageExpression)
		}
	}
	// What stands on sources, and what is written by us, the policies do not judge.
	for _, name := range []string{"auto", "configmap_auto", "secret_auto", "configmap", "secret", "search", "pausePeriod"} {
		assert.Contains(t, policies.String(), "example.com/the-"+strings.ToLower(strings.ReplaceAll(name, "_", "-")))
	}
	for _, usual := range []string{
		"\"reloader.stakater.com/auto", "\"configmap.reloader.stakater.com/", "\"secret.reloader.stakater.com/", "\"reloader.stakater.com/search", "\"deployment.reloader",
	} {
		assert.NotContains(t, policies.String(), usual, "it has another name")
	}
}

// OpenShift gives each namespace users of its own.
func TestOnOpenShiftThePodsLeaveTheUserToIt(t *testing.T) {
	for _, name := range []string{"demo-reloader", "demo-reloader-webhook"} {
		context := get[*appsv1.Deployment](t, render(t, "reloader.isOpenshift=true"), "Deployment "+name).Spec.Template.Spec.SecurityContext
		assert.Nil(t, context.RunAsUser)
		assert.Nil(t, context.RunAsGroup)
		assert.True(t, *context.RunAsNonRoot)
		context = get[*appsv1.Deployment](t, render(t, "reloader.isOpenshift=true", "reloader.deployment.securityContext.runAsUser=7"), "Deployment "+name).Spec.Template.Spec.SecurityContext
		assert.Equal(t, int64(7), *context.RunAsUser, "the user's own choice stays")
	}
}

func TestTheWebhookStaysUp(t *testing.T) {
	rendered := render(t, "webhook.podAnnotations.a=b", "webhook.serviceAccount.annotations.c=d", "webhook.shutdownDelaySeconds=20", "webhook.tlsMinVersion=1.2")
	deployment := get[*appsv1.Deployment](t, rendered, "Deployment demo-reloader-webhook")
	pod := deployment.Spec.Template.Spec
	assert.Equal(t, int32(2), *deployment.Spec.Replicas)
	assert.Equal(t, int64(35), *pod.TerminationGracePeriodSeconds, "longer than the webhook goes on serving")
	assert.Subset(t, pod.Containers[0].Args, []string{"--shutdown-delay=20s", "--tls-min-version=1.2", "--certificate-validity=2160h", "--ca-validity=43800h"})
	assert.Contains(t, pod.Containers[0].Env, corev1.EnvVar{Name: "GOMEMLIMIT", ValueFrom: &corev1.EnvVarSource{
		ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory"},
	}})
	assert.Equal(t, map[string]string{"a": "b"}, deployment.Spec.Template.Annotations)
	assert.Equal(t, map[string]string{"c": "d"}, get[*corev1.ServiceAccount](t, rendered, "ServiceAccount demo-reloader-webhook").Annotations)
	assert.Equal(t, "kubernetes.io/hostname", pod.TopologySpreadConstraints[0].TopologyKey)

	budget := get[*policyv1.PodDisruptionBudget](t, rendered, "PodDisruptionBudget demo-reloader-webhook")
	assert.Equal(t, 1, budget.Spec.MaxUnavailable.IntValue())
	assert.Equal(t, deployment.Spec.Selector, budget.Spec.Selector)
	assert.NotContains(t, render(t, "webhook.podDisruptionBudget.enabled=false"), "PodDisruptionBudget demo-reloader-webhook")
}

func TestTheNetworkPolicyLetsTheAPIServerIn(t *testing.T) {
	assert.NotContains(t, render(t), "NetworkPolicy demo-reloader-webhook")
	policy := get[*networkingv1.NetworkPolicy](t, render(t, "webhook.networkPolicy.enabled=true"), "NetworkPolicy demo-reloader-webhook")
	require.Len(t, policy.Spec.Ingress, 2)
	assert.Equal(t, "admission", policy.Spec.Ingress[0].Ports[0].Port.StrVal)
	assert.Empty(t, policy.Spec.Ingress[0].From, "an API server is no pod")
	assert.Equal(t, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, policy.Spec.PolicyTypes)

	policy = get[*networkingv1.NetworkPolicy](t, render(t, "webhook.networkPolicy.enabled=true",
		"webhook.networkPolicy.admissionFrom[0].ipBlock.cidr=10.0.0.0/28"), "NetworkPolicy demo-reloader-webhook")
	assert.Equal(t, "10.0.0.0/28", policy.Spec.Ingress[0].From[0].IPBlock.CIDR)
	assert.Empty(t, policy.Spec.Ingress[1].From)
}

func TestCertManagerMakesTheCertificate(t *testing.T) {
	rendered := withCertManager(t, "certificates.validity=48h")
	certificate := get[*certmanagerv1.Certificate](t, rendered, "Certificate demo-reloader-webhook")
	assert.Equal(t, []string{"demo-reloader-webhook.system.svc", "demo-reloader-webhook.system.svc.cluster.local"}, certificate.Spec.DNSNames)
	assert.Equal(t, "48h0m0s", certificate.Spec.Duration.Duration.String())
	assert.Equal(t, "demo-reloader-webhook-ca", certificate.Spec.IssuerRef.Name)
	ca := get[*certmanagerv1.Certificate](t, rendered, "Certificate demo-reloader-webhook-ca")
	assert.True(t, ca.Spec.IsCA)
	assert.Equal(t, ca.Spec.SecretName, get[*certmanagerv1.Issuer](t, rendered, "Issuer demo-reloader-webhook-ca").Spec.CA.SecretName)
	assert.NotNil(t, get[*certmanagerv1.Issuer](t, rendered, "Issuer "+ca.Spec.IssuerRef.Name).Spec.SelfSigned)

	for _, key := range []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} {
		object, ok := rendered[key+" demo-reloader-webhook"].(metav1.Object)
		require.True(t, ok)
		assert.Equal(t, "system/demo-reloader-webhook", object.GetAnnotations()[certmanagerv1.WantInjectAnnotation])
	}
	assert.Subset(t, webhookArgs(t, rendered), []string{
		"--manage-certificate=false", "--publish-ca=false", "--certificate-secret=" + certificate.Spec.SecretName,
	})
	assert.Empty(t, get[*corev1.Secret](t, rendered, "Secret "+certificate.Spec.SecretName).Data)
	assert.NotContains(t, rendered, "Secret demo-reloader-webhook-certificate")

	cluster, namespaced := rendered.rules(t, "demo-reloader-webhook")
	assert.Equal(t, []string{"list", "watch"}, cluster[0].Verbs)
	assert.Equal(t, []string{"get", "list", "watch"}, namespaced[0].Verbs)
	assert.Equal(t, []string{certificate.Spec.SecretName}, namespaced[0].ResourceNames)
}

func TestAnIssuerOfTheUsersSigns(t *testing.T) {
	rendered := withCertManager(t, "certificates.certManager.issuerRef.name=corporate", "certificates.certManager.issuerRef.kind=ClusterIssuer")
	reference := get[*certmanagerv1.Certificate](t, rendered, "Certificate demo-reloader-webhook").Spec.IssuerRef
	assert.Equal(t, []string{"corporate", "ClusterIssuer", "cert-manager.io"}, []string{reference.Name, reference.Kind, reference.Group})
	for _, key := range rendered.keys() {
		assert.False(t, strings.HasPrefix(key, "Issuer "), key)
	}
	assert.NotContains(t, rendered, "Certificate demo-reloader-webhook-ca")
}

func TestACertificateOfTheUsersIsServed(t *testing.T) {
	rendered := render(t, "certificates.secretName=mine", "certificates.caBundle=PEM")
	assert.Subset(t, webhookArgs(t, rendered), []string{"--certificate-secret=mine", "--manage-certificate=false", "--publish-ca=false"})
	configuration := get[*admissionregistrationv1.MutatingWebhookConfiguration](t, rendered, "MutatingWebhookConfiguration demo-reloader-webhook")
	assert.Equal(t, []byte("PEM"), configuration.Webhooks[0].ClientConfig.CABundle)
	cluster, namespaced := rendered.rules(t, "demo-reloader-webhook")
	assert.Equal(t, []string{"list", "watch"}, cluster[0].Verbs)
	assert.Equal(t, []string{"mine"}, namespaced[0].ResourceNames)
	assert.NotContains(t, namespaced[0].Verbs, "update")

	rendered = render(t, "certificates.secretName=mine")
	assert.Contains(t, webhookArgs(t, rendered), "--publish-ca=true")
	cluster, _ = rendered.rules(t, "demo-reloader-webhook")
	assert.Contains(t, cluster[0].Verbs, "patch", "it publishes ca.crt of the Secret")
}

func TestCertificatesThatCannotWorkAreRefused(t *testing.T) {
	tests := map[string]struct{ value, want string }{
		"cert-manager without cert-manager":        {"certificates.certManager.enabled=true", "install it first, or leave the value false"},
		"cert-manager and a Secret of one's own":   {"certificates.certManager.enabled=true,certificates.secretName=a", "exclude each other"},
		"a CA without its Secret":                  {"certificates.caBundle=a", "set certificates.secretName"},
		"a lifetime in a unit that does not exist": {"certificates.validity=90d", "/certificates/validity"},
		"no lifetime":              {"certificates.caValidity=", "/certificates/caValidity"},
		"a typo":                   {"certificates.certmanager.enabled=true", "'certmanager' not allowed"},
		"an old version of TLS":    {"webhook.tlsMinVersion=1.1", "/webhook/tlsMinVersion"},
		"a client CA that is none": {"webhook.clientCA=/etc/ca.crt", "/webhook/clientCA"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, problems, err := helm(t, templateArgs([]string{tc.value})...)
			require.Error(t, err)
			assert.Contains(t, problems, tc.want)
		})
	}
}

// TestTheWebhookNeedsNoRightsWithoutIt also holds that certificates.yaml renders
// nothing then.
func TestTheWebhookNeedsNoRightsWithoutIt(t *testing.T) {
	for _, key := range withCertManager(t, "webhook.enabled=false").keys() {
		assert.NotContains(t, key, "webhook")
	}
}

func TestTheAdmissionPolicyFollowsTheMode(t *testing.T) {
	tests := map[string]struct {
		wantBroken, wantDoubtful admissionregistrationv1.ValidationAction
	}{
		"warn":    {admissionregistrationv1.Warn, admissionregistrationv1.Warn},
		"default": {admissionregistrationv1.Deny, admissionregistrationv1.Warn},
		"strict":  {admissionregistrationv1.Deny, admissionregistrationv1.Deny},
	}
	for mode, tc := range tests {
		t.Run(mode, func(t *testing.T) {
			rendered := render(t, "webhook.enabled=false", "webhook.admissionPolicy.enabled=true", "webhook.mode="+mode, "webhook.excludedNamespaces={build}")
			for name, want := range map[string]admissionregistrationv1.ValidationAction{"broken": tc.wantBroken, "doubtful": tc.wantDoubtful} {
				name = "demo-reloader-webhook-" + name
				binding := get[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](t, rendered, "ValidatingAdmissionPolicyBinding "+name)
				assert.Equal(t, []admissionregistrationv1.ValidationAction{want}, binding.Spec.ValidationActions)
				policy := get[*admissionregistrationv1.ValidatingAdmissionPolicy](t, rendered, "ValidatingAdmissionPolicy "+binding.Spec.PolicyName)
				assert.Equal(t, admissionregistrationv1.Ignore, *policy.Spec.FailurePolicy)
				assert.Equal(t, []string{"kube-system", "system", "build"}, policy.Spec.MatchConstraints.NamespaceSelector.MatchExpressions[0].Values)
			}
		})
	}
	// A values file has false where somebody wrote off without quotes.
	for _, off := range []string{"off", "false"} {
		rendered := render(t, "webhook.admissionPolicy.enabled=true", "webhook.mode="+off)
		assert.Contains(t, webhookArgs(t, rendered), "--admission=off")
		for _, key := range rendered.keys() {
			if !strings.HasSuffix(key, "-ca-only") {
				assert.NotContains(t, key, "ValidatingAdmissionPolicy")
			}
		}
	}
}

// The policy goes with the right that it pins.
func TestTheWebhooksRightToPatchIsPinned(t *testing.T) {
	tests := map[string]struct {
		rendered objects
		cluster  string // the name of what is in no namespace
		want     bool
	}{
		"by default":                    {rendered: render(t), cluster: "demo-reloader-webhook", want: true},
		"in watched namespaces alone":   {rendered: render(t, "reloader.watchGlobally=false"), cluster: "demo-reloader-webhook.system", want: true},
		"not if cert-manager publishes": {rendered: withCertManager(t), cluster: "demo-reloader-webhook"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			role := get[*rbacv1.ClusterRole](t, tc.rendered, "ClusterRole "+tc.cluster)
			assert.Equal(t, tc.want, slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Verbs, "patch") }))
			if !tc.want {
				assert.NotContains(t, tc.rendered, "ValidatingAdmissionPolicy "+tc.cluster+"-ca-only")
				return
			}
			pin := get[*admissionregistrationv1.ValidatingAdmissionPolicy](t, tc.rendered, "ValidatingAdmissionPolicy "+tc.cluster+"-ca-only")
			assert.Equal(t, admissionregistrationv1.Fail, *pin.Spec.FailurePolicy)
			assert.Equal(t, "request.userInfo.username == 'system:serviceaccount:system:demo-reloader-webhook'", pin.Spec.MatchConditions[0].Expression)
			binding := get[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](t, tc.rendered, "ValidatingAdmissionPolicyBinding "+pin.Name)
			assert.Equal(t, pin.Name, binding.Spec.PolicyName)
			assert.Equal(t, []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}, binding.Spec.ValidationActions)
		})
	}
}
