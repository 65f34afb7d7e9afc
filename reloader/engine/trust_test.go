package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/record"
)

// wrote is the entry in managedFields of a manager that has written a workload that
// long after its creation, with these annotations.
func wrote(manager string, after time.Duration, annotations ...string) metav1.ManagedFieldsEntry {
	text := `{"f:spec":{"f:template":{}}}`
	if len(annotations) > 0 {
		text = `{"f:metadata":{"f:annotations":{"f:` + strings.Join(annotations, `":{},"f:`) + `":{}}},"f:spec":{"f:template":{}}}`
	}
	e := metav1.ManagedFieldsEntry{Manager: manager, Time: new(metav1.NewTime(born.Add(after))), FieldsV1: new(metav1.FieldsV1)}
	e.FieldsV1.SetRawBytes([]byte(text))
	return e
}

// reported is that of a controller that has written the status.
func reported(after time.Duration) metav1.ManagedFieldsEntry {
	e := wrote("kube-controller-manager", after)
	e.Subresource = "status"
	e.FieldsV1.SetRawBytes([]byte(`{"f:status":{"f:replicas":{}}}`))
	return e
}

// admitted is a workload as admission leaves it at its creation, with this in
// managedFields: its record has no UID.
func admitted(t *testing.T, fields ...metav1.ManagedFieldsEntry) app {
	t.Helper()
	a := newApp(web).recorded(t, func(r *record.Record) { r.UID = "" })
	a.created, a.fields = born, fields
	return a
}

