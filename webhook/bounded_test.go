package webhook

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/policy"
)

// Whatever a review is made of, answering it allocates 40 MB at most, garbage
// included, and takes a bounded time: 0.1 s on an idle machine. Since machines
// differ, the test asks for some times what encoding/json needs only to see that
// the largest review is JSON.
func TestOneReviewIsBounded(t *testing.T) {
	const (
		size     = 7<<20 - 1024
		mostByte = 40 << 20
	)
	fill := func(element string, size int) string {
		return strings.TrimSuffix(strings.Repeat(element+",", size/(len(element)+1)), ",")
	}
	each := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format+",", i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	const opted = `"reloader.stakater.com/auto":"true"`
	review := func(annotations, podSpec string) string {
		return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"apps","version":"v1","kind":"Deployment"},` +
			`"operation":"CREATE","namespace":"a","name":"a","object":{"metadata":{"name":"a","annotations":{` + annotations + `}},"spec":{"template":{"spec":` + podSpec + `}}}}}`
	}
	reviews := map[string]string{
		"empty containers":       review(opted, `{"containers":[`+fill(`{}`, size)+`]}`),
		"containers":             review(opted, `{"containers":[`+fill(`{"name":"a"}`, size)+`]}`),
		"as many as are taken":   review(opted, `{"containers":[`+fill(`{"name":"a"}`, 30_000)+`]}`),
		"empty variables":        review(opted, `{"containers":[{"env":[`+fill(`{}`, size)+`]}]}`),
		"one Secret often":       review(opted, `{"containers":[{"name":"a","env":[`+fill(`{"valueFrom":{"secretKeyRef":{"name":"a","key":"b"}}}`, 500_000)+`]}]}`),
		"many Secrets":           review(opted, `{"containers":[{"name":"a","env":[`+each(9000, `{"valueFrom":{"secretKeyRef":{"name":"s%d"}}}`)+`]}]}`),
		"volumes":                review(opted, `{"volumes":[`+each(5000, `{"name":"v%[1]d","secret":{"secretName":"s%[1]d"}}`)+`]}`),
		"mounts times sources":   review(opted, `{"volumes":[{"name":"v","projected":{"sources":[`+each(3000, `{"secret":{"name":"s%d"}}`)+`]}}],"containers":[`+fill(`{"name":"c","volumeMounts":[{"name":"v"}]}`, 700)+`]}`),
		"tolerations":            review(opted, `{"tolerations":[`+fill(`{}`, size)+`]}`),
		"a large template":       review(opted, `{"containers":[{"args":[`+fill(`""`, 500_000)+`]}]}`),
		"a larger template":      review(opted, `{"containers":[{"args":[`+fill(`""`, size)+`]}]}`),
		"nested arrays":          review(opted, `{"x":[`+fill(strings.Repeat("[", 9000)+strings.Repeat("]", 9000), size)+`]}`),
		"arrays without end":     review(opted, strings.Repeat("[", size)),
		"misspelled annotations": review(each(10_000, `"reloader.stakater.com/a%d":""`), `{}`),
		"annotations":            review(opted+","+fill(`"a":""`, size), `{}`),
		"escapes":                review(`"reloader.stakater.com/auto":"`+strings.Repeat(`\u0041`, size/6)+`"`, `{}`),
		"a list of names":        review(`"configmap.reloader.stakater.com/reload":"`+fill("a", 3<<20)+`"`, `{}`),
		"a list of patterns":     review(`"configmap.reloader.stakater.com/reload":"`+fill("(?:.?){24}y", 200_000)+`"`, `{}`),
		"an exclude list":        review(opted+`,"configmaps.exclude.reloader.stakater.com/reload":"`+each(40_000, "%x")+`"`, `{}`),
	}
	start := time.Now()
	require.True(t, json.Valid([]byte(reviews["empty containers"])))
	longest := 30 * time.Since(start)
	w, err := New(Options{Settings: policy.Settings{Keys: annotation.DefaultKeys()}})
	require.NoError(t, err)
	mux := http.NewServeMux()
	w.Register(mux.Handle)
	for name, body := range reviews {
		for _, path := range []string{PathMutateWorkload, PathValidateWorkload} {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
			request.Header.Set("Content-Type", "application/json")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			mux.ServeHTTP(httptest.NewRecorder(), request)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%-24s %-20s %8d bytes: %6.1f MB, %v", name, path, len(body), float64(allocated)/1e6, took)
			assert.LessOrEqual(t, allocated, uint64(mostByte), "%s to %s", name, path)
			assert.Less(t, took, longest, "%s to %s", name, path)
		}
	}
}
