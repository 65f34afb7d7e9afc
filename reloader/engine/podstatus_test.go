package engine

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"k8s-reloader/reloader/fingerprint"
)

func statuses(t *testing.T, s *script) (*client, fingerprint.Key) {
	t.Helper()
	key, err := RandomKey()
	require.NoError(t, err)
	c := s.client(t)
	c.statuses, err = newPodStatuses(s.config, key)
	require.NoError(t, err)
	return c, key
}

// driverStatus is what the driver writes, fields included that nobody reads.
func driverStatus(name string, mounted bool, objects ...any) map[string]any {
	return map[string]any{
		"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClassPodStatus",
		"metadata": map[string]any{
			"name": name, "namespace": "shop", "resourceVersion": "7", "uid": "u", "generation": 2,
			"labels": map[string]any{"internal.secrets-store.csi.k8s.io/node-name": "node"},
		},
		"status": map[string]any{
			"podName": "web-0", "secretProviderClassName": "vault", "mounted": mounted,
			"targetPath": "/var/lib/kubelet", "objects": objects,
		},
	}
}

func TestReportsAreFingerprintsOnly(t *testing.T) {
	object := func(id, version string) any { return map[string]any{"id": id, "version": version} }
	server := play(t, func(r request) (int, http.Header, any) {
		if strings.Contains(r.query, "watch=") {
			return http.StatusOK, nil, map[string]any{"type": "MODIFIED", "object": driverStatus("c", true, object("hush", "hush2"))}
		}
		return http.StatusOK, nil, map[string]any{
			"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClassPodStatusList",
			"metadata": map[string]any{"resourceVersion": "9"},
			"items": []any{
				driverStatus("a", true, object("hush", "hush1"), object("other", "hush1")),
				driverStatus("b", true),
				driverStatus("d", false, object("hush", "hush1")),
			},
		}
	})
	c, key := statuses(t, server)
	report := func(name string, content fingerprint.Fingerprint) metav1.PartialObjectMetadata {
		annotations := map[string]string{mountedClass: "vault", mountedPod: "web-0", mountedAt: "/var/lib/kubelet"}
		if content != "" {
			annotations[mountedContent] = string(content)
		}
		return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: "u", ResourceVersion: "7", Generation: 2, Annotations: annotations,
		}}
	}

	var reports []metav1.PartialObjectMetadata
	version, err := c.metadataOf(t.Context(), podStatusResource(), area{}, "", func(meta *metav1.PartialObjectMetadata) {
		reports = append(reports, *meta)
	})
	require.NoError(t, err)
	assert.Equal(t, "9", version)
	assert.Equal(t, []metav1.PartialObjectMetadata{
		report("a", key.SecretProviderClass([]fingerprint.Object{{ID: "hush", Version: "hush1"}, {ID: "other", Version: "hush1"}})),
		report("b", ""),
		report("d", ""),
	}, reports)

	w, err := c.watch(t.Context(), podStatusResource(), "shop", metav1.ListOptions{ResourceVersion: "9"})
	require.NoError(t, err)
	defer w.Stop()
	event := <-w.ResultChan()
	assert.Equal(t, watch.Modified, event.Type)
	want := report("c", key.SecretProviderClass([]fingerprint.Object{{ID: "hush", Version: "hush2"}}))
	assert.Equal(t, &want, event.Object)
	const path = "/apis/secrets-store.csi.x-k8s.io/v1/"
	assert.Equal(t, []string{path + "secretproviderclasspodstatuses", path + "namespaces/shop/secretproviderclasspodstatuses"}, paths(server))
}

func TestABookmarkIsHandedOn(t *testing.T) {
	server := play(t, func(request) (int, http.Header, any) {
		object := driverStatus("", false)
		object["metadata"] = map[string]any{"resourceVersion": "12", "annotations": map[string]any{metav1.InitialEventsAnnotationKey: "true"}}
		return http.StatusOK, nil, map[string]any{"type": "BOOKMARK", "object": object}
	})
	c, _ := statuses(t, server)
	w, err := c.watch(t.Context(), podStatusResource(), "", metav1.ListOptions{})
	require.NoError(t, err)
	defer w.Stop()
	event := <-w.ResultChan()
	assert.Equal(t, watch.Bookmark, event.Type)
	meta, err := metadataOf(event.Object)
	require.NoError(t, err)
	assert.Equal(t, "12", meta.ResourceVersion)
	assert.Equal(t, "true", meta.Annotations[metav1.InitialEventsAnnotationKey])
}

// Who asks decides what to do about it.
func TestReportsThatCannotBeRead(t *testing.T) {
	resource := podStatusResource().GroupResource()
	tests := map[string]struct {
		answer *apierrors.StatusError
		is     func(error) bool
	}{
		"the driver is not installed": {apierrors.NewNotFound(resource, ""), apierrors.IsNotFound},
		"the engine may not":          {apierrors.NewForbidden(resource, "", errors.New("RBAC")), apierrors.IsForbidden},
		"the server has a problem":    {apierrors.NewInternalError(errors.New("etcd")), apierrors.IsInternalError},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := statuses(t, play(t, func(request) (int, http.Header, any) { return failure(tc.answer) }))
			_, err := c.metadataOf(t.Context(), podStatusResource(), area{namespace: "shop"}, "", nil)
			assert.True(t, tc.is(err), "%v", err)
			_, err = c.watch(t.Context(), podStatusResource(), "", metav1.ListOptions{})
			assert.True(t, tc.is(err), "%v", err)
		})
	}
}
