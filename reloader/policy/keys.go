package policy

import "k8s-reloader/reloader"

// Keys are the names of the annotations, each of which a flag may override.
// Keys is comparable.
type Keys struct {
	Auto                       string
	ConfigMapAuto              string
	SecretAuto                 string
	SecretProviderClassAuto    string
	ConfigMapNamed             string
	SecretNamed                string
	SecretProviderClassNamed   string
	ConfigMapExclude           string
	SecretExclude              string
	SecretProviderClassExclude string
	Search                     string
	Match                      string
	Ignore                     string
	RolloutStrategy            string
	CoalesceWindow             string
	PausePeriod                string
	PausedAt                   string
	LastReloadedFrom           string
	Index                      string
}

// DefaultKeys returns the names that today's users have in their manifests.
func DefaultKeys() Keys {
	return Keys{
		Auto:                       "reloader.stakater.com/auto",
		ConfigMapAuto:              "configmap.reloader.stakater.com/auto",
		SecretAuto:                 "secret.reloader.stakater.com/auto",
		SecretProviderClassAuto:    "secretproviderclass.reloader.stakater.com/auto",
		ConfigMapNamed:             "configmap.reloader.stakater.com/reload",
		SecretNamed:                "secret.reloader.stakater.com/reload",
		SecretProviderClassNamed:   "secretproviderclass.reloader.stakater.com/reload",
		ConfigMapExclude:           "configmaps.exclude.reloader.stakater.com/reload",
		SecretExclude:              "secrets.exclude.reloader.stakater.com/reload",
		SecretProviderClassExclude: "secretproviderclasses.exclude.reloader.stakater.com/reload",
		Search:                     "reloader.stakater.com/search",
		Match:                      "reloader.stakater.com/match",
		Ignore:                     "reloader.stakater.com/ignore",
		RolloutStrategy:            "reloader.stakater.com/rollout-strategy",
		CoalesceWindow:             "reloader.stakater.com/coalesce-window",
		PausePeriod:                "deployment.reloader.stakater.com/pause-period",
		PausedAt:                   "deployment.reloader.stakater.com/paused-at",
		LastReloadedFrom:           "reloader.stakater.com/last-reloaded-from",
		Index:                      "reloader.stakater.com/index",
	}
}

// TypedAuto returns the name of the auto annotation for one kind of source.
func (k Keys) TypedAuto(kind reloader.SourceKind) string {
	switch kind {
	case reloader.ConfigMap:
		return k.ConfigMapAuto
	case reloader.Secret:
		return k.SecretAuto
	case reloader.SecretProviderClass:
		return k.SecretProviderClassAuto
	}
	return ""
}

// Named returns the name of the annotation that lists sources of one kind.
func (k Keys) Named(kind reloader.SourceKind) string {
	switch kind {
	case reloader.ConfigMap:
		return k.ConfigMapNamed
	case reloader.Secret:
		return k.SecretNamed
	case reloader.SecretProviderClass:
		return k.SecretProviderClassNamed
	}
	return ""
}

// Exclude returns the name of the annotation that excludes sources of one kind.
func (k Keys) Exclude(kind reloader.SourceKind) string {
	switch kind {
	case reloader.ConfigMap:
		return k.ConfigMapExclude
	case reloader.Secret:
		return k.SecretExclude
	case reloader.SecretProviderClass:
		return k.SecretProviderClassExclude
	}
	return ""
}

// TemplateSubset returns the annotations of a pod template that policy reads:
// what Parse needs of it. It is nil if there are none.
func (k Keys) TemplateSubset(template map[string]string) map[string]string {
	var subset map[string]string
	keep := func(key string) {
		value, ok := template[key]
		if !ok {
			return
		}
		if subset == nil {
			subset = make(map[string]string)
		}
		subset[key] = value
	}
	keep(k.Auto)
	keep(k.Search)
	for _, kind := range reloader.SourceKinds() {
		keep(k.TypedAuto(kind))
		keep(k.Named(kind))
		keep(k.Exclude(kind))
	}
	return subset
}
