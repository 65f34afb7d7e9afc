package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
)

// request is what a scripted server was asked.
type request struct {
	method, path, query string
	header              http.Header
	body                string
}

// script is an API server that says what it is told to.
type script struct {
	config *rest.Config

	mu       sync.Mutex // guards requests
	requests []request
}

// play starts a server whose answers, in JSON, are what answer returns.
func play(t *testing.T, answer func(request) (status int, header http.Header, body any)) *script {
	t.Helper()
	s := new(script)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		asked := request{r.Method, r.URL.Path, r.URL.RawQuery, r.Header, string(body)}
		s.mu.Lock()
		s.requests = append(s.requests, asked)
		s.mu.Unlock()
		status, header, answered := answer(asked)
		maps.Copy(w.Header(), header)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answered)
	}))
	transport := new(http.Transport)
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	s.config = &rest.Config{Host: server.URL, QPS: -1, Transport: transport}
	return s
}

func (s *script) client(t *testing.T) *client {
	t.Helper()
	c, err := newClient(s.config, s.config, logr.Discard())
	require.NoError(t, err)
	return c
}

func failure(err *apierrors.StatusError) (int, http.Header, any) {
	s := err.Status()
	s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	return int(s.Code), nil, s
}

func TestListsFollowTheContinueTokens(t *testing.T) {
	listMeta := map[string]metav1.ListMeta{
		"limit=100":                 {Continue: "second"},
		"continue=second&limit=200": {Continue: "third"},
		"continue=third&limit=400":  {},
	}
	tests := map[string]struct {
		answer   func(metav1.ListMeta) any
		list     func(*client, func(string)) error
		wantPath string
	}{
		"of ConfigMaps": {
			answer: func(m metav1.ListMeta) any {
				return corev1.ConfigMapList{
					TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}, ListMeta: m,
					Items: []corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "before-" + m.Continue}}},
				}
			},
			list: func(c *client, visit func(string)) error {
				return c.sources(t.Context(), reloader.ConfigMap, "shop", func(o readable) { visit(o.GetName()) }, nil)
			},
			wantPath: "/api/v1/namespaces/shop/configmaps",
		},
		"of Secrets": {
			answer: func(m metav1.ListMeta) any {
				return corev1.SecretList{
					TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}, ListMeta: m,
					Items: []corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Name: "before-" + m.Continue}}},
				}
			},
			list: func(c *client, visit func(string)) error {
				return c.sources(t.Context(), reloader.Secret, "shop", func(o readable) { visit(o.GetName()) }, nil)
			},
			wantPath: "/api/v1/namespaces/shop/secrets",
		},
		"of workloads": {
			answer: func(m metav1.ListMeta) any {
				return appsv1.StatefulSetList{
					TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSetList"}, ListMeta: m,
					Items: []appsv1.StatefulSet{{ObjectMeta: metav1.ObjectMeta{Name: "before-" + m.Continue}}},
				}
			},
			list: func(c *client, visit func(string)) error {
				k, _ := kind.BuiltIn().ByName(reloader.StatefulSet)
				return c.workloads(t.Context(), k, area{}, func(m *kind.Manifest) { visit(m.Meta.Name) })
			},
			wantPath: "/apis/apps/v1/statefulsets",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := play(t, func(r request) (int, http.Header, any) { return http.StatusOK, nil, tc.answer(listMeta[r.query]) })
			var seen []string
			require.NoError(t, tc.list(server.client(t), func(name string) { seen = append(seen, name) }))
			assert.Equal(t, []string{"before-second", "before-third", "before-"}, seen)
			for _, r := range server.requests {
				assert.Equal(t, tc.wantPath, r.path)
			}
		})
	}
}

func TestAListThatFailsHalfwaySaysSo(t *testing.T) {
	server := play(t, func(r request) (int, http.Header, any) {
		if r.query == "limit=100" {
			return http.StatusOK, nil, corev1.SecretList{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}, ListMeta: metav1.ListMeta{Continue: "second"},
			}
		}
		return failure(apierrors.NewResourceExpired("too old"))
	})
	err := server.client(t).sources(t.Context(), reloader.Secret, "shop", func(readable) {}, nil)
	require.True(t, apierrors.IsResourceExpired(err))
	assert.ErrorContains(t, err, "list Secrets in namespace shop: ")
}

