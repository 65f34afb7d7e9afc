package charts_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
)

// everyFeature switches on whatever gives the engine a right.
func everyFeature() []string {
	return []string{
		"webhook.enabled=false", "reloader.isArgoRollouts=true", "reloader.isOpenshift=true",
		"reloader.enableCSIIntegration=true", "reloader.namespaceSelector=a=b", "reloader.enableHA=true",
	}
}

// right is a line of docs/security.md.
type right struct {
	purpose string
	// notWith are values any of which takes the right away.
	notWith []string
	// actions are what it allows, each as "where group/resource name verb".
	actions []string
}

// documentedRights reads the table of docs/security.md that a comment with the
// name of the part announces.
func documentedRights(t *testing.T, part string) []right {
	t.Helper()
	text, err := os.ReadFile("../docs/security.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "<!-- "+part+" -->\n\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	var rights []right
	for _, line := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		require.Len(t, cells, 7, line)
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "`", ""))
		}
		r := right{purpose: cells[0] + " (" + cells[4] + ")"}
		if cells[1] != "" {
			for value := range strings.SplitSeq(cells[1], " or ") {
				r.notWith = append(r.notWith, strings.ReplaceAll(strings.Replace(value, ": ", "=", 1), `""`, ""))
			}
		}
		for resource := range strings.SplitSeq(cells[4], ", ") {
			for _, name := range names(cells[5]) {
				for verb := range strings.SplitSeq(cells[6], ", ") {
					r.actions = append(r.actions, action(cells[2], cells[3], resource, name, verb))
				}
			}
		}
		rights = append(rights, r)
	}
	return rights
}

// names are those of a cell, which may say "from to to".
func names(cell string) []string {
	cell = strings.ReplaceAll(cell, "<name>", "demo-reloader")
	from, to, several := strings.Cut(cell, " to ")
	if !several {
		return []string{cell}
	}
	found := []string{}
	for i := range 10 {
		name := fmt.Sprintf("%s%d", strings.TrimSuffix(from, "0"), i)
		found = append(found, name)
		if name == to {
			break
		}
	}
	return found
}

func action(where, group, resource, name, verb string) string {
	if where == "cluster" {
		where = "watched"
	}
	return strings.Join([]string{where, group + "/" + resource, name, verb}, " ")
}

// renderedActions are what the engine is allowed, each once.
func renderedActions(t *testing.T, values ...string) []string {
	t.Helper()
	return allowed(t, render(t, values...), "demo-reloader")
}

// allowed is what an account may do, each action once.
func allowed(t *testing.T, rendered objects, account string) []string {
	t.Helper()
	cluster, own := rendered.rules(t, account)
	found := append(actions("watched", cluster), actions("own", own)...)
	slices.Sort(found)
	return slices.Compact(found)
}

func actions(where string, rules []rbacv1.PolicyRule) (found []string) {
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{"all"}
		}
		for _, group := range rule.APIGroups {
			if group == "" {
				group = "core"
			}
			for _, resource := range rule.Resources {
				for _, name := range names {
					for _, verb := range rule.Verbs {
						found = append(found, action(where, group, resource, name, verb))
					}
				}
			}
		}
	}
	return found
}

func TestTheEngineMayDoWhatTheDocumentationSays(t *testing.T) {
	rights := documentedRights(t, "engine")
	without := func(value string) (left []string) {
		for _, r := range rights {
			if value == "" || !slices.Contains(r.notWith, value) {
				left = append(left, r.actions...)
			}
		}
		slices.Sort(left)
		return slices.Compact(left)
	}
	assert.Equal(t, without(""), renderedActions(t, everyFeature()...), "all features")
	tried := map[string]bool{}
	for _, r := range rights {
		for _, value := range r.notWith {
			if tried[value] {
				continue
			}
			tried[value] = true
			t.Run("without what "+value+" takes away", func(t *testing.T) {
				assert.Equal(t, without(value), renderedActions(t, append(everyFeature(), value)...))
			})
		}
	}
	assert.Len(t, tried, 10, "each feature that can be switched off")
}