// Who trusts a record reads nothing, so that a record of something else hides what
// the workload references. One that is not trusted costs a read.
func TestWhetherARecordIsTrusted(t *testing.T) {
	const kubectl, velero = "kubectl-create", "velero-server"
	tests := map[string]struct {
		app  func(t *testing.T) app
		want bool
	}{
		"one made for this state is": {
			func(t *testing.T) app { return newApp(web).recorded(t) }, true,
		},
		"none is not": {
			func(*testing.T) app { return newApp(web) }, false,
		},
		"one of another generation is not": {
			func(t *testing.T) app { return newApp(web).recorded(t).with(func(a *app) { a.generation++ }) }, false,
		},
		"one of another uid is not": {
			func(t *testing.T) app { return newApp(web).recorded(t).with(func(a *app) { a.uid = "second" }) }, false,
		},
		"one of another name is not": {
			func(t *testing.T) app { return newApp(web).recorded(t, func(r *record.Record) { r.Name = "other" }) }, false,
		},
		"one of another namespace is not": {
			func(t *testing.T) app {
				return newApp(web).recorded(t, func(r *record.Record) { r.Namespace = "other" })
			}, false,
		},
		"one made with other keys is not": {
			func(t *testing.T) app {
				other := keys
				other.Auto = "example.com/auto"
				return newApp(web).recorded(t, func(r *record.Record) { r.Keys = record.KeysDigest(other) })
			}, false,
		},
		"one that was cut off is not": {
			func(t *testing.T) app {
				return newApp(web).recorded(t).with(func(a *app) {
					text := a.annotations[keys.Index]
					a.annotations[keys.Index] = text[:len(text)-1]
				})
			}, false,
		},
		"one that is something else is not": {
			func(*testing.T) app {
				return newApp(web).with(func(a *app) { a.annotations[keys.Index] = "true" })
			}, false,
		},

		"of a creation, if admission has added it": {
			func(t *testing.T) app { return admitted(t, wrote(kubectl, 0, keys.Auto)) }, true,
		},
		"of a creation, with a status since": {
			func(t *testing.T) app { return admitted(t, wrote(kubectl, 0, keys.Auto), reported(time.Hour)) }, true,
		},
		"of a creation that took admission into the next second": {
			func(t *testing.T) app { return admitted(t, wrote(kubectl, -time.Second, keys.Auto)) }, true,
		},
		"of a Job that has taken the place of another": {
			func(t *testing.T) app { return admitted(t, wrote(FieldManager, 0, keys.Auto, keys.Index)) }, true,
		},
		"of a manifest, created under the same name, or with it replaced in the record": {
			func(t *testing.T) app { return admitted(t, wrote(kubectl, 0, keys.Auto, keys.Index)) }, false,
		},
		"of a manifest, replaced by force": {
			func(t *testing.T) app { return admitted(t, wrote("kubectl-replace", 0, keys.Auto, keys.Index)) }, false,
		},
		"of a manifest, applied to what admission had made": {
			func(t *testing.T) app {
				return admitted(t, wrote(kubectl, 0, keys.Auto), wrote("kubectl", time.Hour, keys.Index))
			}, false,
		},
		"of a manifest, under another name": {
			func(t *testing.T) app {
				a := newApp(reloader.Workload{Kind: reloader.Deployment, Namespace: web.Namespace, Name: "before"}).recorded(t, func(r *record.Record) { r.UID = "" })
				a.workload, a.created, a.fields = web, born, []metav1.ManagedFieldsEntry{wrote(kubectl, 0, keys.Auto, keys.Index)}
				return a
			}, false,
		},
		"of a manifest, in another namespace": {
			func(t *testing.T) app {
				return admitted(t, wrote(kubectl, 0, keys.Auto, keys.Index)).recorded(t, func(r *record.Record) { r.UID, r.Namespace = "", "before" })
			}, false,
		},
		"of a manifest, with a name that was generated": {
			func(t *testing.T) app {
				return admitted(t, wrote(kubectl, 0, keys.Auto, keys.Index)).recorded(t, func(r *record.Record) { r.UID, r.Name = "", "web-" })
			}, false,
		},
		"of an update, from another cluster": {
			func(t *testing.T) app {
				return admitted(t, wrote(kubectl, 0, keys.Auto, keys.Index)).recorded(t, func(r *record.Record) { r.UID = "of the other cluster" })
			}, false,
		},
		"of one deleted and created again while no engine ran": {
			func(t *testing.T) app {
				return admitted(t, wrote(kubectl, 0, keys.Auto, keys.Index)).recorded(t, func(r *record.Record) { r.UID = "of the first" })
			}, false,
		},
		"of a backup, as it was restored": {
			func(t *testing.T) app {
				return admitted(t, wrote(velero, 0, keys.Auto, keys.Index), reported(time.Second))
			}, false,
		},
		"of a backup, after managedFields have been restored, too": {
			func(t *testing.T) app {
				return admitted(t, wrote(kubectl, -time.Hour, keys.Auto), reported(-time.Minute))
			}, false,
		},
		"of a backup, after managedFields have been restored, with a status since": {
			func(t *testing.T) app {
				return admitted(t, wrote(kubectl, -time.Hour, keys.Auto), reported(time.Second))
			}, false,
		},
		"of a manifest, after managedFields have been emptied": {
			func(t *testing.T) app { return admitted(t) }, false,
		},
		"of a manifest, after managedFields have been emptied, with a status since": {
			func(t *testing.T) app { return admitted(t, reported(time.Second)) }, false,
		},
		"of a manifest, after managedFields have been emptied, with a label since": {
			func(t *testing.T) app {
				e := wrote("kubectl-label", time.Hour)
				e.FieldsV1.SetRawBytes([]byte(`{"f:metadata":{"f:labels":{"f:a":{}}}}`))
				return admitted(t, e)
			}, false,
		},
		"if an entry does not say when": {
			func(t *testing.T) app {
				e := wrote(kubectl, 0, keys.Auto)
				e.Time = nil
				return admitted(t, e)
			}, false,
		},
	}
	for name, tc := range tests {
		for how, arrive := range map[string]func(*feed, *metav1.PartialObjectMetadata){
			"an event": func(*feed, *metav1.PartialObjectMetadata) {},
			"a list":   (*feed).slim,
		} {
			t.Run(name+", by "+how, func(t *testing.T) {
				e := newTestEngine(t, unreachable(t), new(told))
				in, a := e.intake, tc.app(t)
				stored := &metav1.PartialObjectMetadata{ObjectMeta: *a.meta()}
				arrive(e.workloadFeed(kindOf(t, web), area{}), stored)
				in.observe(web, stored, at(10))
				assert.Equal(t, tc.want, in.allResolved())
				assert.Equal(t, !tc.want, in.open(web))
				if tc.want {
					assert.Empty(t, drain(in.queues.resolve))
				} else {
					assert.Equal(t, []reloader.Workload{web}, drain(in.queues.resolve))
					require.True(t, in.supply(a.manifest(t)))
				}
				assert.Equal(t, []reloader.Source{settings}, in.index.DependsOn(web))
				assert.Equal(t, []reloader.Source{settings}, drain(in.queues.sources))
				assert.Equal(t, map[reloader.Workload]moment{web: at(10)}, in.ledger.sources[settings].newcomers)
				assert.True(t, in.allResolved())
			})
		}
	}
}
