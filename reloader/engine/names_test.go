package engine

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// impossible are names that no object has, as they may stand in annotations,
// owner references and workloadRefs.
var impossible = map[string]string{
	"empty":             "",
	"one dot":           ".",
	"two dots":          "..",
	"a path":            "a/b",
	"a path upwards":    "../../../../api/v1/namespaces/reloader/pods/a",
	"an absolute path":  "/api/v1/secrets",
	"an escaped path":   "..%2f..%2fsecrets",
	"a query":           "a?limit=1",
	"a fragment":        "a#b",
	"a percent sign":    "a%00",
	"a backslash":       `a\b`,
	"blanks":            "a b",
	"a line end":        "a\nb",
	"a control letter":  "a\x1b[31m",
	"a NUL":             "a\x00",
	"capitals":          "Settings",
	"no UTF-8":          "a\xff",
	"a selector's text": "a,metadata.name!=b",
	"too long":          strings.Repeat("a", 254),
}

// namers are all methods of client that name an object.
var namers = map[string]func(ctx context.Context, c *client, namespace, name string) error{
	"source": func(ctx context.Context, c *client, namespace, name string) error {
		return c.source(ctx, reloader.Source{Kind: reloader.Secret, Namespace: namespace, Name: name}, nil)
	},
	"workload": func(ctx context.Context, c *client, namespace, name string) error {
		k, _ := kind.BuiltIn().ByName(reloader.StatefulSet)
		_, err := c.workload(ctx, k, reloader.Workload{Kind: k.Name, Namespace: namespace, Name: name})
		return err
	},
	"workload, a custom resource": func(ctx context.Context, c *client, namespace, name string) error {
		k, _ := kind.BuiltIn().ByName(reloader.Rollout)
		_, err := c.workload(ctx, k, reloader.Workload{Kind: k.Name, Namespace: namespace, Name: name})
		return err
	},
	"deployment": func(ctx context.Context, c *client, namespace, name string) error {
		_, err := c.deployment(ctx, reloader.Workload{Kind: reloader.Deployment, Namespace: namespace, Name: name})
		return err
	},
	"patch": func(ctx context.Context, c *client, namespace, name string) error {
		k, _ := kind.BuiltIn().ByName(reloader.Rollout)
		_, err := c.patch(ctx, k, reloader.Workload{Kind: k.Name, Namespace: namespace, Name: name}, types.MergePatchType, []byte("{}"))
		return err
	},
	"createJob": func(ctx context.Context, c *client, namespace, name string) error {
		_, err := c.createJob(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
		return err
	},
	"deleteJob": func(ctx context.Context, c *client, namespace, name string) error {
		w := reloader.Workload{Kind: reloader.Job, Namespace: namespace, Name: name}
		return c.deleteJob(ctx, w, metav1.DeletePropagationBackground, metav1.Preconditions{})
	},
	"metadataOfOne": func(ctx context.Context, c *client, namespace, name string) error {
		k, _ := kind.BuiltIn().ByName(reloader.CronJob)
		_, err := c.metadataOfOne(ctx, k.Resource, namespace, name)
		return err
	},
}

func TestANameThatCannotExistIsNotAskedFor(t *testing.T) {
	server := play(t, func(request) (int, http.Header, any) {
		return http.StatusOK, nil, metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}}
	})
	c := server.client(t)
	for method, ask := range namers {
		t.Run(method, func(t *testing.T) {
			for what, name := range impossible {
				assert.True(t, apierrors.IsNotFound(ask(t.Context(), c, "shop", name)), "a name that is %s", what)
				assert.True(t, apierrors.IsNotFound(ask(t.Context(), c, name, "settings")), "a namespace that is %s", what)
			}
			assert.Empty(t, server.requests)
		})
	}
}

// A class that cannot exist has no annotations, as one that is gone.
func TestAClassThatCannotExistIsNotAskedFor(t *testing.T) {
	server := play(t, func(request) (int, http.Header, any) { return http.StatusOK, nil, nil })
	c := server.client(t)
	for what, name := range impossible {
		annotations, err := c.classAnnotations(t.Context(), reloader.Source{Kind: reloader.SecretProviderClass, Namespace: "shop", Name: name})
		require.NoError(t, err, what)
		assert.Empty(t, annotations)
	}
	assert.Empty(t, server.requests)
}

// Requests are made in client's files only, and those that name an object are
// checked: this finds the one that somebody adds elsewhere.
func TestEveryRequestThatNamesAnObjectIsChecked(t *testing.T) {
	naming := regexp.MustCompile(`\.Name\([^)]|\.Get\(ctx, |\.Delete\(ctx, |\.Patch\(ctx, `)
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, f := range files {
		// The Secret with the key is named by a flag.
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") || f.Name() == "key.go" {
			continue
		}
		text, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			if naming.MatchString(line) {
				before := lines[max(0, i-8):i]
				assert.True(t, slices.ContainsFunc(before, func(l string) bool { return strings.Contains(l, "canExist(") }), "%s:%d: %s", f.Name(), i+1, line)
			}
		}
	}
}

func TestAnOwnerThatCannotExistIsGone(t *testing.T) {
	server := play(t, func(request) (int, http.Header, any) { return http.StatusOK, nil, nil })
	e := newTestEngine(t, server.config, new(told))
	m := &kind.Manifest{Kind: reloader.Job, Meta: &metav1.ObjectMeta{Namespace: "shop", Name: "migration"}}
	for what, name := range impossible {
		m.Meta.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "CronJob", Name: name, UID: "u", Controller: new(true)}}
		goes, err := e.ownerGoes(t.Context(), m.Workload(), metav1.GetControllerOf(m.Meta))
		require.NoError(t, err, what)
		assert.True(t, goes, what)
	}
	assert.Empty(t, server.requests)
}