func TestNoRequestIsTriedAgainHere(t *testing.T) {
	server := play(t, func(request) (int, http.Header, any) {
		status, _, body := failure(apierrors.NewTooManyRequests("slow down", 3600))
		return status, http.Header{"Retry-After": {"3600"}}, body
	})
	c, _ := statuses(t, server)
	k, _ := kind.BuiltIn().ByName(reloader.Deployment)
	tests := map[string]func(context.Context) error{
		"a read of metadata": func(ctx context.Context) error {
			_, err := c.metadataOfOne(ctx, k.Resource, "shop", "web")
			return err
		},
		"a read of a class": func(ctx context.Context) error {
			_, err := c.classAnnotations(ctx, reloader.Source{Kind: reloader.SecretProviderClass, Namespace: "shop", Name: "vault"})
			return err
		},
		"a list of metadata": func(ctx context.Context) error {
			_, err := c.metadataOf(ctx, k.Resource, area{}, "", nil)
			return err
		},
		"a watch of metadata": func(ctx context.Context) error {
			_, err := c.watch(ctx, k.Resource, "", metav1.ListOptions{})
			return err
		},
		"a watch of what pods report": func(ctx context.Context) error {
			_, err := c.watch(ctx, podStatusResource(), "", metav1.ListOptions{})
			return err
		},
		"a read of a source":   func(ctx context.Context) error { return c.source(ctx, settings, nil) },
		"a list of sources":    func(ctx context.Context) error { return c.sources(ctx, reloader.Secret, "shop", nil, nil) },
		"a read of a workload": func(ctx context.Context) error { _, err := c.workload(ctx, k, web); return err },
		"a list of workloads":  func(ctx context.Context) error { return c.workloads(ctx, k, area{}, nil) },
		"a patch": func(ctx context.Context) error {
			_, err := c.patch(ctx, k, web, types.StrategicMergePatchType, []byte("{}"))
			return err
		},
		"a read of the key": func(ctx context.Context) error { _, err := c.sharedKey(ctx, password); return err },
	}
	for name, ask := range tests {
		t.Run(name, func(t *testing.T) {
			server.requests = nil
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			require.True(t, apierrors.IsTooManyRequests(ask(ctx)))
			assert.Len(t, server.requests, 1)
		})
	}
}

func TestReads(t *testing.T) {
	server := play(t, func(r request) (int, http.Header, any) {
		switch r.path {
		case "/api/v1/namespaces/shop/configmaps/settings":
			return http.StatusOK, nil, corev1.ConfigMap{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: map[string]string{"a": "1"},
			}
		case "/api/v1/namespaces/shop/secrets/password":
			return http.StatusOK, nil, corev1.Secret{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, Data: map[string][]byte{"a": []byte("1")},
			}
		}
		return failure(apierrors.NewNotFound(appsv1.Resource("deployments"), "web"))
	})
	c := server.client(t)
	var got readable
	take := func(o readable) { got = o }
	require.NoError(t, c.source(t.Context(), settings, take))
	assert.Equal(t, map[string]string{"a": "1"}, got.(*corev1.ConfigMap).Data)
	require.NoError(t, c.source(t.Context(), password, take))
	assert.Equal(t, map[string][]byte{"a": []byte("1")}, got.(*corev1.Secret).Data)
	for _, name := range []string{"shop/settings", "..", "a%b"} {
		err := c.source(t.Context(), reloader.Source{Kind: reloader.ConfigMap, Namespace: "shop", Name: name}, nil)
		require.True(t, apierrors.IsNotFound(err), "no object can have the name %s", name)
	}
	assert.Len(t, server.requests, 2)
	k, _ := kind.BuiltIn().ByName(reloader.Deployment)
	_, err := c.workload(t.Context(), k, web)
	require.True(t, apierrors.IsNotFound(err))
	require.ErrorContains(t, err, "read Deployment shop/web: ")
	require.Len(t, server.requests, 3)
	for _, r := range server.requests[:2] {
		assert.Equal(t, "application/vnd.kubernetes.protobuf,application/json", r.header.Get("Accept"))
	}
	assert.Equal(t, "application/json", server.requests[2].header.Get("Accept"), "its template is hashed as it stands")
}

// newTestEngine is an engine that has no workers.
func newTestEngine(t testing.TB, config *rest.Config, r Reporter) *Engine {
	t.Helper()
	key, err := RandomKey()
	require.NoError(t, err)
	e, err := New(Options{Config: config, Key: key, Settings: policy.Settings{Keys: keys}, Reporter: r})
	require.NoError(t, err)
	t.Cleanup(e.queues.shutDown)
	return e
}

