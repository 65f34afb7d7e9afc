package policy_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/policy"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	broken := reloader.Problem{Severity: reloader.Broken, Message: "b"}
	doubtful := reloader.Problem{Severity: reloader.Doubtful, Message: "d"}
	notice := reloader.Problem{Severity: reloader.Notice, Message: "n"}
	all := []reloader.Problem{broken, doubtful, notice}
	tests := map[string]struct {
		mode policy.Mode
		want policy.Verdict
	}{
		"off says nothing":                       {policy.ModeOff, policy.Verdict{}},
		"warn denies nothing":                    {policy.ModeWarn, policy.Verdict{Warnings: []string{"b", "d", "n"}}},
		"default denies what is broken":          {policy.ModeDefault, policy.Verdict{Denied: all[:1], Warnings: []string{"d", "n"}}},
		"strict denies what is doubtful as well": {policy.ModeStrict, policy.Verdict{Denied: all[:2], Warnings: []string{"n"}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, tc.mode.Verdict(all))
			parsed, err := policy.ParseMode(string(tc.mode))
			require.NoError(t, err)
			assert.Equal(t, tc.mode, parsed)
		})
	}
}

func TestVerdictIsBounded(t *testing.T) {
	t.Parallel()
	var problems []reloader.Problem
	for i := range 10 {
		problems = append(problems, reloader.Problem{Severity: reloader.Broken, Message: fmt.Sprint(i)})
	}
	assert.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, policy.ModeWarn.Verdict(problems).Warnings)
	problems = append(problems, problems[0])
	assert.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "and 2 more"}, policy.ModeWarn.Verdict(problems).Warnings)

	assert.Empty(t, policy.ModeWarn.Verdict(problems).Message())
	assert.Equal(t, "0", policy.ModeDefault.Verdict(problems[:1]).Message())
	assert.Equal(t, "2 problems with Reloader's annotations:\n- 0\n- 1", policy.ModeDefault.Verdict(problems[:2]).Message())
	assert.Equal(t, "11 problems with Reloader's annotations:\n- 0\n- 1\n- 2\n- 3\n- 4\n- 5\n- 6\n- 7\n- 8\n- and 2 more",
		policy.ModeDefault.Verdict(problems).Message())
}

func TestParseModeRefusesOthers(t *testing.T) {
	t.Parallel()
	_, err := policy.ParseMode("Strict\n")
	assert.EqualError(t, err, `"Strict\n" is no admission mode: write one of off, warn, default, strict`)
}
