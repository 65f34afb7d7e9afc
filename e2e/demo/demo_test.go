package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheDemoDoesWhatItSays(t *testing.T) {
	var out bytes.Buffer
	cmd := command()
	cmd.SetArgs(nil)
	cmd.SetOut(&out)

	require.NoError(t, cmd.ExecuteContext(t.Context()), out.String())

	for _, text := range []string{"reloader.stakater.com/auto", "Warning: ", "denied the request", "Reloaded"} {
		assert.Contains(t, out.String(), text)
	}
}
