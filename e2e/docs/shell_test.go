package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// How long a command, and what it is about to show, may take on a busy machine.
const (
	patience = 5 * time.Minute
	soon     = time.Minute
	often    = 200 * time.Millisecond
)

// shell runs commands as somebody who sits in a checkout would.
type shell struct {
	dir string
	env []string
}

// newShell returns one in a folder of the test's own that has what a checkout has
// and the pages name.
func newShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{dir: t.TempDir()}
	require.NoError(t, os.Symlink(filepath.Join(root, "charts"), filepath.Join(s.dir, "charts")))
	bin := t.TempDir()
	writeProgram(t, bin, "helm", fmt.Sprintf(`case "$1" in
install|upgrade|template) set -- "$@" --set 'listenHost=$(POD_IP)' ;;
esac
exec %q "$@"
`, shared.Program("helm")))
	writeProgram(t, bin, "kubectl", fmt.Sprintf(`if [ "$1 $2" = "apply -k" ]; then
	%[1]q kustomize "$3" | sed 's/-address=:/-address=$(POD_IP):/' | exec %[1]q apply -f -
	exit
fi
exec %[1]q "$@"
`, shared.Program("kubectl")))
	s.env = append(os.Environ(),
		"PATH="+bin+":"+os.Getenv("PATH"),
		"HOME="+s.dir,
		"KUBECONFIG="+shared.Kubeconfig(),
		"HELM_NAMESPACE=", "HELM_KUBECONTEXT=", "HELM_DRIVER=",
	)
	return s
}

// bring puts files of testdata into the shell's folder.
func (s *shell) bring(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		require.NoError(t, os.Symlink(filepath.Join(root, "e2e/docs/testdata", name), filepath.Join(s.dir, name)))
	}
}

func writeProgram(t *testing.T, dir, name, script string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/bash\nset -euo pipefail\n"+script), 0o700))
}

// run returns what the commands print, standard output and error together. The
// first that fails ends them.
func (s *shell) run(t *testing.T, commands string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must is run for commands that have to succeed.
func (s *shell) must(t *testing.T, commands string) string {
	t.Helper()
	out, err := s.run(t, commands)
	require.NoError(t, err, "%s\n%s", commands, out)
	return out
}

// walk runs the steps of a page in their order.
func (s *shell) walk(t *testing.T, name string) {
	t.Helper()
	all := page(t, root, name)
	require.NotEmpty(t, all)
	for _, step := range all {
		t.Logf("%s:%d", name, step.line)
		out := s.must(t, step.commands)
		if lacks(out, step.output) == "" {
			continue
		}
		// What is only looked at may take a moment to come about.
		require.True(t, strings.HasPrefix(step.commands, "kubectl get ") && !strings.Contains(step.commands, "\n"),
			"%s:%d lacks %q in\n%s", name, step.line, lacks(out, step.output), out)
		require.Eventually(t, func() bool {
			out, err := s.run(t, step.commands)
			return err == nil && lacks(out, step.output) == ""
		}, soon, often, "%s:%d lacks %q", name, step.line, lacks(out, step.output))
	}
}

// lacks returns the first of the lines that is not in the output.
func lacks(output string, lines []string) string {
	for _, line := range lines {
		if !strings.Contains(output, line) {
			return line
		}
	}
	return ""
}
