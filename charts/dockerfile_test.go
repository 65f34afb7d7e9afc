package charts_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// instruction is one instruction of a Dockerfile, continuation lines joined.
type instruction struct{ name, args string }

func dockerfile(t *testing.T) []instruction {
	t.Helper()
	content, err := os.ReadFile("../Dockerfile")
	require.NoError(t, err)
	var found []instruction
	var pending string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if rest, more := strings.CutSuffix(line, "\\"); more {
			pending += rest
			continue
		}
		name, args, ok := strings.Cut(pending+line, " ")
		require.True(t, ok, line)
		found = append(found, instruction{name, strings.Join(strings.Fields(args), " ")})
		pending = ""
	}
	require.Empty(t, pending, "the last line continues")
	return found
}

// Images are not built where the tests run; what must hold of one can be read
// off the Dockerfile.
func TestDockerfile(t *testing.T) {
	var stages [][]instruction
	for _, i := range dockerfile(t) {
		if i.name == "FROM" {
			stages = append(stages, nil)
		}
		if len(stages) > 0 {
			stages[len(stages)-1] = append(stages[len(stages)-1], i)
		}
	}
	require.Len(t, stages, 2)
	build, final := stages[0], stages[1]

	goMod, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	assert.Contains(t, build[0].args, "golang:1.26")
	assert.Contains(t, string(goMod), "\ngo 1.26")

	compile := build[len(build)-1]
	for _, want := range []string{
		"--mount=type=cache,target=/root/.cache/go-build", "CGO_ENABLED=0", "GOOS=$TARGETOS", "GOARCH=$TARGETARCH",
		"-trimpath", "-X main.version=$VERSION", "./cmd/reloader",
	} {
		assert.Contains(t, compile.args, want)
	}

	assert.Equal(t, "scratch", final[0].args)
	last := map[string]string{}
	for _, i := range final {
		last[i.name] = i.args
		assert.NotContains(t, []string{"RUN", "ADD"}, i.name, "the final image has nothing to run it with")
		if i.name == "COPY" {
			assert.True(t, strings.HasPrefix(i.args, "--from=build "), i.args)
		}
	}
	assert.Equal(t, "65532:65532", last["USER"], "runAsNonRoot wants a number")
	assert.Equal(t, `["/reloader"]`, last["ENTRYPOINT"])
	assert.Contains(t, last["LABEL"], `org.opencontainers.image.licenses="Apache-2.0"`)
	assert.Contains(t, final, instruction{"COPY", "--from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt"})
}
