package scenario

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Races and panics fail no request that a test would notice: they are looked for
// in the logs when all tests are over.
func TestFaultsInLogs(t *testing.T) {
	tests := map[string]struct {
		log  string
		want string
	}{
		"a race":        {log: "ready\nWARNING: DATA RACE\nWrite at 0x1", want: "engine.log:\nWARNING: DATA RACE\nWrite at 0x1"},
		"a panic":       {log: "panic: runtime error: index out of range", want: "index out of range"},
		"a fatal error": {log: "fatal error: concurrent map writes", want: "concurrent map writes"},
		"nothing":       {log: "ready\nreloaded workload=\"Deployment shop/web\"\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := faultsIn(map[string][]byte{"webhook.log": []byte("ready"), "engine.log": []byte(tc.log)})
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, tc.want)
		})
	}
}
