package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPauseTextsAreBounded(t *testing.T) {
	p := newPauses(keys)
	a := newApp(web)
	long := strings.Repeat("p", 100_000)
	a.annotations = map[string]string{keys.PausePeriod: long, keys.PausedAt: long}
	p.seen(web, a.meta())
	marks, concerned := p.of(web)
	require.True(t, concerned)
	assert.Len(t, marks.period, mostPauseText)
	assert.Len(t, marks.at, mostPauseText)
	assert.NotEqual(t, pauseText(long), pauseText(long+"p"))
	assert.Equal(t, "5m", pauseText("5m"))
}

func TestFaultsThatAreKeptAreBounded(t *testing.T) {
	in := newTestIntake(t)
	a := newApp(web)
	var entries []string
	for i := range 100 {
		entries = append(entries, fmt.Sprintf("(%d", i))
	}
	a.annotations[keys.ConfigMapNamed] = strings.Join(entries, ",")
	settled(t, in, a)
	_, faults := in.faultsOf(web)
	assert.Len(t, faults, mostFaults)
	drain(in.queues.faults)
	a.generation++
	settled(t, in, a)
	assert.Empty(t, drain(in.queues.faults), "they are the same")
}
