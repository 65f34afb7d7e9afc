package alert

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s-reloader/reloader/receiver"
)

// The environment variables.
const (
	envOn    = "ALERT_ON_RELOAD"
	envSink  = "ALERT_SINK"
	envURL   = "ALERT_WEBHOOK_URL"
	envProxy = "ALERT_WEBHOOK_PROXY"
	envInfo  = "ALERT_ADDITIONAL_INFO"
)

// Settings are what the environment asks for.
type Settings struct {
	Sink Sink
	// Info stands before every text; empty adds nothing.
	Info string
	// Receiver of the alerts; its owner closes it.
	Receiver *receiver.Receiver
}

// FromEnvironment reads the settings. They are nil unless ALERT_ON_RELOAD is
// true. If it is, and no alert could ever be sent, that is an error, which names
// the variable and never a URL.
func FromEnvironment(getenv func(string) string) (*Settings, error) {
	if on, err := strconv.ParseBool(strings.TrimSpace(getenv(envOn))); err != nil || !on {
		return nil, nil //nolint:nilerr,nilnil // anything else is off, as it always was
	}
	sink, err := parseSink(getenv(envSink))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envSink, err)
	}
	// Secrets often end with a line break.
	url, proxy := strings.TrimSpace(getenv(envURL)), strings.TrimSpace(getenv(envProxy))
	if url == "" {
		return nil, errors.New(envOn + " is true, but " + envURL + " is not set: set it, or leave out " + envOn)
	}
	to, err := receiver.New(receiver.Options{URL: url, Proxy: proxy})
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", envURL, envProxy, err)
	}
	return &Settings{Sink: sink, Info: strings.TrimSpace(getenv(envInfo)), Receiver: to}, nil
}
