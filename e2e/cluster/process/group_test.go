package process

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func newGroup(t *testing.T) *Group {
	t.Helper()
	group, err := NewGroup(t.Context(), "")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, group.Close()) })
	return group
}

func shell(t *testing.T, group *Group, script string) *Process {
	t.Helper()
	p, err := group.Start(t.Context(), Spec{
		Name: "shell", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "log"),
	})
	require.NoError(t, err)
	return p
}

func TestCloseKillsTheWholeGroup(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	group := newGroup(t)
	stubborn := shell(t, group, "trap '' TERM; while :; do sleep 60; done")

	require.NoError(t, group.Close())

	assert.True(t, stubborn.Ended())
	assert.Equal(t, 128+int(syscall.SIGKILL), stubborn.ExitCode())
	_, err := group.Start(t.Context(), Spec{Name: "late", Path: "/bin/true", Log: os.DevNull})
	assert.ErrorContains(t, err, "start late: the group is closed")
}

func TestStop(t *testing.T) {
	tests := map[string]struct {
		script string
		grace  time.Duration
		want   int
	}{
		"a process that obeys ends by itself":       {"trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done", time.Minute, 7},
		"a process that does not is killed":         {"trap '' TERM; echo up; while :; do sleep 0.01; done", 50 * time.Millisecond, 137},
		"without grace it is killed at once":        {"trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done", 0, 137},
		"a process that has ended keeps its result": {"echo up; exit 3", time.Minute, 3},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := shell(t, newGroup(t), tc.script)
			require.Eventually(t, func() bool { return Tail(p.Log(), 100) == "up\n" }, 10*time.Second, 5*time.Millisecond)
			if tc.want == 3 {
				<-p.Done()
			}
			require.NoError(t, p.Stop(tc.grace))
			assert.Equal(t, tc.want, p.ExitCode())
		})
	}
}

func TestFailureTellsTheEndOfTheLog(t *testing.T) {
	p := shell(t, newGroup(t), "echo it broke >&2; exit 3")

	err := p.Failure()

	require.ErrorContains(t, err, "shell ended (exit status 3)")
	require.ErrorContains(t, err, p.Log())
	require.ErrorContains(t, err, "it broke")
}

func TestUsageOfThisProcess(t *testing.T) {
	usage, err := UsageOf(os.Getpid())
	if os.IsNotExist(err) {
		t.Skip("there is no /proc here")
	}
	require.NoError(t, err)
	assert.Positive(t, usage.Resident)
	assert.GreaterOrEqual(t, usage.PeakResident, usage.Resident)
}
