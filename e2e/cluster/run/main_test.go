package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseImages(t *testing.T) {
	tests := map[string]struct {
		pairs   []string
		want    map[string]string
		wantErr string
	}{
		"none": {want: map[string]string{}},
		"several": {
			pairs: []string{"reloader:dev=/tmp/reloader", "localhost:5000/app@sha256:abc=bin/app"},
			want:  map[string]string{"reloader:dev": "/tmp/reloader", "localhost:5000/app@sha256:abc": "bin/app"},
		},
		"a program with an equals sign in its path": {pairs: []string{"a:1=/tmp/x=y"}, want: map[string]string{"a:1": "/tmp/x=y"}},
		"an image alone": {pairs: []string{"reloader:dev"}, wantErr: `--image "reloader:dev" is not IMAGE=PROGRAM`},
		"no image":       {pairs: []string{"=/tmp/reloader"}, wantErr: "is not IMAGE=PROGRAM"},
		"no program":     {pairs: []string{"a:1=/x", "reloader:dev="}, wantErr: `--image "reloader:dev="`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseImages(tc.pairs)
			if tc.wantErr != "" {
				require.ErrorContains(t, err, tc.wantErr)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}
