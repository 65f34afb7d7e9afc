package annotation

import "k8s-reloader/reloader"

// row is one annotation of the table: what it is, and its name before flags
// are read.
type row struct {
	key    *string // the field of Keys
	name   string  // the default
	places Place
	role   Role
	source reloader.SourceKind
	// flag renames the annotation; empty if none does. Usage is its help text.
	flag, usage string
}

const (
	cm  = reloader.ConfigMap
	sec = reloader.Secret
	spc = reloader.SecretProviderClass
)

// table lists all annotations, with pointers into k. It is an array rather than
// a slice, because some filters run for every workload that is read.
func table(k *Keys) [19]row {
	const both = Workload | Template
	return [...]row{
		{&k.Auto, "reloader.stakater.com/auto", both, OptIn, "",
			"auto-annotation", "reloads on changes of all referenced sources"},
		{&k.ConfigMapAuto, "configmap.reloader.stakater.com/auto", both, OptIn, cm,
			"configmap-auto-annotation", "reloads on changes of referenced ConfigMaps"},
		{&k.SecretAuto, "secret.reloader.stakater.com/auto", both, OptIn, sec,
			"secret-auto-annotation", "reloads on changes of referenced Secrets"},
		{&k.SecretProviderClassAuto, "secretproviderclass.reloader.stakater.com/auto", both, OptIn, spc, "", ""},
		{&k.ConfigMapNamed, "configmap.reloader.stakater.com/reload", both, List, cm,
			"configmap-annotation", "lists ConfigMaps by name"},
		{&k.SecretNamed, "secret.reloader.stakater.com/reload", both, List, sec,
			"secret-annotation", "lists Secrets by name"},
		{&k.SecretProviderClassNamed, "secretproviderclass.reloader.stakater.com/reload", both, List, spc, "", ""},
		{&k.ConfigMapExclude, "configmaps.exclude.reloader.stakater.com/reload", both, List, cm, "", ""},
		{&k.SecretExclude, "secrets.exclude.reloader.stakater.com/reload", both, List, sec, "", ""},
		{&k.SecretProviderClassExclude, "secretproviderclasses.exclude.reloader.stakater.com/reload", both, List, spc, "", ""},
		{&k.Search, "reloader.stakater.com/search", both, OptIn, "",
			"auto-search-annotation", "reloads on changes of referenced sources that carry the match annotation"},
		{&k.Match, "reloader.stakater.com/match", Source, Tag, "",
			"search-match-annotation", "marks a source for the search annotation"},
		{&k.Ignore, "reloader.stakater.com/ignore", Source, Tag, "",
			"ignore-annotation", "marks a source that is left alone"},
		{&k.RolloutStrategy, "reloader.stakater.com/rollout-strategy", Workload, Setting, "", "", ""},
		{&k.CoalesceWindow, "reloader.stakater.com/coalesce-window", Workload, Setting, "", "", ""},
		{&k.PausePeriod, "deployment.reloader.stakater.com/pause-period", Workload, Setting, "",
			"pause-deployment-annotation", "limits a Deployment to one rollout per period"},
		{&k.PausedAt, "deployment.reloader.stakater.com/paused-at", Workload, State, "",
			"pause-deployment-time-annotation", "holds the time at which a Deployment was paused"},
		{&k.LastReloadedFrom, "reloader.stakater.com/last-reloaded-from", both, State, "", "", ""},
		{&k.Index, "reloader.stakater.com/index", Workload, State, "", "", ""},
	}
}
