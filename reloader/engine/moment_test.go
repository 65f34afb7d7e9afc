package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAfter(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		m, other moment
		want     bool
	}{
		"a higher version is after":                                   {moment{version: 2}, moment{version: 1}, true},
		"the same version is not":                                     {moment{version: 1}, moment{version: 1}, false},
		"a lower version is not, whatever the clock":                  {moment{1, noon.Add(time.Hour)}, moment{2, noon}, false},
		"everything written is after the zero moment":                 {moment{1, noon}, moment{}, true},
		"nothing is after itself, not even the zero":                  {moment{}, moment{}, false},
		"the time does not count, as removing a key does not move it": {moment{2, noon.Add(-time.Hour)}, moment{1, noon}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, tc.m.after(tc.other))
		})
	}
}

func TestVersionOf(t *testing.T) {
	tests := map[string]struct {
		resourceVersion string
		want            uint64
	}{
		"a number":              {"42", 42},
		"the largest":           {"18446744073709551615", 1<<64 - 1},
		"nothing":               {"", 0},
		"a word":                {"abc", 0},
		"a negative number":     {"-1", 0},
		"larger than can be":    {"18446744073709551616", 0},
		"a number and the rest": {"1 ", 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, versionOf(tc.resourceVersion))
		})
	}
}

func TestWhenDataWereWritten(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	field := func(after time.Duration, fields, subresource string) metav1.ManagedFieldsEntry {
		written := metav1.NewTime(noon.Add(after))
		return metav1.ManagedFieldsEntry{Time: &written, FieldsV1: metav1.NewFieldsV1(fields), Subresource: subresource}
	}
	tests := map[string]struct {
		fields       []metav1.ManagedFieldsEntry
		wantDataTime time.Time
	}{
		"nobody keeps the fields": {},
		"data and later a label": {
			fields: []metav1.ManagedFieldsEntry{
				field(time.Minute, `{"f:data":{".":{},"f:a":{}}}`, ""),
				field(time.Hour, `{"f:metadata":{"f:labels":{"f:a":{}}}}`, ""),
			},
			wantDataTime: noon.Add(time.Minute),
		},
		"two who write data": {
			fields: []metav1.ManagedFieldsEntry{
				field(time.Hour, `{"f:binaryData":{"f:a":{}}}`, ""),
				field(time.Minute, `{"f:data":{"f:a":{}}}`, ""),
			},
			wantDataTime: noon.Add(time.Hour),
		},
		"a label that looks like data counts as data": {
			fields:       []metav1.ManagedFieldsEntry{field(time.Hour, `{"f:metadata":{"f:labels":{"f:data":{}}}}`, "")},
			wantDataTime: noon.Add(time.Hour),
		},
		"a status write, which starts no pods": {
			fields: []metav1.ManagedFieldsEntry{field(time.Hour, `{"f:status":{}}`, "status")},
		},
		"entries without a time or fields": {
			fields: []metav1.ManagedFieldsEntry{
				{FieldsV1: metav1.NewFieldsV1(`{"f:data":{}}`)},
				{Time: &metav1.Time{Time: noon.Add(time.Hour)}},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			meta := &metav1.ObjectMeta{ResourceVersion: "7", CreationTimestamp: metav1.NewTime(noon), ManagedFields: tc.fields}
			assert.Equal(t, moment{7, tc.wantDataTime}, dataWritten(meta))
		})
	}
}