// How these change with who makes the certificate, the tests of certificates hold.
func TestTheWebhookMayDoWhatTheDocumentationSays(t *testing.T) {
	var want []string
	for _, r := range documentedRights(t, "webhook") {
		want = append(want, r.actions...)
	}
	slices.Sort(want)
	assert.Equal(t, slices.Compact(want), allowed(t, render(t), "demo-reloader-webhook"))
}

// What several values together take away, the table does not say.
func TestRightsFollowFromSeveralValues(t *testing.T) {
	tests := map[string]struct {
		values []string
		// resource and the verbs that are left of it.
		resource  string
		wantVerbs []string
	}{
		"CronJobs are asked about by Jobs alone": {
			values: []string{"reloader.ignoreCronJobs=true"}, resource: "batch/cronjobs", wantVerbs: []string{"get"},
		},
		"Jobs are made for CronJobs alone": {
			values: []string{"reloader.ignoreJobs=true"}, resource: "batch/jobs", wantVerbs: []string{"create", "delete", "get", "list"},
		},
		"nothing of batch without both":       {values: []string{"reloader.ignoreJobs=true", "reloader.ignoreCronJobs=true"}, resource: "batch/cronjobs"},
		"no Jobs without both":                {values: []string{"reloader.ignoreJobs=true", "reloader.ignoreCronJobs=true"}, resource: "batch/jobs"},
		"no Jobs for CronJobs that are told":  {values: []string{"reloader.ignoreJobs=true", "reloader.webhookUrl=http://receiver"}, resource: "batch/jobs"},
		"nothing of CronJobs for Jobs told":   {values: []string{"reloader.ignoreCronJobs=true", "reloader.webhookUrl=http://receiver"}, resource: "batch/cronjobs"},
		"Jobs that are told are watched only": {values: []string{"reloader.webhookUrl=http://receiver"}, resource: "batch/jobs", wantVerbs: []string{"get", "list", "watch"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var verbs []string
			for _, action := range renderedActions(t, tc.values...) {
				if verb, ok := strings.CutPrefix(action, "watched "+tc.resource+" all "); ok {
					verbs = append(verbs, verb)
				}
			}
			assert.Equal(t, tc.wantVerbs, verbs)
		})
	}
}

func TestWatchedNamespacesNeedNoClusterRole(t *testing.T) {
	tests := map[string]struct {
		values []string
		// want are the namespaces of the Roles for what is watched.
		want map[string]string
	}{
		"the release's own": {want: map[string]string{"system": "demo-reloader-role"}},
		"those that are named": {
			values: []string{"reloader.namespaces={team-a,system,team-b}"},
			want: map[string]string{
				"team-a": "demo-reloader-system-role", "system": "demo-reloader-role", "team-b": "demo-reloader-system-role",
			},
		},
		"named in one string": {
			values: []string{`reloader.namespaces=team-a\, team-b`},
			want:   map[string]string{"team-a": "demo-reloader-system-role", "team-b": "demo-reloader-system-role"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			values := append([]string{"webhook.enabled=false", "reloader.watchGlobally=false"}, tc.values...)
			roles := map[string]string{}
			for _, obj := range renderList(t, values...) {
				switch o := obj.(type) {
				case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding:
					assert.Fail(t, "a cluster's object", "%v", o)
				case *rbacv1.Role:
					if strings.HasSuffix(o.Name, "-role") {
						roles[o.Namespace] = o.Name
						assert.Contains(t, actions("watched", o.Rules), "watched core/secrets all watch")
					}
				case *rbacv1.RoleBinding:
					assert.Equal(t, strings.TrimSuffix(o.Name, "-binding"), o.RoleRef.Name)
					assert.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: "demo-reloader", Namespace: "system"}}, o.Subjects)
				}
			}
			assert.Equal(t, tc.want, roles)
		})
	}
}

func TestRolesCanBeMadeByOthers(t *testing.T) {
	for _, obj := range renderList(t, "webhook.enabled=false", "reloader.rbac.enabled=false", "reloader.serviceAccount.create=false", "reloader.serviceAccount.name=mine") {
		kind := obj.GetObjectKind().GroupVersionKind().Kind
		assert.NotContains(t, []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}, kind)
	}
}
