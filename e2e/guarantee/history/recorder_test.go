package history

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A story with a hole is no story in which nothing happened: nobody who waits
// for it may take it for one.
func TestAHoleInTheStoryIsAnError(t *testing.T) {
	event := func(key, value string) string {
		encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
		return fmt.Sprintf(`{"result":{"events":[{"kv":{"key":%q,"value":%q,"mod_revision":"8"}}]}}`, encode(key), encode(value))
	}
	tests := map[string]struct {
		says string
		want string
	}{
		"versions that were compacted before they were read": {
			says: `{"result":{"canceled":true,"compact_revision":"9"}}`, want: "have been compacted",
		},
		"a source that cannot be read":  {says: event("/registry/secrets/shop/db", "garbage"), want: "read /registry/secrets/shop/db"},
		"a workload that cannot be":     {says: event("/registry/deployments/shop/web", "garbage"), want: "read /registry/deployments/shop/web"},
		"a workload of another kind is": {says: event("/registry/deployments/shop/web", `{"apiVersion":"v1","kind":"Pod"}`), want: "it is a *v1.Pod"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/kv/range") {
					fmt.Fprint(w, `{"header":{"revision":"7"}}`)
					return
				}
				fmt.Fprint(w, tc.says)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}))
			defer server.Close()
			r, err := Record(t.Context(), Etcd(server.URL), "shop")
			require.NoError(t, err)
			defer r.Stop()
			never := func(*Story) bool { return false }
			require.ErrorContains(t, r.Await(t.Context(), never), tc.want)
			assert.ErrorContains(t, r.AwaitQuiet(t.Context(), time.Millisecond), tc.want)
		})
	}
}
