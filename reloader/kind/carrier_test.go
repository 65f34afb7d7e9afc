package kind

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
)

func carrierKey(t testing.TB, fill byte) fingerprint.Key {
	t.Helper()
	key, err := fingerprint.NewKey(bytes.Repeat([]byte{fill}, fingerprint.KeySize))
	require.NoError(t, err)
	return key
}

// carrying is the carrier of the replacement of old, as the API server shows it.
func carrying(t testing.TB, key fingerprint.Key, old *batchv1.Job, step Step) (*appsv1.ControllerRevision, *batchv1.Job) {
	t.Helper()
	m, c := job().Manifest(old), changeOf(settingsMark("v1-a"))
	replacement, err := Replacement(m, c)
	require.NoError(t, err)
	carrier, err := NewCarrier(key, m, c.Sources(), replacement, step)
	require.NoError(t, err)
	o, err := carrier.Object(key)
	require.NoError(t, err)
	o.UID = "carrier"
	return o, replacement
}

// announced is the object after a patch.
func announced(t testing.TB, o *appsv1.ControllerRevision, p Patch, err error) *appsv1.ControllerRevision {
	t.Helper()
	require.NoError(t, err)
	var patch metav1.PartialObjectMetadata
	require.NoError(t, json.Unmarshal(p.Body, &patch))
	assert.Equal(t, o.UID, patch.UID, "the precondition")
	o = o.DeepCopy()
	o.Annotations[CarrierLabel] = patch.Annotations[CarrierLabel]
	return o
}

// assertSame compares Jobs as the API server does, without printing large ones.
func assertSame(t *testing.T, want, got *batchv1.Job) {
	t.Helper()
	assert.True(t, apiequality.Semantic.DeepEqual(want, got), "not the Job that was carried")
}

func TestACarrierGivesWhatItHolds(t *testing.T) {
	key := carrierKey(t, 1)
	for name, with := range standingJobs() {
		t.Run(name, func(t *testing.T) {
			old := standing()
			with(old)
			before := old.DeepCopy()
			o, replacement := carrying(t, key, old, Held)
			assert.Equal(t, before, old)
			assert.Equal(t, map[string]string{CarrierLabel: "job"}, o.Labels, "no label of the Job")
			assert.Len(t, o.Annotations, 1)
			assert.Nil(t, metav1.GetControllerOf(o))
			assert.Len(t, o.OwnerReferences, len(old.OwnerReferences))

			// A proxy, or another version of the API, may encode it anew.
			var decoded map[string]any
			require.NoError(t, json.Unmarshal(o.Data.Raw, &decoded))
			again, err := json.Marshal(decoded)
			require.NoError(t, err)
			assert.Equal(t, string(o.Data.Raw), string(again), "the data cannot be changed, not even in form")

			c, err := OpenCarrier(key, o)
			require.NoError(t, err)
			assert.Equal(t, job().Manifest(old).Workload(), c.Workload())
			assert.Equal(t, old.UID, c.Replaces())
			assert.Equal(t, []reloader.Source{settingsMark("").Source}, c.Sources())
			assert.Equal(t, Held, c.Step())
			assert.False(t, c.Ends())
			assertSame(t, replacement, c.Replacement())

			p, err := c.At(Ending, time.Now()).Announce(key)
			o = announced(t, o, p, err)
			c, err = OpenCarrier(key, o)
			require.NoError(t, err)
			assert.True(t, c.Ends())
			assert.Zero(t, c.GoneAt())
			seen := time.Date(2026, 1, 2, 3, 4, 5, 678_901, time.UTC)
			p, err = c.At(Gone, seen).Announce(key)
			o = announced(t, o, p, err)
			c, err = OpenCarrier(key, o)
			require.NoError(t, err)
			assert.True(t, c.Ends())
			assert.True(t, seen.Truncate(time.Microsecond).Equal(c.GoneAt()))
			assertSame(t, replacement, c.Replacement())
		})
	}
}

