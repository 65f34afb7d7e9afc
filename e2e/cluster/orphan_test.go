package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// childEnv makes this test binary start a cluster and wait to be killed.
const childEnv = "RELOADER_CLUSTER_TEST_CHILD"

// childReport is what the child prints when its cluster is ready.
type childReport struct {
	PIDs []int
	Dir  string
}

func runChild() int {
	c, err := Start(context.Background(), Options{Log: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(childReport{PIDs: c.group.PIDs(), Dir: c.Dir()}); err != nil {
		return 1
	}
	if err := c.Wait(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

func TestKilledParentLeavesNothingBehind(t *testing.T) {
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=1")
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())

	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	require.NoError(t, err)
	var report childReport
	require.NoError(t, json.Unmarshal(line, &report))
	require.Len(t, report.PIDs, 6, "the guard and five components")
	for _, pid := range report.PIDs {
		require.True(t, runs(pid), "process %d runs before the kill", pid)
	}

	require.NoError(t, child.Process.Kill())
	var killed *exec.ExitError
	require.ErrorAs(t, child.Wait(), &killed)

	for _, pid := range report.PIDs {
		assert.Eventually(t, func() bool { return !runs(pid) }, patience, often,
			"process %d ends after the kill", pid)
	}
	assert.Eventually(t, func() bool {
		_, err := os.Stat(report.Dir)
		return errors.Is(err, os.ErrNotExist)
	}, patience, often, "the state folder is removed")
}

// runs says whether a process exists and is not a zombie: nobody may be there
// to wait for an orphan.
func runs(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	return !strings.Contains(string(stat), ") Z ")
}
