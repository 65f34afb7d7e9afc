package policy

import (
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

// Settings are the flags that take part in decisions. The zero value with
// DefaultKeys is what a user without flags gets. Settings is comparable.
type Settings struct {
	Keys annotation.Keys
	// AutoReloadAll opts in every workload that has no auto annotation.
	AutoReloadAll bool
	// IgnoreConfigMaps and IgnoreSecrets switch a kind of source off.
	IgnoreConfigMaps bool
	IgnoreSecrets    bool
	// CSI switches SecretProviderClasses on.
	CSI bool
	// FollowAll makes auto and search follow references that the pod's
	// processes do not see, such as imagePullSecrets.
	FollowAll bool
}

// Follows reports whether auto and search act through references of this kind.
func (s Settings) Follows(h reloader.How) bool {
	return s.FollowAll || h.Followed()
}

// Enabled reports whether sources of this kind can reload anything.
func (s Settings) Enabled(kind reloader.SourceKind) bool {
	switch kind {
	case reloader.ConfigMap:
		return !s.IgnoreConfigMaps
	case reloader.Secret:
		return !s.IgnoreSecrets
	case reloader.SecretProviderClass:
		return s.CSI
	}
	return false
}
