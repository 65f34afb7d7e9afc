package answer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// store is an API server with ConfigMaps of these sizes in bytes.
type store struct {
	sizes []int
	// json is true if it answers in JSON.
	json bool
	// whole is true if it ignores limits.
	whole bool
	// expires is true if no continue token is known.
	expires bool

	mu     sync.Mutex // guards limits
	limits []string
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	s.limits = append(s.limits, q.Get("continue")+"+"+q.Get("limit"))
	s.mu.Unlock()
	from, _ := strconv.Atoi(q.Get("continue"))
	limit, _ := strconv.Atoi(q.Get("limit"))
	if s.expires && from > 0 {
		refuse(w, apierrors.NewResourceExpired("too old"))
		return
	}
	if s.whole {
		limit = len(s.sizes)
	}
	list := corev1.ConfigMapList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(10 + from)}}
	list.APIVersion, list.Kind = "v1", "ConfigMapList"
	until := min(from+limit, len(s.sizes))
	if until < len(s.sizes) {
		list.Continue = strconv.Itoa(until)
	}
	for i := from; i < until; i++ {
		list.Items = append(list.Items, configMap(strconv.Itoa(i), s.sizes[i]))
	}
	_, _ = w.Write(encode(&list, s.json))
}

func refuse(w http.ResponseWriter, err *apierrors.StatusError) {
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status)
}

func configMap(name string, size int) corev1.ConfigMap {
	return corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"a": strings.Repeat("x", size)}}
}

func encode(object kruntime.Object, inJSON bool) []byte {
	as := kruntime.ContentTypeProtobuf
	if inJSON {
		as = kruntime.ContentTypeJSON
	}
	info, _ := kruntime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), as)
	body, err := kruntime.Encode(scheme.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion), object)
	if err != nil {
		panic(err)
	}
	return body
}

// serve starts a server and returns what makes requests of it.
func serve(t *testing.T, handler http.Handler) func() *rest.Request {
	t.Helper()
	server := httptest.NewServer(handler)
	transport := new(http.Transport)
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	client, err := rest.RESTClientFor(&rest.Config{
		Host: server.URL, QPS: -1, Transport: transport, APIPath: "/api",
		ContentConfig: rest.ContentConfig{GroupVersion: &corev1.SchemeGroupVersion, NegotiatedSerializer: scheme.Codecs.WithoutConversion()},
	})
	require.NoError(t, err)
	return func() *rest.Request { return client.Get().Resource("configmaps").MaxRetries(0) }
}

func pages(get func() *rest.Request) func(int64, string) *rest.Request {
	return func(limit int64, next string) *rest.Request {
		return get().VersionedParams(&metav1.ListOptions{Limit: limit, Continue: next}, metav1.ParameterCodec)
	}
}

