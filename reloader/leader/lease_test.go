package leader

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

func TestOptions(t *testing.T) {
	good := Options{Config: &rest.Config{}, Namespace: "reloader", Identity: "a"}
	tests := map[string]struct {
		set  func(*Options)
		want string
	}{
		"what is needed is enough": {set: func(*Options) {}},
		"no configuration":         {set: func(o *Options) { o.Config = nil }, want: "no configuration of the API server"},
		"no namespace":             {set: func(o *Options) { o.Namespace = "" }, want: "no namespace"},
		"no identity":              {set: func(o *Options) { o.Identity = "" }, want: "no identity: set POD_NAME"},
		"too few attempts": {
			set:  func(o *Options) { o.Duration, o.Retry = 5*time.Second, time.Second },
			want: "a duration of 5s is too short for attempts every 1s",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := good
			tc.set(&o)
			_, err := New(o)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			assert.EqualError(t, err, "lease options: "+tc.want)
		})
	}
}

func TestALeaseThatWasNeverHeldHasRunOut(t *testing.T) {
	l, err := New(Options{Config: &rest.Config{}, Namespace: "reloader", Identity: "a"})
	require.NoError(t, err)
	assert.True(t, l.Until().Before(time.Now()))
}
