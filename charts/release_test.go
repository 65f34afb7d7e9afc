package charts_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// workflow is what the tests read of a workflow of GitHub.
type workflow struct {
	Permissions map[string]string
	Jobs        map[string]struct {
		Needs       string
		Permissions map[string]string
		Steps       []struct {
			Uses, Run string
			With      map[string]any
		}
	}
}

// Nothing runs the workflow here; what must hold of a release can be read off it.
func TestReleaseWorkflow(t *testing.T) {
	text, err := os.ReadFile("../.github/workflows/release.yml")
	require.NoError(t, err)
	var release workflow
	require.NoError(t, yaml.Unmarshal(text, &release))
	assert.Equal(t, map[string]string{"contents": "read"}, release.Permissions, "each job asks for what it needs")
	assert.Equal(t, "test", release.Jobs["image"].Needs)
	assert.Equal(t, "image", release.Jobs["chart"].Needs)

	var build map[string]any
	attested := false
	pinned := regexp.MustCompile(`^[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})$`)
	for _, job := range release.Jobs {
		for _, step := range job.Steps {
			if step.Uses != "" {
				assert.Regexp(t, pinned, step.Uses)
			}
			if strings.HasPrefix(step.Uses, "docker/build-push-action@") {
				build = step.With
			}
			attested = attested || strings.HasPrefix(step.Uses, "actions/attest-build-provenance@")
			assert.NotContains(t, step.Run, "${{", "expressions within a script would be run as part of it")
		}
	}
	assert.Equal(t, "linux/amd64,linux/arm64", build["platforms"])
	assert.Equal(t, true, build["sbom"])
	assert.Equal(t, "mode=max", build["provenance"])
	assert.True(t, attested)

	// The line that the release replaces by the image that it has pushed.
	values, err := os.ReadFile("reloader/values.yaml")
	require.NoError(t, err)
	assert.Contains(t, string(values), "\n  repository: k8s-reloader/reloader\n")
}