// Nobody but an engine with the key has made a carrier that is believed, nor has
// brought one further, to another place, or back to life.
func TestForgedCarriersAreNotBelieved(t *testing.T) {
	key := carrierKey(t, 1)
	tests := map[string]func(t *testing.T, o *appsv1.ControllerRevision){
		"no annotation":       func(_ *testing.T, o *appsv1.ControllerRevision) { o.Annotations = nil },
		"no code":             func(_ *testing.T, o *appsv1.ControllerRevision) { o.Annotations[CarrierLabel] = `{"step":"held"}` },
		"no step":             func(_ *testing.T, o *appsv1.ControllerRevision) { o.Annotations[CarrierLabel] = `{}` },
		"an unknown step":     func(_ *testing.T, o *appsv1.ControllerRevision) { edited(o, "held", "done") },
		"a later step":        func(_ *testing.T, o *appsv1.ControllerRevision) { edited(o, "held", "ending") },
		"gone without a time": func(_ *testing.T, o *appsv1.ControllerRevision) { edited(o, "held", "gone") },
		"gone long ago": func(_ *testing.T, o *appsv1.ControllerRevision) {
			edited(o, `"held"`, `"gone","gone":"2020-01-01T00:00:00.000000Z"`)
		},
		"taken":               func(_ *testing.T, o *appsv1.ControllerRevision) { edited(o, "held", "taken") },
		"a time that is none": func(_ *testing.T, o *appsv1.ControllerRevision) { edited(o, `"held"`, `"held","gone":"soon"`) },
		"no JSON":             func(_ *testing.T, o *appsv1.ControllerRevision) { o.Annotations[CarrierLabel] = "{" },
		"null":                func(_ *testing.T, o *appsv1.ControllerRevision) { o.Annotations[CarrierLabel] = "null" },
		"more than we write": func(_ *testing.T, o *appsv1.ControllerRevision) {
			o.Annotations[CarrierLabel] += strings.Repeat(" ", maxState)
		},
		"another name":         func(_ *testing.T, o *appsv1.ControllerRevision) { o.Name = "web-1111111111" },
		"another namespace":    func(_ *testing.T, o *appsv1.ControllerRevision) { o.Namespace = "evil" },
		"no data":              func(_ *testing.T, o *appsv1.ControllerRevision) { o.Data.Raw = nil },
		"data that are a list": func(_ *testing.T, o *appsv1.ControllerRevision) { o.Data.Raw = []byte("[]") },
		"another image": func(_ *testing.T, o *appsv1.ControllerRevision) {
			replaced(o, `{\"name\":\"main\"`, `{\"name\":\"main\",\"image\":\"evil\"`)
		},
		"another Job to be deleted": func(_ *testing.T, o *appsv1.ControllerRevision) {
			replaced(o, `"replaces":"first"`, `"replaces":"second"`)
		},
		"other sources": func(_ *testing.T, o *appsv1.ControllerRevision) { replaced(o, `"ConfigMap"`, `"Nonsense"`) },
		"made with another key": func(t *testing.T, o *appsv1.ControllerRevision) {
			other, _ := carrying(t, carrierKey(t, 2), standing(), Held)
			other.Name = o.Name
			*o = *other
		},
		"a copy of one whose Job is ending": func(t *testing.T, o *appsv1.ControllerRevision) {
			c, err := OpenCarrier(key, o)
			require.NoError(t, err)
			p, err := c.At(Ending, time.Time{}).Announce(key)
			*o = *announced(t, o, p, err)
			_, err = OpenCarrier(key, o)
			require.NoError(t, err)
			o.UID = "copy"
		},
	}
	for name, forge := range tests {
		t.Run(name, func(t *testing.T) {
			o, _ := carrying(t, key, standing(), Held)
			before := o.DeepCopy()
			forge(t, o)
			require.NotEqual(t, before, o)
			_, err := OpenCarrier(key, o)
			require.ErrorIs(t, err, ErrUntrusted)
		})
	}
	t.Run("without a key", func(t *testing.T) {
		o, _ := carrying(t, key, standing(), Held)
		o.Annotations[CarrierLabel] = `{"step":"held","code":""}`
		_, err := OpenCarrier(fingerprint.Key{}, o)
		require.ErrorIs(t, err, ErrUntrusted)
		_, err = NewCarrier(fingerprint.Key{}, job().Manifest(standing()), nil, standing(), Held)
		require.Error(t, err)
	})
}

