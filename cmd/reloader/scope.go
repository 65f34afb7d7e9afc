package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/scope"
)

// singleNamespace is the variable that names the only namespace, as today's
// charts set it.
const singleNamespace = "KUBERNETES_NAMESPACE"

// scopeFlags say what the engine watches.
type scopeFlags struct {
	namespaces        []string
	ignoredNamespaces []string
	namespaceSelector []string
	sourceSelector    []string
	ignoredWorkloads  []string
	argoRollouts      bool
}

func (f *scopeFlags) bind(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.namespaces, "namespaces", nil,
		"the only namespaces to watch, one by one, so that a Role in each is enough (default: $"+singleNamespace+", else all)")
	flags.StringSliceVar(&f.ignoredNamespaces, "namespaces-to-ignore", nil,
		"namespaces to leave alone")
	flags.StringArrayVar(&f.namespaceSelector, "namespace-selector", nil,
		"labels of the namespaces to watch: k=v, k!=v, 'k in (a,b)', k or !k, several with commas between; one that is relabelled joins or leaves at once")
	flags.StringArrayVar(&f.sourceSelector, "resource-label-selector", nil,
		"labels of the ConfigMaps and Secrets to watch, written like those of namespaces")
	flags.StringSliceVar(&f.ignoredWorkloads, "ignored-workload-types", nil,
		"kinds of workload to leave alone: jobs, cronjobs, deploymentconfigs")
	for _, name := range []string{"is-argo-rollouts", "is-Argo-Rollouts"} {
		flags.BoolVar(&f.argoRollouts, name, false, "reload Argo Rollouts, too")
	}
}

// parse returns the scope that the flags and the environment ask for.
func (f *scopeFlags) parse() (scope.Scope, error) {
	var s scope.Scope
	var err error
	named := "--namespaces"
	if s.Namespaces, err = namespaceNames(named, f.namespaces); err != nil {
		return s, err
	}
	if s.IgnoredNamespaces, err = namespaceNames("--namespaces-to-ignore", f.ignoredNamespaces); err != nil {
		return s, err
	}
	if s.NamespaceSelector, err = scope.ParseSelector(f.namespaceSelector...); err != nil {
		return s, fmt.Errorf("--namespace-selector: %w", err)
	}
	if s.SourceSelector, err = scope.ParseSelector(f.sourceSelector...); err != nil {
		return s, fmt.Errorf("--resource-label-selector: %w", err)
	}
	if s.IgnoredWorkloads, err = f.workloads(); err != nil {
		return s, err
	}
	if len(s.Namespaces) == 0 {
		named = singleNamespace
		if s.Namespaces, err = namespaceNames(named, []string{os.Getenv(named)}); err != nil {
			return s, err
		}
		if f.unselective() {
			s.NamespaceSelector = nil
		}
	}
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("%s: %s", named, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return s, nil
}

// unselective reports whether the selector of namespaces plays no part, because
// the environment names the only one. It has always been so: charts set both.
func (f *scopeFlags) unselective() bool {
	return len(f.namespaceSelector) > 0 && len(f.namespaces) == 0 && os.Getenv(singleNamespace) != ""
}

// workloads returns the kinds that are left alone.
func (f *scopeFlags) workloads() ([]reloader.WorkloadKind, error) {
	var ignored []reloader.WorkloadKind
	if !f.argoRollouts {
		ignored = append(ignored, reloader.Rollout)
	}
	for _, name := range f.ignoredWorkloads {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "jobs":
			ignored = append(ignored, reloader.Job)
		case "cronjobs":
			ignored = append(ignored, reloader.CronJob)
		case "deploymentconfigs":
			ignored = append(ignored, reloader.DeploymentConfig)
		case "":
		default:
			return nil, fmt.Errorf("--ignored-workload-types=%s: use jobs, cronjobs or deploymentconfigs", name)
		}
	}
	return ignored, nil
}

// namespaceNames returns the names in a list, sorted, each of them once.
func namespaceNames(from string, list []string) ([]string, error) {
	var names []string
	for _, name := range list {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		if len(validation.IsDNS1123Label(name)) > 0 {
			return nil, fmt.Errorf("%s=%s: no namespace can have that name; use a comma list of names", from, name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
