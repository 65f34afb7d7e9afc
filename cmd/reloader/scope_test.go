package main

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/labels"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/scope"
)

func TestScope(t *testing.T) {
	withoutRollouts := []reloader.WorkloadKind{"Rollout"}
	selector := func(text string) labels.Selector {
		s, err := labels.Parse(text)
		require.NoError(t, err)
		return s
	}
	tests := map[string]struct {
		args            []string
		single          string
		want            scope.Scope
		wantUnselective bool
	}{
		"everything, but for Rollouts":       {want: scope.Scope{IgnoredWorkloads: withoutRollouts}},
		"Rollouts, too":                      {args: []string{"--is-argo-rollouts"}},
		"Rollouts, by the flag's other name": {args: []string{"--is-Argo-Rollouts=true"}},
		"Rollouts, switched off": {
			args: []string{"--is-Argo-Rollouts=false"}, want: scope.Scope{IgnoredWorkloads: withoutRollouts},
		},
		"no Jobs and CronJobs, in any case": {
			args: []string{"--is-argo-rollouts", "--ignored-workload-types=Jobs, CRONJOBS"},
			want: scope.Scope{IgnoredWorkloads: []reloader.WorkloadKind{"Job", "CronJob"}},
		},
		"no DeploymentConfigs": {
			args: []string{"--is-argo-rollouts", "--ignored-workload-types=deploymentconfigs"},
			want: scope.Scope{IgnoredWorkloads: []reloader.WorkloadKind{"DeploymentConfig"}},
		},
		"some namespaces, each of them once": {
			args: []string{"--is-argo-rollouts", "--namespaces=shop, bank,", "--namespaces=shop"},
			want: scope.Scope{Namespaces: []string{"bank", "shop"}},
		},
		"a single namespace": {
			args: []string{"--is-argo-rollouts"}, single: "shop",
			want: scope.Scope{Namespaces: []string{"shop"}},
		},
		"the flag wins over the variable": {
			args: []string{"--is-argo-rollouts", "--namespaces=bank"}, single: "shop",
			want: scope.Scope{Namespaces: []string{"bank"}},
		},
		"all namespaces but some": {
			args: []string{"--is-argo-rollouts", "--namespaces-to-ignore=kube-system,default"},
			want: scope.Scope{IgnoredNamespaces: []string{"default", "kube-system"}},
		},
		"some namespaces and others to ignore, which changes nothing": {
			args: []string{"--is-argo-rollouts", "--namespaces=a", "--namespaces-to-ignore=b"},
			want: scope.Scope{Namespaces: []string{"a"}, IgnoredNamespaces: []string{"b"}},
		},
		"namespaces by their labels, but for some": {
			args: []string{"--is-argo-rollouts", "--namespace-selector=team in (a,b)", "--namespaces-to-ignore=b"},
			want: scope.Scope{NamespaceSelector: selector("team in (a,b)"), IgnoredNamespaces: []string{"b"}},
		},
		"a single namespace needs no labels": {
			args: []string{"--is-argo-rollouts", "--namespace-selector=team=a"}, single: "shop",
			want: scope.Scope{Namespaces: []string{"shop"}}, wantUnselective: true,
		},
		"sources by their labels, in every form": {
			args: []string{"--is-argo-rollouts", "--resource-label-selector=a:1,b:*", "--resource-label-selector=c in (x,y)"},
			want: scope.Scope{SourceSelector: selector("a=1,b,c in (x,y)")},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv(singleNamespace, tc.single)
			f, flags := new(scopeFlags), pflag.NewFlagSet("test", pflag.ContinueOnError)
			f.bind(flags)
			require.NoError(t, flags.Parse(tc.args))
			got, err := f.parse()
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.wantUnselective, f.unselective())
		})
	}
}

func TestTheSingleNamespaceHasToBeOne(t *testing.T) {
	tests := map[string]struct {
		single string
		ignore string
		want   string
	}{
		"that can be":         {single: "a b", want: "KUBERNETES_NAMESPACE=a b: no namespace can have that name"},
		"that is not ignored": {single: "shop", ignore: "shop", want: "KUBERNETES_NAMESPACE: namespace shop is both listed and ignored"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv(singleNamespace, tc.single)
			_, err := (&scopeFlags{ignoredNamespaces: []string{tc.ignore}}).parse()
			assert.ErrorContains(t, err, tc.want)
		})
	}
}
