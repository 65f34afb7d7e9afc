package scope

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"k8s-reloader/reloader"
)

// Scope selects the watched objects. The zero value selects everything.
type Scope struct {
	// Namespaces, if there are any, are the only ones. They are watched one by
	// one, so that no right in the whole cluster is needed.
	Namespaces []string
	// IgnoredNamespaces are left alone.
	IgnoredNamespaces []string
	// NamespaceSelector leaves alone the namespaces whose labels it does not
	// match; nil matches all.
	NamespaceSelector labels.Selector
	// SourceSelector leaves alone the ConfigMaps and Secrets whose labels it
	// does not match; nil matches all.
	SourceSelector labels.Selector
	// IgnoredWorkloads are the kinds of workload that are left alone.
	IgnoredWorkloads []reloader.WorkloadKind
}

// Validate joins what the parts of the scope have against each other.
func (s Scope) Validate() error {
	var problems []error
	for _, name := range s.Namespaces {
		if slices.Contains(s.IgnoredNamespaces, name) {
			problems = append(problems, fmt.Errorf("namespace %s is both listed and ignored; take it out of one of the lists", name))
		}
	}
	if len(s.Namespaces) > 0 && s.NamespaceSelector != nil {
		problems = append(problems, errors.New("namespaces are both listed and selected by their labels; use one of the two"))
	}
	return errors.Join(problems...)
}

// Workloads reports whether workloads of a kind are watched.
func (s Scope) Workloads(k reloader.WorkloadKind) bool {
	return !slices.Contains(s.IgnoredWorkloads, k)
}

// SelectsNamespace reports whether a namespace is watched, as far as its name
// and its labels say.
func (s Scope) SelectsNamespace(name string, of map[string]string) bool {
	return (len(s.Namespaces) == 0 || slices.Contains(s.Namespaces, name)) &&
		!slices.Contains(s.IgnoredNamespaces, name) &&
		(s.NamespaceSelector == nil || s.NamespaceSelector.Matches(labels.Set(of)))
}

// SelectsSource reports whether a source of a kind is watched, as far as its
// labels say.
func (s Scope) SelectsSource(k reloader.SourceKind, of map[string]string) bool {
	return s.SourceSelectorOf(k) == nil || s.SourceSelector.Matches(labels.Set(of))
}

// SourceSelectorOf returns the selector that applies to a kind of source; nil
// if none does.
func (s Scope) SourceSelectorOf(k reloader.SourceKind) labels.Selector {
	if k == reloader.ConfigMap || k == reloader.Secret {
		return s.SourceSelector
	}
	return nil
}
