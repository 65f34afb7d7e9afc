package record_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/record"
)

func TestTemplateHash(t *testing.T) {
	k := annotation.DefaultKeys()
	mark := func(kind reloader.SourceKind, name string) corev1.EnvVar {
		return corev1.EnvVar{Name: reloader.EnvName(kind, name), Value: "v1-00112233445566778899aabbccddeeff"}
	}
	tests := map[string]struct {
		change   func(template *corev1.PodTemplateSpec)
		wantSame bool
	}{
		"nothing": {change: func(*corev1.PodTemplateSpec) {}, wantSame: true},
		"our variable for each kind": {wantSame: true, change: func(p *corev1.PodTemplateSpec) {
			for _, kind := range reloader.SourceKinds() {
				p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, mark(kind, "my-cm.1"))
			}
		}},
		"our variable before those of the user": {wantSame: true, change: func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[0].Env = append([]corev1.EnvVar{mark(reloader.Secret, "s")}, p.Spec.Containers[0].Env...)
		}},
		"our variable as the only one of a container": {wantSame: true, change: func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[1].Env = []corev1.EnvVar{mark(reloader.ConfigMap, "cm")}
		}},
		"our variable on an init container": {wantSame: true, change: func(p *corev1.PodTemplateSpec) {
			p.Spec.InitContainers[0].Env = append(p.Spec.InitContainers[0].Env, mark(reloader.ConfigMap, "cm"))
		}},
		"our annotation": {wantSame: true, change: func(p *corev1.PodTemplateSpec) {
			p.Annotations[k.LastReloadedFrom] = `{"type":"CONFIGMAP"}`
		}},
		"our annotation as the only one": {wantSame: true, change: func(p *corev1.PodTemplateSpec) {
			p.Annotations = map[string]string{"reloader.stakater.com/auto": "true", "prometheus.io/scrape": "true", k.LastReloadedFrom: "{}"}
		}},
		"a variable that only looks like ours": {change: func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: "STAKATER_X", Value: "1"})
		}},
		"a variable with our ending": {change: func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: "MY_SECRET", Value: "1"})
		}},
		"a variable with our name and a source": {change: func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: "STAKATER_A_SECRET", ValueFrom: &corev1.EnvVarSource{}})
		}},
		"another annotation of the template": {change: func(p *corev1.PodTemplateSpec) { p.Annotations["kubectl.kubernetes.io/restartedAt"] = "now" }},
		"an annotation removed":              {change: func(p *corev1.PodTemplateSpec) { delete(p.Annotations, "prometheus.io/scrape") }},
		"a label":                            {change: func(p *corev1.PodTemplateSpec) { p.Labels["a"] = "b" }},
		"an image":                           {change: func(p *corev1.PodTemplateSpec) { p.Spec.Containers[1].Image = "side:2" }},
		"a value of a variable":              {change: func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Env[0].Value = "c" }},
		"the order of variables": {change: func(p *corev1.PodTemplateSpec) {
			env := p.Spec.Containers[0].Env
			env[0], env[1] = env[1], env[0]
		}},
		"another volume": {change: func(p *corev1.PodTemplateSpec) { p.Spec.Volumes = []corev1.Volume{{Name: "v"}} }},
	}
	want := typedHash(t, testTemplate(), k)
	assert.Len(t, want, 32)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			template := testTemplate()
			tc.change(template)
			before := template.DeepCopy()

			got := typedHash(t, template, k)

			assert.Equal(t, tc.wantSame, got == want)
			assert.Equal(t, before, template, "the template is not changed")
		})
	}
}

func TestTemplateHashGoesByTheKeyInUse(t *testing.T) {
	template := testTemplate()
	k := annotation.DefaultKeys()
	want := typedHash(t, template, k)
	k.LastReloadedFrom = "example.com/last"
	template.Annotations["example.com/last"] = "{}"
	assert.Equal(t, want, typedHash(t, template, k))
	template.Annotations[annotation.DefaultKeys().LastReloadedFrom] = "{}"
	assert.NotEqual(t, want, typedHash(t, template, k))
}

