package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"k8s-reloader/reloader/policy"
)

// settingsFlags are the flags from which policy.Settings are made. Engine,
// webhook and lint share them, because they have to agree.
type settingsFlags struct {
	settings policy.Settings
	ignored  []string
}

func (f *settingsFlags) bind(flags *pflag.FlagSet) {
	f.settings.Keys = policy.DefaultKeys()
	flags.BoolVar(&f.settings.AutoReloadAll, "auto-reload-all", false,
		"reload every workload whose sources change, unless an auto annotation says otherwise")
	flags.BoolVar(&f.settings.FollowAll, "follow-all-references", false,
		"let auto and search follow references that processes do not see, such as imagePullSecrets")
	flags.BoolVar(&f.settings.CSI, "enable-csi-integration", false,
		"reload on changes of what the Secrets Store CSI driver mounts, too")
	flags.StringSliceVar(&f.ignored, "resources-to-ignore", nil,
		"kind of source that is left alone: configmaps or secrets")
	for _, key := range f.keyFlags() {
		flags.StringVar(key.of, key.flag, *key.of, "annotation that "+key.what)
	}
}

// keyFlag is a flag that gives an annotation another name.
type keyFlag struct {
	of   *string
	flag string
	what string
}

func (f *settingsFlags) keyFlags() []keyFlag {
	k := &f.settings.Keys
	return []keyFlag{
		{&k.Auto, "auto-annotation", "reloads on changes of all referenced sources"},
		{&k.ConfigMapAuto, "configmap-auto-annotation", "reloads on changes of referenced ConfigMaps"},
		{&k.SecretAuto, "secret-auto-annotation", "reloads on changes of referenced Secrets"},
		{&k.ConfigMapNamed, "configmap-annotation", "lists ConfigMaps by name"},
		{&k.SecretNamed, "secret-annotation", "lists Secrets by name"},
		{&k.Search, "auto-search-annotation", "reloads on changes of referenced sources that carry the match annotation"},
		{&k.Match, "search-match-annotation", "marks a source for the search annotation"},
		{&k.Ignore, "ignore-annotation", "marks a source that is left alone"},
		{&k.PausePeriod, "pause-deployment-annotation", "limits a Deployment to one rollout per period"},
		{&k.PausedAt, "pause-deployment-time-annotation", "holds the time at which a Deployment was paused"},
	}
}

// parse returns the settings that the flags ask for.
func (f *settingsFlags) parse() (policy.Settings, error) {
	s := f.settings
	for _, ignored := range f.ignored {
		switch strings.ToLower(strings.TrimSpace(ignored)) {
		case "configmaps":
			s.IgnoreConfigMaps = true
		case "secrets":
			s.IgnoreSecrets = true
		case "":
		default:
			return s, fmt.Errorf("--resources-to-ignore=%s: use configmaps or secrets", ignored)
		}
	}
	if s.IgnoreConfigMaps && s.IgnoreSecrets {
		return s, fmt.Errorf("--resources-to-ignore=%s: nothing would be left to reload for; ignore one kind at most",
			strings.Join(f.ignored, ","))
	}
	return s, f.distinct()
}

// distinct makes sure that an override leaves every annotation its own name.
func (f *settingsFlags) distinct() error {
	k := f.settings.Keys
	count := map[string]int{}
	for _, name := range []string{
		k.Auto, k.ConfigMapAuto, k.SecretAuto, k.SecretProviderClassAuto,
		k.ConfigMapNamed, k.SecretNamed, k.SecretProviderClassNamed,
		k.ConfigMapExclude, k.SecretExclude, k.SecretProviderClassExclude,
		k.Search, k.Match, k.Ignore, k.RolloutStrategy, k.CoalesceWindow, k.PausePeriod, k.PausedAt, k.LastReloadedFrom, k.Index,
	} {
		count[name]++
	}
	var defaults settingsFlags
	defaults.settings.Keys = policy.DefaultKeys()
	for i, preset := range defaults.keyFlags() {
		key := f.keyFlags()[i]
		switch name := *key.of; {
		case name == "":
			return fmt.Errorf("--%s is empty: leave it out or name an annotation", key.flag)
		case name != *preset.of && count[name] > 1:
			return fmt.Errorf("--%s=%s: another annotation has that name, and one name cannot have two meanings", key.flag, name)
		}
	}
	return nil
}
