package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/e2e/cluster/binaries"
)

func TestSchemasRefuseWhatATypeDoesNotHave(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"fields":             {`{"properties":{"a":{"type":"string"}}}`, `{"properties":{"a":{"type":"string"}},"additionalProperties":false}`},
		"fields further in":  {`{"items":{"properties":{}}}`, `{"items":{"properties":{},"additionalProperties":false}}`},
		"not those of a map": {`{"additionalProperties":{"type":"string"}}`, `{"additionalProperties":{"type":"string"}}`},
		"not those of an open type": {
			`{"properties":{},"x-kubernetes-preserve-unknown-fields":true}`, `{"properties":{},"x-kubernetes-preserve-unknown-fields":true}`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var in any
			require.NoError(t, json.Unmarshal([]byte(tc.in), &in))
			got, err := json.Marshal(closed(in))
			require.NoError(t, err)
			assert.JSONEq(t, tc.want, string(got))
		})
	}
}

func TestEachKindThatTheChartHasGetsASchema(t *testing.T) {
	root, err := binaries.Root()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, writeSchemas(t.Context(), root, dir))
	for _, file := range []string{
		"deployment-v1", "service-v1", "serviceaccount-v1", "secret-v1", "configmap-v1", "lease-v1", "role-v1", "clusterrole-v1",
		"rolebinding-v1", "clusterrolebinding-v1", "networkpolicy-v1", "poddisruptionbudget-v1", "namespace-v1",
		"mutatingwebhookconfiguration-v1", "validatingwebhookconfiguration-v1", "servicemonitor-v1", "podmonitor-v1", "verticalpodautoscaler-v1",
	} {
		assert.FileExists(t, filepath.Join(dir, file+".json"))
	}
	text, err := os.ReadFile(filepath.Join(dir, "definitions.json"))
	require.NoError(t, err)
	var document struct {
		Definitions map[string]struct{ AdditionalProperties any }
	}
	require.NoError(t, json.Unmarshal(text, &document))
	assert.Equal(t, false, document.Definitions["io.k8s.api.core.v1.Container"].AdditionalProperties)
}
