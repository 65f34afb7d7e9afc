package production

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"k8s-reloader/e2e/install"
)

// Whoever has taken over the webhook's account cannot send the requests of the
// cluster somewhere else.
func TestTheWebhookMaySetNothingButItsCA(t *testing.T) {
	installed(t, install.ChartOptions{Values: values(nil)})
	defer func() {
		helm(t, "uninstall", "reloader", "--wait")
		requireNothingLeft(t)
	}()
	config, err := shared.ServiceAccountConfig(t.Context(), namespace, "reloader-webhook")
	require.NoError(t, err)
	itself, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)

	const webhook = `{"op":"add","path":"/webhooks/0%s","value":%s}`
	type patch struct{ of, with string }
	denied := map[string]patch{
		"a URL in place of its Service":  {"mutating", `{"op":"remove","path":"/webhooks/0/clientConfig/service"},` + fmt.Sprintf(webhook, "/clientConfig/url", `"https://evil.example"`)},
		"another Service":                {"validating", fmt.Sprintf(webhook, "/clientConfig/service/namespace", `"evil"`)},
		"another path":                   {"validating", fmt.Sprintf(webhook, "/clientConfig/service/path", `"/evil"`)},
		"more rules":                     {"mutating", fmt.Sprintf(webhook, "/rules/0/resources", `["secrets"]`)},
		"another failure policy":         {"mutating", fmt.Sprintf(webhook, "/failurePolicy", `"Fail"`)},
		"more namespaces":                {"validating", fmt.Sprintf(webhook, "/namespaceSelector", `{}`)},
		"fewer conditions":               {"mutating", fmt.Sprintf(webhook, "/matchConditions", `[]`)},
		"a longer timeout":               {"validating", fmt.Sprintf(webhook, "/timeoutSeconds", `30`)},
		"another name":                   {"mutating", fmt.Sprintf(webhook, "/name", `"evil.example.com"`)},
		"one webhook less":               {"validating", `{"op":"remove","path":"/webhooks/0"}`},
		"the same webhook twice, nearly": {"validating", `{"op":"copy","from":"/webhooks/0","path":"/webhooks/-"},{"op":"replace","path":"/webhooks/2/name","value":"evil.example.com"}`},
		"a label":                        {"mutating", `{"op":"add","path":"/metadata/labels/evil","value":"true"}`},
		"an annotation":                  {"validating", `{"op":"add","path":"/metadata/annotations/evil","value":"true"}`},
		"a finalizer":                    {"mutating", `{"op":"add","path":"/metadata/finalizers","value":["evil.example.com/x"]}`},
		"an owner":                       {"mutating", `{"op":"add","path":"/metadata/ownerReferences","value":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"y"}]}`},
	}
	send := func(c kubernetes.Interface, p patch) error {
		options := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
		body := []byte("[" + p.with + "]")
		if p.of == "mutating" {
			_, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(t.Context(), "reloader-webhook", types.JSONPatchType, body, options)
			return err
		}
		_, err := c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(t.Context(), "reloader-webhook", types.JSONPatchType, body, options)
		return err
	}
	// API servers hear of a policy a moment after it is stored.
	require.Eventually(t, func() bool { return apierrors.IsForbidden(send(itself, denied["a label"])) }, soon, often)
	for name, p := range denied {
		t.Run(name, func(t *testing.T) {
			err := send(itself, p)
			require.ErrorContains(t, err, "may only set caBundle")
			assert.True(t, apierrors.IsForbidden(err))
			assert.NotContains(t, fmt.Sprint(send(shared.Client(), p)), "may only set caBundle", "others are not asked")
		})
	}
	for _, of := range []string{"mutating", "validating"} {
		require.NoError(t, send(itself, patch{of, fmt.Sprintf(webhook, "/clientConfig/caBundle", `"`+bundle(t)+`"`)}), of)
	}
}

// bundle is the CA that is published, in base64.
func bundle(t *testing.T) string {
	t.Helper()
	text, err := shared.Kubectl(t.Context(), "get", "validatingwebhookconfiguration", "reloader-webhook",
		"--output", "jsonpath={.webhooks[0].clientConfig.caBundle}")
	require.NoError(t, err)
	return text
}
