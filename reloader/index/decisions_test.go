package index

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

func TestDecisionsAreToldWithTheirReason(t *testing.T) {
	settings := policy.Settings{Keys: annotation.DefaultKeys()}
	k := settings.Keys
	x := New(settings)
	set := func(name string, annotations map[string]string, references ...reloader.Reference) {
		x.Set(reloader.Workload{Kind: reloader.Deployment, Namespace: "shop", Name: name},
			Entry{Policy: policy.Parse(annotations, nil, settings), References: references})
	}
	uses := reloader.Reference{Kind: reloader.ConfigMap, Name: "settings", Container: "app", How: reloader.HowEnvFrom}
	set("auto", map[string]string{k.Auto: "true"}, uses)
	set("named", map[string]string{k.ConfigMapNamed: "settings"})
	set("pattern", map[string]string{k.ConfigMapNamed: "set.*"})
	set("excluding", map[string]string{k.ConfigMapNamed: "set.*", k.ConfigMapExclude: "settings"})
	set("searching", map[string]string{k.Search: "true"}, uses)
	set("other", map[string]string{k.Auto: "true"})
	source := reloader.Source{Kind: reloader.ConfigMap, Namespace: "shop", Name: "settings"}

	type reasons map[string]reloader.Reason
	tests := map[string]struct {
		source      reloader.Source
		annotations map[string]string
		wantYes     reasons
		wantNo      reasons
	}{
		"of a source without annotations": {
			source:  source,
			wantYes: reasons{"auto": reloader.ReasonAuto, "named": reloader.ReasonNamed, "pattern": reloader.ReasonNamed},
			wantNo:  reasons{"excluding": reloader.ReasonExcluded, "searching": reloader.ReasonNoMatch},
		},
		"of one that is ignored": {
			source: source, annotations: map[string]string{k.Ignore: "true"},
			wantYes: reasons{},
			wantNo: reasons{
				"auto": reloader.ReasonIgnored, "named": reloader.ReasonIgnored, "pattern": reloader.ReasonIgnored,
				"excluding": reloader.ReasonIgnored, "searching": reloader.ReasonIgnored,
			},
		},
		"of one that nobody knows": {
			source:  reloader.Source{Kind: reloader.Secret, Namespace: "shop", Name: "settings"},
			wantYes: reasons{}, wantNo: reasons{},
		},
		"of no source": {source: reloader.Source{Kind: "Pod", Namespace: "shop"}, wantYes: reasons{}, wantNo: reasons{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			yes, no := reasons{}, reasons{}
			var reloads []reloader.Workload
			for w, d := range x.Decisions(tc.source, found(x, tc.source), tc.annotations) {
				if d.Reload {
					yes[w.Name] = d.Reason
					reloads = append(reloads, w)
					continue
				}
				no[w.Name] = d.Reason
			}
			assert.Equal(t, tc.wantYes, yes)
			assert.Equal(t, tc.wantNo, no)
			assert.Equal(t, x.Dependents(tc.source, found(x, tc.source), tc.annotations), reloads)
		})
	}
	assert.Len(t, maps.Collect(x.Decisions(source, found(x, source), nil)), 5)
	for range x.Decisions(source, found(x, source), nil) {
		break
	}
}

// found is what Match finds out of s when nothing limits it.
func found(x *Index, s reloader.Source) Matches {
	for {
		if m, _, complete := x.Match(s, 1); complete {
			return m
		}
	}
}