// deployments serve one Deployment as the API server would: a patch that
// changes its spec raises the generation.
func deployments(t *testing.T, object *appsv1.Deployment) *script {
	t.Helper()
	var mu sync.Mutex
	return play(t, func(r request) (int, http.Header, any) {
		mu.Lock()
		defer mu.Unlock()
		if r.method == http.MethodPatch {
			before, err := json.Marshal(object)
			if err != nil {
				panic(err)
			}
			after, err := strategicpatch.StrategicMergePatch(before, []byte(r.body), appsv1.Deployment{})
			if err != nil {
				panic(err)
			}
			patched := new(appsv1.Deployment)
			if err := json.Unmarshal(after, patched); err != nil {
				panic(err)
			}
			if patched.UID != object.UID {
				return failure(apierrors.NewConflict(appsv1.Resource("deployments"), object.Name, errors.New("another uid")))
			}
			if !apiequality.Semantic.DeepEqual(object.Spec, patched.Spec) || !maps.Equal(object.Annotations, patched.Annotations) {
				patched.Generation++
			}
			*object = *patched
		}
		if r.method == http.MethodGet {
			whole := object.DeepCopy()
			whole.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
			return http.StatusOK, nil, whole
		}
		return http.StatusOK, nil, metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}, ObjectMeta: object.ObjectMeta,
		}
	})
}

func TestAReloadIsOnePatch(t *testing.T) {
	a := newApp(web).recorded(t)
	object := a.object().(*appsv1.Deployment)
	server := deployments(t, object)
	r := new(told)
	e := newTestEngine(t, server.config, r)
	settled(t, e.intake, a)
	due(t, e.ledger, written(30, "b"))

	require.NoError(t, e.reload(t.Context(), web))
	require.Len(t, server.requests, 1)
	asked := server.requests[0]
	assert.Equal(t, http.MethodPatch, asked.method)
	assert.Equal(t, "/apis/apps/v1/namespaces/shop/deployments/web", asked.path)
	assert.Equal(t, "fieldManager=Reloader", asked.query)
	assert.Equal(t, "application/strategic-merge-patch+json", asked.header.Get("Content-Type"))
	assert.Equal(t, metadataOnly, asked.header.Get("Accept"))
	var patch metav1.PartialObjectMetadata
	require.NoError(t, json.Unmarshal([]byte(asked.body), &patch))
	assert.Equal(t, types.UID("first"), patch.UID)

	require.Len(t, r.reloaded, 1)
	assert.Equal(t, web, r.reloaded[0].Workload)
	assert.Equal(t, "apps/v1", r.reloaded[0].APIVersion)
	assert.Equal(t, []reloader.Source{settings}, r.reloaded[0].Sources)
	value := e.seals.content(settings, "b") + "-" + shortHash(a.record().Template)
	assert.Equal(t, []corev1.EnvVar{{Name: "STAKATER_SETTINGS_CONFIGMAP", Value: value}}, object.Spec.Template.Spec.Containers[0].Env)

	// Its own event asks for nothing: the record goes with the generation.
	e.intake.observe(web, object, at(31))
	assert.Empty(t, drain(e.queues.resolve))
	assert.Empty(t, e.ledger.due(web))
	require.NoError(t, e.reload(t.Context(), web))
	assert.Len(t, server.requests, 1, "nothing is due any more")
}

func TestAReloadOfAnotherOneOfThatNameIsRefused(t *testing.T) {
	a := newApp(web)
	server := deployments(t, a.with(func(a *app) { a.uid = "second" }).object().(*appsv1.Deployment))
	r := new(told)
	e := newTestEngine(t, server.config, r)
	settled(t, e.intake, a)
	due(t, e.ledger, written(30, "b"))

	require.Error(t, e.reload(t.Context(), web))
	assert.Equal(t, []reloader.Outcome{reloader.OutcomeRetry}, r.failed)
	assert.Equal(t, []reloader.Workload{web}, drain(e.queues.resolve))
	assert.Equal(t, []debt{{settings, "b"}}, e.ledger.due(web))
	require.NoError(t, e.reload(t.Context(), web), "it waits for being read")
	assert.Len(t, server.requests, 1)
}

