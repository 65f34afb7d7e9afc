package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

// settingsFlags are the flags from which policy.Settings are made. Engine,
// webhook and lint share them, because they have to agree.
type settingsFlags struct {
	settings policy.Settings
	ignored  []string
}

func (f *settingsFlags) bind(flags *pflag.FlagSet) {
	f.settings.Keys = annotation.DefaultKeys()
	flags.BoolVar(&f.settings.AutoReloadAll, "auto-reload-all", false,
		"reload every workload whose sources change, unless an auto annotation says otherwise")
	flags.BoolVar(&f.settings.FollowAll, "follow-all-references", false,
		"let auto and search follow references that containers do not see, such as imagePullSecrets")
	flags.BoolVar(&f.settings.CSI, "enable-csi-integration", false,
		"reload on changes of content that the Secrets Store CSI driver mounts")
	flags.StringSliceVar(&f.ignored, "resources-to-ignore", nil,
		"kind of source to ignore: configmaps or secrets")
	for _, key := range f.settings.Keys.Flags() {
		flags.StringVar(key.Key, key.Name, key.Default, "annotation that "+key.Usage)
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
	count := map[string]int{}
	for a := range f.settings.Keys.All() {
		count[a.Key]++
	}
	for _, key := range f.settings.Keys.Flags() {
		switch name := *key.Key; {
		case name == "":
			return fmt.Errorf("--%s is empty: leave it out or name an annotation", key.Name)
		case name != key.Default && count[name] > 1:
			return fmt.Errorf("--%s=%s: another annotation has that name, and one name cannot have two meanings", key.Name, name)
		}
	}
	return nil
}