func same(n, size int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

func TestPagesAreBoundedInBytes(t *testing.T) {
	tests := map[string]struct {
		sizes []int
		// whole is true if limits are ignored.
		whole bool
		first int64
		// wantLimits are continue tokens and limits, as asked for.
		wantLimits []string
		// wantSkipped are the objects that are missing, wantErr the error.
		wantSkipped []string
		wantErr     error
	}{
		"nothing":                         {nil, false, 100, []string{"+100"}, nil, nil},
		"small objects: pages grow":       {same(800, 10), false, 100, []string{"+100", "100+200", "300+400", "700+500"}, nil, nil},
		"at most as many as a page has":   {same(600, 10), false, 5000, []string{"+500", "500+500"}, nil, nil},
		"large objects: given up once":    {same(20, mib), false, 100, []string{"+100", "+7", "7+3", "10+3", "13+3", "16+3", "19+3"}, nil, nil},
		"half, if more would have fitted": {append(same(70, 10), same(10, mib)...), false, 100, []string{"+100", "+50", "50+100", "50+27", "77+15"}, nil, nil},
		"pages grow again":                {append(same(6, 3*mib), same(20, 10)...), false, 4, []string{"+4", "+2", "2+1", "3+1", "4+1", "5+1", "6+1", "7+2", "9+4", "13+8", "21+16"}, nil, nil},
		"an object of almost all a page":  {[]int{8*mib - 1000, 2000}, false, 2, []string{"+2", "+1", "1+1"}, nil, nil},
		"one object of more than a page":  {[]int{1, 9 * mib, 1}, false, 3, []string{"+3", "+1", "1+2", "1+1", "2+1"}, nil, nil},
		"an object that is too long":      {[]int{1, 11 * mib, 1}, false, 3, []string{"+3", "+1", "1+2", "1+1", "2+1"}, []string{"1"}, nil},
		"a last object that is too long":  {[]int{1, 1, 11 * mib}, false, 3, []string{"+3", "+1", "1+2", "1+1", "2+2", "2+1"}, []string{"2"}, nil},
		"two of them at the end":          {[]int{1, 11 * mib, 11 * mib}, false, 3, []string{"+3", "+1", "1+2", "1+1", "2+1"}, []string{"1", "2"}, nil},
		"the only object is too long":     {[]int{11 * mib}, false, 3, []string{"+3", "+1"}, nil, ErrTooLong},
		"limits are ignored":              {same(600, 10), true, 100, []string{"+100"}, nil, nil},
		"and there is too much for that":  {same(12, mib), true, 100, []string{"+100", "+7", "+3", "+1"}, nil, ErrTooLong},
	}
	for name, tc := range tests {
		for _, inJSON := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, JSON %t", name, inJSON), func(t *testing.T) {
				server := &store{sizes: tc.sizes, whole: tc.whole, json: inJSON}
				var logged []string
				r := New(funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{}))
				got := map[string]int{}
				moreCalls := 0
				version, err := r.List(t.Context(), tc.first, pages(serve(t, server)), func(o Object) error {
					c := new(corev1.ConfigMap)
					require.NoError(t, o.Into(c))
					got[c.Name] = len(c.Data["a"])
					return nil
				}, func() { moreCalls++ })
				assert.Equal(t, tc.wantLimits, server.limits)
				assert.Empty(t, r.turns, "all turns are given back")
				if tc.wantErr != nil {
					require.ErrorIs(t, err, tc.wantErr)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, "10", version)
				want := map[string]int{}
				for i, size := range tc.sizes {
					want[strconv.Itoa(i)] = size
				}
				for _, name := range tc.wantSkipped {
					delete(want, name)
				}
				assert.Equal(t, want, got)
				assert.Len(t, logged, len(tc.wantSkipped))
				assert.Positive(t, moreCalls)
			})
		}
	}
}

func TestAnExpiredTokenEndsAList(t *testing.T) {
	server := &store{sizes: same(200, 10), expires: true}
	_, err := New(logr.Discard()).List(t.Context(), 100, pages(serve(t, server)), func(Object) error { return nil }, nil)
	require.True(t, apierrors.IsResourceExpired(err), "%v", err)
	assert.Len(t, server.limits, 2)
}

// endless sends what never ends.
func endless(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":[`)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, `{"metadata":{"name":"a"}},`); err != nil {
			return
		}
	}
}

