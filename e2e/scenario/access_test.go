package scenario

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRights asks the API server what the chart's ServiceAccounts may do.
func TestRights(t *testing.T) {
	r := given(t, nil)
	ns := newNamespace(t, "rights")
	certificate, key := "secret/"+r.Webhook+"-certificate", "secret/"+r.Engine+"-fingerprint-key"
	tests := map[string]struct {
		account string
		verb    string
		what    string
		in      string
		want    bool
	}{
		"webhook reads its certificate":                  {r.Webhook, "get", certificate, r.Namespace, true},
		"webhook renews its certificate":                 {r.Webhook, "update", certificate, r.Namespace, true},
		"webhook does not delete its certificate":        {r.Webhook, "delete", certificate, r.Namespace, false},
		"webhook does not read the fingerprint key":      {r.Webhook, "get", key, r.Namespace, false},
		"webhook does not list its own namespace":        {r.Webhook, "list", "secrets", r.Namespace, false},
		"webhook does not read Secrets":                  {r.Webhook, "get", "secrets", ns, false},
		"webhook does not list Secrets":                  {r.Webhook, "list", "secrets", "", false},
		"webhook does not watch Secrets":                 {r.Webhook, "watch", "secrets", "", false},
		"webhook does not read ConfigMaps":               {r.Webhook, "get", "configmaps", ns, false},
		"webhook does not read workloads":                {r.Webhook, "get", "deployments.apps", ns, false},
		"webhook does not write workloads":               {r.Webhook, "patch", "deployments.apps", ns, false},
		"webhook publishes its CA":                       {r.Webhook, "patch", "validatingwebhookconfigurations/" + r.Webhook, "", true},
		"webhook does not touch others' configurations":  {r.Webhook, "patch", "validatingwebhookconfigurations/other", "", false},
		"webhook does not make configurations":           {r.Webhook, "create", "mutatingwebhookconfigurations", "", false},
		"engine reads Secrets":                           {r.Engine, "get", "secrets", ns, true},
		"engine does not write Secrets":                  {r.Engine, "update", "secrets", ns, false},
		"engine fills the fingerprint key":               {r.Engine, "update", key, r.Namespace, true},
		"engine does not write the certificate":          {r.Engine, "update", certificate, r.Namespace, false},
		"engine patches workloads":                       {r.Engine, "patch", "statefulsets.apps", ns, true},
		"engine does not replace workloads":              {r.Engine, "update", "statefulsets.apps", ns, false},
		"engine does not create workloads":               {r.Engine, "create", "deployments.apps", ns, false},
		"engine does not delete pods":                    {r.Engine, "delete", "pods", ns, false},
		"engine does not touch the webhook's admissions": {r.Engine, "patch", "mutatingwebhookconfigurations/" + r.Webhook, "", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			args := []string{"auth", "can-i", tc.verb, tc.what, "--as=system:serviceaccount:" + r.Namespace + ":" + tc.account}
			if tc.in == "" {
				args = append(args, "--all-namespaces")
			} else {
				args = append(args, "--namespace="+tc.in)
			}
			// The exit status is 1 for no.
			out, err := shared.Kubectl(t.Context(), args...)
			answer := strings.Fields(out)
			require.NotEmpty(t, answer, "%v", err)
			want := "no"
			if tc.want {
				want = "yes"
			}
			assert.Equal(t, want, answer[len(answer)-1], out)
		})
	}
}
