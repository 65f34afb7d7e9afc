package kind

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
)

const (
	goodNote   = `{"name":"migration","uid":"u","sources":[{"kind":"ConfigMap","name":"settings"}]}`
	forgedNote = `{"name":"ghost","uid":"u","ending":true,"gone":"2020-01-01T00:00:00.000000Z","sources":[{"kind":"Nonsense","name":"x"}]}`
)

func TestANoteIsWhatWeWriteOrNothing(t *testing.T) {
	tests := map[string]struct {
		text string
		want bool
	}{
		"of ours":                   {text: goodNote, want: true},
		"nothing":                   {text: ""},
		"no JSON":                   {text: "{"},
		"another shape":             {text: `[1,2]`},
		"null":                      {text: `null`},
		"an unknown kind":           {text: forgedNote},
		"a kind in other letters":   {text: strings.Replace(goodNote, "ConfigMap", "configmap", 1)},
		"no kind":                   {text: strings.Replace(goodNote, "ConfigMap", "", 1)},
		"a kind that is a workload": {text: strings.Replace(goodNote, "ConfigMap", "Job", 1)},
		"a kind that is a number":   {text: strings.Replace(goodNote, `"ConfigMap"`, "1", 1)},
		"one good and one bad kind": {text: strings.Replace(goodNote, `[`, `[{"kind":"Secret","name":"a"},{"kind":"","name":"a"},`, 1)},
		"no source":                 {text: `{"name":"migration","uid":"u","sources":[]}`},
		"no name":                   {text: strings.Replace(goodNote, "migration", "", 1)},
		"no UID":                    {text: strings.Replace(goodNote, `"uid":"u"`, `"uid":""`, 1)},
		"a path for a name":         {text: strings.Replace(goodNote, "migration", "../pods/a", 1)},
		"dots for a name":           {text: strings.Replace(goodNote, "migration", "..", 1)},
		"a path for a source":       {text: strings.Replace(goodNote, "settings", "a/b", 1)},
		"lines in a source's name":  {text: strings.Replace(goodNote, "settings", `a\nFAKE LINE <!channel>`, 1)},
		"a time that is none":       {text: strings.Replace(goodNote, `"uid"`, `"gone":"soon","uid"`, 1)},
		"more than we write":        {text: strings.Replace(goodNote, "settings", strings.Repeat("a", maxNote), 1)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{carrierAnnotation: tc.text}}}
			_, ok := CarrierOf(job().Manifest(o))
			assert.Equal(t, tc.want, ok)
		})
	}
}

func FuzzNote(f *testing.F) {
	for _, text := range []string{goodNote, forgedNote, "", "{}", `{"name":"..","uid":"u","sources":[{"kind":"Secret","name":"a"}]}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, ok := parseNote(text)
		if !ok {
			return
		}
		for _, s := range (Carrier{object: new(batchv1.Job), note: n}).Sources() {
			require.Contains(t, reloader.SourceKinds(), s.Kind)
			require.True(t, canExist(s.Name))
		}
		again, err := json.Marshal(n)
		require.NoError(t, err)
		same, ok := parseNote(string(again))
		require.True(t, ok || len(again) > maxNote, "what was read can be written")
		if ok {
			require.Equal(t, n, same)
		}
	})
}