func TestABodyThatNeverEnds(t *testing.T) {
	tests := map[string]struct {
		answer  http.HandlerFunc
		wantErr error
	}{
		"since there is always more": {endless, ErrTooLong},
		"since nothing comes any more": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"items":[`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, context.DeadlineExceeded},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			get := serve(t, tc.answer)
			r := New(logr.Discard())
			r.patient = 2 * time.Second
			_, err := r.List(t.Context(), 100, pages(get), func(Object) error { return nil }, nil)
			require.ErrorIs(t, err, tc.wantErr)
			require.ErrorIs(t, r.Object(t.Context(), get(), func(Object) error { return nil }), tc.wantErr)
			assert.Empty(t, r.turns)
		})
	}
}

func TestOneObject(t *testing.T) {
	for size, wantErr := range map[int]error{0: nil, 100: nil, 2 * mib: nil, 9 * mib: nil, 11 * mib: ErrTooLong} {
		for _, inJSON := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, JSON %t", size, inJSON), func(t *testing.T) {
				want := configMap("a", size)
				want.APIVersion, want.Kind = "v1", "ConfigMap"
				get := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(encode(&want, inJSON)) }))
				got := new(corev1.ConfigMap)
				err := New(logr.Discard()).Object(t.Context(), get(), func(o Object) error { return o.Into(got) })
				require.ErrorIs(t, err, wantErr)
				if wantErr == nil {
					want := configMap("a", size)
					assert.Equal(t, &want, got, "without its type, as client-go decodes it")
				}
			})
		}
	}
}

// What an API server sends of an object that etcd takes is never too long: of all
// objects of that size these are the longest in JSON.
func TestALargeObjectFitsInJSON(t *testing.T) {
	for name, char := range map[string]string{"markup": "<", "control characters": "\x01", "letters": "a"} {
		t.Run(name, func(t *testing.T) {
			object := configMap("a", 0)
			object.Data["a"] = strings.Repeat(char, 3*mib/2)
			get := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(encode(&object, true)) }))
			got := new(corev1.ConfigMap)
			require.NoError(t, New(logr.Discard()).Object(t.Context(), get(), func(o Object) error { return o.Into(got) }))
			assert.Equal(t, object.Data, got.Data)
		})
	}
}

func TestRefusalsAreAsClientGoHasThem(t *testing.T) {
	get := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, apierrors.NewForbidden(corev1.Resource("configmaps"), "a", nil))
	}))
	err := New(logr.Discard()).Object(t.Context(), get(), nil)
	require.True(t, apierrors.IsForbidden(err), "%v", err)
}

// However many workers ask for large objects, few of them are in memory.
func TestLongAnswersTakeTurns(t *testing.T) {
	object := configMap("a", mib)
	body := encode(&object, false)
	get := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	r := New(logr.Discard())
	var now atomic.Int32
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			assert.NoError(t, r.Object(t.Context(), get(), func(o Object) error {
				assert.LessOrEqual(t, now.Add(1), int32(turns))
				defer now.Add(-1)
				runtime.Gosched()
				return o.Into(new(corev1.ConfigMap))
			}))
		})
	}
	workers.Wait()
}

func TestACustomResourceKeepsItsNumbers(t *testing.T) {
	got := new(unstructured.Unstructured)
	require.NoError(t, Object{raw: []byte(`{"kind":"Rollout","spec":{"replicas":3}}`), json: true}.Into(got))
	assert.Equal(t, map[string]any{"kind": "Rollout", "spec": map[string]any{"replicas": int64(3)}}, got.Object)
	require.ErrorIs(t, Object{raw: []byte("x")}.Into(got), ErrUndecodable)
}

func TestAnswersThatCannotBeDecoded(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "text": "hush", "an array": "[]", "items that are none": `{"items":3}`, "half of it": `{"items":[{}]`,
		"metadata that are none": `{"metadata":[]}`, "an envelope without end": magic + "\x12\xff", "an unknown type of field": magic + "\x0f",
		"a list that is none": magic + "\x12\x02\x12\x05",
	} {
		t.Run(name, func(t *testing.T) {
			b := &body{bytes: []byte(text)}
			_, err := b.list(func(Object) error { return nil })
			if err == nil {
				err = b.object(func(o Object) error { return o.Into(new(corev1.ConfigMap)) })
			}
			require.ErrorIs(t, err, ErrUndecodable)
			assert.NotContains(t, err.Error(), "hush")
		})
	}
}

// Whatever is sent, reading it ends, and no more objects come of it than it can
// hold.
func FuzzList(f *testing.F) {
	for _, inJSON := range []bool{false, true} {
		f.Add(encode(&corev1.ConfigMapList{Items: []corev1.ConfigMap{configMap("a", 3), configMap("b", 0)}}, inJSON))
	}
	f.Add([]byte(`{"items":null,"metadata":{"continue":"a"}}`))
	f.Add([]byte(magic + "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := &body{bytes: text}
		objects, bytes := 0, 0
		_, _ = b.list(func(o Object) error {
			objects++
			bytes += len(o.raw)
			_ = o.Into(new(corev1.ConfigMap))
			return nil
		})
		if objects > len(text) || bytes > len(text) {
			t.Fatalf("%d objects of %d bytes come of %d", objects, bytes, len(text))
		}
		_ = b.object(func(o Object) error { return o.Into(new(metav1.PartialObjectMetadata)) })
	})
}

func TestTheNextPageIsNoLongerThanWhatFits(t *testing.T) {
	tests := map[string]struct {
		page  page
		limit int64
		want  int64
	}{
		"nothing came":       {page{}, 100, 1},
		"tiny objects":       {page{objects: 100, bytes: 100}, 100, 200},
		"never beyond a cap": {page{objects: 500, bytes: 500}, 500, mostObjects},
		"half a page of it":  {page{objects: 4, bytes: 4 * mib}, 4, 4},
		"huge objects":       {page{objects: 1, bytes: mostBytes}, 1, 1},
		"most bytes":         {page{objects: math.MaxInt32, bytes: math.MaxInt32}, 500, 500},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, tc.page.following(tc.limit)) })
	}
}
