package reloader

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestASourceKindIsOneOfThoseThatAreKnown(t *testing.T) {
	for _, k := range SourceKinds() {
		parsed, ok := ParseSourceKind(string(k))
		assert.True(t, ok)
		assert.Equal(t, k, parsed)
	}
	for _, text := range []string{"", "configmap", "ConfigMap ", "Nonsense", "Deployment", "Secret\n", "../Secret"} {
		parsed, ok := ParseSourceKind(text)
		assert.False(t, ok, text)
		assert.Empty(t, parsed, text)
	}
}