func edited(o *appsv1.ControllerRevision, from, to string) {
	o.Annotations[CarrierLabel] = strings.Replace(o.Annotations[CarrierLabel], from, to, 1)
}

func replaced(o *appsv1.ControllerRevision, from, to string) {
	o.Data.Raw = bytes.Replace(o.Data.Raw, []byte(from), []byte(to), 1)
}

func TestTheNameOfACarrier(t *testing.T) {
	name := func(fill byte, jobName string, uid types.UID) string {
		old := standing()
		old.Name, old.UID = jobName, uid
		o, _ := carrying(t, carrierKey(t, fill), old, Held)
		return o.Name
	}
	first := name(1, "web", "first")
	assert.Equal(t, first, name(1, "web", "first"))
	assert.NotEqual(t, first, name(1, "web", "second"))
	assert.NotEqual(t, first, name(2, "web", "first"), "nobody knows it before")
	assert.Len(t, name(1, strings.Repeat("a", 63), "first"), 74)
}

// A Job that etcd holds has JSON that may be larger than what etcd holds.
func TestTheLargestJobs(t *testing.T) {
	letters := []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/")
	random := func(n int) string {
		source := rand.New(rand.NewPCG(1, 2))
		text := make([]byte, n)
		for i := range text {
			text[i] = letters[source.IntN(len(letters))]
		}
		return string(text)
	}
	tests := map[string]struct {
		args []string
		want error
	}{
		"1.45 MiB of the same":    {args: []string{strings.Repeat("<", 1485<<10)}},
		"1.45 MiB of base64":      {args: []string{random(1485 << 10)}},
		"more than etcd can hold": {args: []string{random(1700 << 10)}, want: ErrTooLarge},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			old := standing()
			old.Spec.Template.Spec.Containers[0].Args = tc.args
			m, c := job().Manifest(old), changeOf(settingsMark("v1-a"))
			replacement, err := Replacement(m, c)
			require.NoError(t, err)
			carrier, err := NewCarrier(carrierKey(t, 1), m, c.Sources(), replacement, Held)
			require.ErrorIs(t, err, tc.want)
			if tc.want != nil {
				require.ErrorContains(t, err, "Job shop/web")
				return
			}
			o, err := carrier.Object(carrierKey(t, 1))
			require.NoError(t, err)
			o.UID = "carrier"
			assert.Less(t, len(o.Data.Raw), 1536<<10)
			opened, err := OpenCarrier(carrierKey(t, 1), o)
			require.NoError(t, err)
			assertSame(t, replacement, opened.Replacement())
		})
	}
}

// What does not have the code of an engine is no carrier, and nothing panics.
func FuzzCarrier(f *testing.F) {
	key := carrierKey(f, 1)
	good, _ := carrying(f, key, standing(), Held)
	f.Add(good.Annotations[CarrierLabel], good.Data.Raw)
	f.Add(`{"step":"gone","gone":"2020-01-01T00:00:00.000000Z","code":"0"}`, []byte(`{"jobGzip":"H4sIAAAAAAAA/wEAAP//AAAAAAAAAAA=","replaces":"a","sources":[{"kind":"X","name":"/"}]}`))
	f.Add("", []byte("{}"))
	f.Fuzz(func(t *testing.T, annotation string, data []byte) {
		o := good.DeepCopy()
		o.Annotations[CarrierLabel], o.Data.Raw = annotation, data
		c, err := OpenCarrier(key, o)
		if err != nil {
			require.ErrorIs(t, err, ErrUntrusted)
			return
		}
		want, err := OpenCarrier(key, good)
		require.NoError(t, err)
		require.Equal(t, want, c, "only what we made is believed")
	})
}
