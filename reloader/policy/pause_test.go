package policy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader/annotation"
)

func TestPausePeriod(t *testing.T) {
	own := annotation.DefaultKeys()
	own.PausePeriod = "example.org/pause"
	tests := map[string]struct {
		keys        annotation.Keys
		annotations map[string]string
		want        time.Duration
		wantNone    bool
	}{
		"none":                   {keys: annotation.DefaultKeys(), wantNone: true},
		"five minutes":           {keys: annotation.DefaultKeys(), annotations: map[string]string{own.PausedAt: "x", annotation.DefaultKeys().PausePeriod: "5m"}, want: 5 * time.Minute},
		"under another key":      {keys: own, annotations: map[string]string{"example.org/pause": "90s"}, want: 90 * time.Second},
		"under a key not in use": {keys: own, annotations: map[string]string{annotation.DefaultKeys().PausePeriod: "5m"}, wantNone: true},
		"no unit":                {keys: annotation.DefaultKeys(), annotations: map[string]string{annotation.DefaultKeys().PausePeriod: "5"}, wantNone: true},
		"empty":                  {keys: annotation.DefaultKeys(), annotations: map[string]string{annotation.DefaultKeys().PausePeriod: ""}, wantNone: true},
		"nothing":                {keys: annotation.DefaultKeys(), annotations: map[string]string{annotation.DefaultKeys().PausePeriod: "0s"}, wantNone: true},
		"less than nothing":      {keys: annotation.DefaultKeys(), annotations: map[string]string{annotation.DefaultKeys().PausePeriod: "-5m"}, wantNone: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := PausePeriod(tc.annotations, tc.keys)
			assert.Equal(t, !tc.wantNone, ok)
			if ok {
				assert.Equal(t, tc.want, got)
			}
		})
	}
}
