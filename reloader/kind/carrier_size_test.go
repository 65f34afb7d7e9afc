package kind

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A carrier that no engine has made is refused at the cost of its length, whatever
// its data would take when they are decoded. It is not parallel, since what other
// tests allocate would count.
func TestForgedCarriersCostLittle(t *testing.T) {
	key := carrierKey(t, 1)
	long := func(begin, repeated, end string) string {
		return begin + strings.Repeat(repeated, (1400<<10-len(begin)-len(end))/len(repeated)) + end
	}
	for name, data := range map[string]string{
		"empty sources":    long(`{"sources":[`, `{},`, `{}]}`),
		"sources":          long(`{"sources":[`, `{"kind":"Secret","name":"a"},`, `{}]}`),
		"one long Job":     long(`{"job":"`, `a`, `"}`),
		"escapes":          long(`{"job":"`, `\u003c`, `"}`),
		"a packed Job":     long(`{"jobGzip":"`, `AAAA`, `"}`),
		"unknown fields":   long(`{`, `"a":{},`, `"replaces":""}`),
		"the same again":   long(`{`, `"sources":[{},{}],`, `"replaces":""}`),
		"nested lists":     long(`{"x":`, `[`, ``),
		"what is not JSON": long(``, `{`, ``),
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := carrying(t, key, standing(), Held)
			o.Data.Raw = []byte(data)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := OpenCarrier(key, o)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, ErrUntrusted)
			ratio := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(data))
			assert.Less(t, ratio, 1.2, "bytes allocated per byte of data")
		})
	}
}