// Pods that started by themselves with newer content leave the mark of an
// older one in the template. Going back to that one has to start pods.
func TestGoingBackToTheContentOfAnOldMarkStartsPods(t *testing.T) {
	a := newApp(web)
	object := a.object().(*appsv1.Deployment)
	server := deployments(t, object)
	e := newTestEngine(t, server.config, new(told))
	settled(t, e.intake, a)
	changesTo := func(version uint64, value string) {
		due(t, e.ledger, written(version, value))
	}
	changesTo(20, "b")
	require.NoError(t, e.reload(t.Context(), web))
	require.Equal(t, int64(2), object.Generation)
	mark := object.Spec.Template.Spec.Containers[0].Env

	// A release changes both, and leaves our variable alone.
	changesTo(30, "c")
	object.Generation, object.Spec.Template.Labels = 3, map[string]string{"release": "2"}
	e.intake.observe(web, object, at(31))
	require.True(t, e.intake.supply(readAs(t, reloader.Deployment, object)))
	drain(e.queues.resolve)
	require.Empty(t, e.ledger.due(web))

	changesTo(40, "b")
	require.NoError(t, e.reload(t.Context(), web))
	assert.Equal(t, int64(4), object.Generation, "the template is as it was: no pod starts anew")
	again := object.Spec.Template.Spec.Containers[0].Env
	require.Len(t, again, 1)
	assert.Equal(t, mark[0].Name, again[0].Name)
	assert.NotEqual(t, mark[0].Value, again[0].Value)
	content := e.seals.content(settings, "b") + "-"
	assert.True(t, strings.HasPrefix(mark[0].Value, content) && strings.HasPrefix(again[0].Value, content))
}

// lossy loses the answers to patches while lose is true, and the patches
// themselves if it is deaf, too.
type lossy struct {
	http.RoundTripper
	lose, deaf bool
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.lose && l.deaf && r.Method == http.MethodPatch {
		return nil, errors.New("connection reset by peer")
	}
	answer, err := l.RoundTripper.RoundTrip(r)
	if err == nil && l.lose && r.Method == http.MethodPatch {
		_ = answer.Body.Close()
		return nil, errors.New("connection reset by peer")
	}
	return answer, err
}

// A patch whose answer is lost may have been carried out: the workload is looked
// at before anything is sent again.
func TestAReloadWhoseAnswerIsLostIsLookedFor(t *testing.T) {
	image := func(object *appsv1.Deployment) {
		object.Generation++
		object.Spec.Template.Spec.Containers[0].Image = "web:2"
	}
	tests := map[string]struct {
		strategy kind.Strategy
		// arrives is whether the patch has been carried out.
		arrives bool
		// meanwhile is what happens before it is looked for.
		meanwhile func(e *Engine, object *appsv1.Deployment)
		// wantPatches are those that arrive in all.
		wantPatches int
		want        fingerprint.Fingerprint
	}{
		"it was carried out":                              {kind.EnvVars, true, nil, 1, "b"},
		"it was carried out, in an annotation":            {kind.Annotations, true, nil, 1, "b"},
		"it was carried out, and others changed the rest": {kind.EnvVars, true, func(_ *Engine, o *appsv1.Deployment) { image(o) }, 1, "b"},
		"it was not carried out":                          {kind.EnvVars, false, nil, 1, "b"},
		"it was not carried out, in an annotation":        {kind.Annotations, false, nil, 1, "b"},
		"it was carried out, and the source changed again": {kind.EnvVars, true, func(e *Engine, _ *appsv1.Deployment) {
			due(t, e.ledger, written(40, "c"))
		}, 2, "c"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := newApp(web)
			object := a.object().(*appsv1.Deployment)
			server := deployments(t, object)
			line := &lossy{RoundTripper: server.config.Transport, lose: true, deaf: !tc.arrives}
			server.config.Transport = line
			r := new(told)
			e := newTestEngine(t, server.config, r)
			e.strategy = tc.strategy
			settled(t, e.intake, a)
			due(t, e.ledger, written(20, "b"))

			require.Error(t, e.reload(t.Context(), web))
			assert.Equal(t, tc.arrives, object.Generation == 2)
			assert.Equal(t, []reloader.Outcome{reloader.OutcomeRetry}, r.failed)
			line.lose = false
			if tc.meanwhile != nil {
				tc.meanwhile(e, object)
			}
			assert.Equal(t, []reloader.Workload{web}, drain(e.queues.resolve))
			e.intake.observe(web, object, at(19))
			require.NoError(t, e.resolve(t.Context(), web))
			require.NoError(t, e.reload(t.Context(), web))
			assert.Empty(t, e.ledger.due(web))

			patches := 0
			for _, asked := range server.requests {
				if asked.method == http.MethodPatch {
					patches++
				}
			}
			assert.Equal(t, tc.wantPatches, patches)
			assert.Len(t, r.reloaded, tc.wantPatches, "each is told once")
			text, err := json.Marshal(object.Spec.Template)
			require.NoError(t, err)
			assert.Contains(t, string(text), e.seals.content(settings, tc.want)+"-")
			_, still := e.attempts.of(web)
			assert.False(t, still)
		})
	}
}
