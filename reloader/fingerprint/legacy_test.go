package fingerprint_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"k8s-reloader/reloader/fingerprint"
)

// The answers are those of sha1sum.
func TestLegacyMarks(t *testing.T) {
	tests := map[string]struct{ got, want string }{
		"an empty ConfigMap":        {fingerprint.LegacyConfigMap(nil, nil), "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
		"a ConfigMap of both sorts": {fingerprint.LegacyConfigMap(data{"b": "2", "a": "1"}, binary{"c": {0, 255}}), "37192f2da5f65da50f6074ef4d8024f950893de8"},
		"a Secret":                  {fingerprint.LegacySecret(binary{"user": []byte("me"), "password": []byte("hunter2")}), "f7295161782ade9e5f25f3d13f2a28a339ce6368"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, tc.got)
			assert.True(t, fingerprint.IsLegacy(tc.got))
		})
	}
	for _, mark := range []string{"", "true", string(testKey(t).Secret(nil)) + "-01234567", "zz39a3ee5e6b4b0d3255bfef95601890afd80709", "da39a3ee5e6b"} {
		assert.False(t, fingerprint.IsLegacy(mark), mark)
	}
}
