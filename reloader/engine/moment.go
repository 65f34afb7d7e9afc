package engine

import (
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A moment says when something was written, on both of the API server's
// scales. The zero moment is before everything.
//
// Versions are resource versions as numbers. The API promises that they
// compare within one resource (k8s.io/apimachinery/pkg/util/resourceversion);
// they do across resources wherever these share an etcd, which is the normal
// case. Times have a resolution of a second, come from the clocks of the API
// servers, and stand still when a write only removes something: they are for
// looking back at what no version tells of, never for ruling out a change.
type moment struct {
	version uint64
	time    time.Time
}

// clockTolerance is how far the clocks of two API servers may be apart,
// resolution included, before the time of a write misleads.
const clockTolerance = 5 * time.Second

// after reports whether m was written after other. The version of a source
// moves with its labels, too, so that its data may be older than it seems: a
// reload too many is the smaller evil.
func (m moment) after(other moment) bool { return m.version > other.version }

// versionOf returns the resource version as a number, 0 if it is none.
func versionOf(resourceVersion string) uint64 {
	v, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// dataWritten is the moment of the last change of a source's data, as far as
// its metadata tell. Its version is never too low; its time is that of the last
// write that set something.
func dataWritten(o metav1.Object) moment {
	m := moment{version: versionOf(o.GetResourceVersion())}
	for _, f := range o.GetManagedFields() {
		if f.FieldsV1 == nil || f.Time == nil {
			continue
		}
		if setsData(f.FieldsV1.GetRawString()) && f.Time.After(m.time) {
			m.time = f.Time.Time
		}
	}
	return m
}