// typedHash hashes what the Go types encode to.
func typedHash(t testing.TB, template *corev1.PodTemplateSpec, k annotation.Keys) string {
	t.Helper()
	raw, err := json.Marshal(template)
	require.NoError(t, err)
	return hash(t, string(raw), k)
}

func hash(t testing.TB, template string, k annotation.Keys, generated ...string) string {
	t.Helper()
	h, err := record.TemplateHash([]byte(template), k, generated...)
	require.NoError(t, err)
	return h
}

// plainTemplate has no mark; markedTemplate is the same after reloads, and
// spelled another way.
const (
	plainTemplate = `{"metadata":{"labels":{"app":"w\u0065b"}},"spec":{"containers":[{"name":"app","image":"web:1",` +
		`"env":[{"name":"A","value":"1"}],"resources":{"limits":{"cpu":1}}}],"terminationGracePeriodSeconds":30,"volumes":[]}}`
	markedTemplate = ` {"spec" : {"volumes":[], "terminationGracePeriodSeconds":3.0e1,"nodeName":null,"containers":[
		{"env":[{"name":"STAKATER_X_CONFIGMAP","value":"v1-0"},{"value":"1","name":"A"},{"name":"STAKATER_X_SECRET"}],"image":"web:1","name":"app",
		 "resources":{"limits":{"cpu":1.0},"requests":null}}]},
		"metadata":{"creationTimestamp":null,"annotations":{"reloader.stakater.com/last-reloaded-from":"{}"},"labels":{"app":"web"}}} `
)

func TestTemplateHashOfText(t *testing.T) {
	k := annotation.DefaultKeys()
	in := func(old, with string) string { return strings.Replace(plainTemplate, old, with, 1) }
	tests := map[string]struct {
		template string
		wantSame bool
	}{
		"other order, space, escapes and numbers, nulls and marks": {markedTemplate, true},
		"metadata without anything":                                {in(`"labels":{"app":"w\u0065b"}`, `"labels":{"app":"web"},"annotations":{}`), true},
		"an escaped slash":                                         {in("web:1", `web:\u0031`), true},
		"a field that is unknown":                                  {in(`"volumes":[]`, `"volumes":[],"novelty":{}`), false},
		"another unknown value":                                    {in(`"volumes":[]`, `"volumes":[],"novelty":{"a":0.1}`), false},
		"an empty list less":                                       {in(`,"volumes":[]`, ``), false},
		"an empty object in a list":                                {in(`"volumes":[]`, `"volumes":[{}]`), false},
		"a null in a list":                                         {in(`"volumes":[]`, `"volumes":[null]`), false},
		"text for a number":                                        {in(`30`, `"30"`), false},
		"text for a truth":                                         {in(`30`, `true`), false},
		"a number that differs late":                               {in(`30`, `30.00000000000000000001`), false},
		"a negative number":                                        {in(`30`, `-30`), false},
		"another power of ten":                                     {in(`30`, `300`), false},
		"an empty value":                                           {in(`"value":"1"`, `"value":""`), false},
		"a mark with a source":                                     {in(`"env":[`, `"env":[{"name":"STAKATER_X_SECRET","valueFrom":{}},`), false},
		"a mark where there is none":                               {in(`"volumes":[]`, `"volumes":[{"name":"STAKATER_X_SECRET"}]`), false},
		"our annotation as a label":                                {in(`"labels":{`, `"labels":{"reloader.stakater.com/last-reloaded-from":"{}",`), false},
		"a label that the API server generates elsewhere":          {in(`"labels":{`, `"labels":{"job-name":"x",`), false},
		"quotes that move":                                         {in(`"name":"A","value":"1"`, `"name":"A\",\"value","value":"1"`), false},
		"another structure":                                        {in(`[{"name":"A","value":"1"}]`, `{"name":"A","value":"1"}`), false},
	}
	want := hash(t, plainTemplate, k)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.wantSame, hash(t, tc.template, k) == want)
		})
	}
	assert.Equal(t, want, hash(t, in(`"labels":{`, `"labels":{"job-name":"x",`), k, "job-name"))
	assert.Equal(t, "0fb3266a73f6973ef5decd21b18a4dbb", want, "records of all builds have it")
	assert.Equal(t, hash(t, "null", k), hash(t, "", k))
}

func TestTemplateHashRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"half a template":        plainTemplate[:40],
		"two templates":          plainTemplate + plainTemplate,
		"what follows it":        plainTemplate + "}",
		"a key twice":            `{"hunter2":1,"b":2,"hunter2":1}`,
		"a key without a value":  `{"hunter2"}`,
		"a value without a key":  `{1:"hunter2"}`,
		"no JSON":                `hunter2`,
		"a number out of range":  `1e99999999999`,
		"deep nesting":           strings.Repeat(`[`, 1_000_000),
		"deep nesting, complete": strings.Repeat(`[`, 500) + strings.Repeat(`]`, 500),
	} {
		t.Run(name, func(t *testing.T) {
			h, err := record.TemplateHash([]byte(text), annotation.DefaultKeys())
			require.ErrorIs(t, err, record.ErrMalformed)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Empty(t, h)
		})
	}
}

// FuzzTemplateHash holds for any template that can be hashed: spelled another
// way it has the same hash, with our marks too, and with any other change it
// has another one.
func FuzzTemplateHash(f *testing.F) {
	for _, seed := range []string{plainTemplate, markedTemplate, "null", "{}", `[1,"\ud800",-0.0e-7,{"a":{"b":[]}}]`, `{"metadata":{"annotations":{}},"spec":{"containers":[{"env":[]}]}}`} {
		f.Add([]byte(seed), "x")
	}
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		k := annotation.DefaultKeys()
		want, err := record.TemplateHash(raw, k)
		if err != nil {
			require.ErrorIs(t, err, record.ErrMalformed)
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var value any
		if decoder.Decode(&value) != nil {
			return // no bytes at all
		}
		respelled := func() string {
			out, err := json.MarshalIndent(value, " ", "\t") // sorts keys
			require.NoError(t, err)
			return string(out)
		}
		require.Equal(t, want, hash(t, respelled(), k), "spelled another way")
		object, ok := value.(map[string]any)
		if !ok {
			require.NotEqual(t, want, hash(t, "["+respelled()+"]", k))
			return
		}
		if !utf8.ValidString(text) || text == "metadata" || text == "spec" {
			return
		}
		before, there := object[text]
		object[text] = nil
		if !there {
			require.Equal(t, want, hash(t, respelled(), k), "a null")
		}
		object[text] = []any{before, text}
		require.NotEqual(t, want, hash(t, respelled(), k), "another member")
		if object[text] = before; !there {
			delete(object, text)
		}
		if spec, ok := object["spec"].(map[string]any); ok {
			if containers, ok := spec["containers"].([]any); ok && len(containers) > 0 {
				if container, ok := containers[0].(map[string]any); ok {
					if env, ok := container["env"].([]any); ok || container["env"] == nil {
						container["env"] = append([]any{map[string]any{"name": reloader.EnvName(reloader.Secret, "s"), "value": text}}, env...)
						require.Equal(t, want, hash(t, respelled(), k), "a mark")
						container["env"] = append([]any{map[string]any{"name": "OTHER", "value": text}}, env...)
						require.NotEqual(t, want, hash(t, respelled(), k), "another variable")
					}
				}
			}
		}
	})
}

func BenchmarkTemplateHash(b *testing.B) {
	template, k := testTemplate(), annotation.DefaultKeys()
	template.Spec.Containers[0].Command = strings.Split(strings.Repeat("word ", 50), " ")
	raw, err := json.Marshal(template)
	require.NoError(b, err)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		_, _ = record.TemplateHash(raw, k)
	}
}
