package kind

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Whatever an annotation holds, to read it takes a small multiple of its length.
// It is not parallel, since what other tests allocate would count.
func TestReadReloadedFromIsBounded(t *testing.T) {
	for name, repeated := range map[string]string{
		"empty entries":    `{},`,
		"nested entries":   `{"also":[{}]},`,
		"empty containers": `{"containerRefs":["",""]},`,
	} {
		t.Run(name, func(t *testing.T) {
			text := `{"also":[` + strings.Repeat(repeated, (maxRead-100)/len(repeated)) + `{}]}`
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			readReloadedFrom(text)
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8*len(text)))
		})
	}
}
