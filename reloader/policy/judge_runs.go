package policy

import "k8s-reloader/reloader"

// handedOn judges keys on the pod template of a CronJob: the template is that
// of the Jobs, too, and so they opt in each Job that it has started.
func (j *judge) handedOn(template place) {
	tell := func(key string) {
		j.add(reloader.Notice, reloader.ReasonOptsInJobs, template.field, key, template.key(key),
			fixed(" restarts running Jobs, too: move it to the CronJob's metadata"))
	}
	if isTrue(template.annotations[j.Keys.Auto]) {
		tell(j.Keys.Auto)
	}
	if template.annotations[j.Keys.Search] == "true" {
		tell(j.Keys.Search)
	}
	for _, kind := range reloader.SourceKinds() {
		if !j.Enabled(kind) {
			continue
		}
		if key := j.Keys.TypedAuto(kind); isTrue(template.annotations[key]) {
			tell(key)
		}
		if key := j.Keys.Named(kind); hasEntries(template.annotations[key]) {
			tell(key)
		}
	}
}
