// Command reloader restarts workloads when the ConfigMaps and Secrets that
// they use change. Without a subcommand it is the engine; the webhook is the
// other half.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "dev" //nolint:gochecknoglobals // the linker sets nothing else

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newRootCommand().ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errRejected):
		// The findings are printed already.
	default:
		fmt.Fprintln(os.Stderr, "reloader: "+err.Error())
	}
	return 1
}
