package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Reloader 1 takes some of these as text, of which only true switches them on.
// However it is started, so is this: a start that comes to the kubeconfig has
// taken all that stands before.
func TestSwitchesOfTheEngine(t *testing.T) {
	for _, flag := range []string{"--reload-on-create", "--reload-on-delete", "--sync-after-restart", "--enable-csi-integration"} {
		for _, value := range []string{"", "=true", "=True", "=1", "=false"} {
			_, err := execute(t, flag+value, "--kubeconfig=/nowhere/config")
			require.ErrorContains(t, err, "/nowhere/config", flag+value)
		}
		_, err := execute(t, flag+"=maybe", "--kubeconfig=/nowhere/config")
		require.ErrorContains(t, err, flag)
	}
}
