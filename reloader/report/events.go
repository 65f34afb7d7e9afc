package report

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/printable"
)

// Events writes Kubernetes events, each under the component name of the kind
// of source that was the cause, if there was one. Close it after use.
type Events struct {
	broadcaster record.EventBroadcaster
	// Of each kind of source, and the one of everything else.
	configMaps, secrets, classes, others record.EventRecorder
}

// maxMessage is the API's limit on the message of an event, in bytes.
const maxMessage = 1024

// NewEvents returns Events that go to the API server of config until ctx is
// done or Close is called.
func NewEvents(ctx context.Context, config *rest.Config) (*Events, error) {
	client, err := typedcorev1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("set up the client for events: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	as := func(component string) record.EventRecorder {
		// The recorder is given references, for which it needs no types.
		return broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: component})
	}
	e := &Events{
		broadcaster: broadcaster,
		configMaps:  as("reloader-configmaps"),
		secrets:     as("reloader-secrets"),
		classes:     as("reloader-secretproviderclasspodstatuses"),
		others:      as("reloader"),
	}
	e.broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.Events("")})
	return e, nil
}

// Close stops writing; events that are still queued are lost.
func (e *Events) Close() { e.broadcaster.Shutdown() }

func (e *Events) write(r Reload, eventType, reason, message string) {
	var cause reloader.SourceKind
	if len(r.Sources) > 0 {
		cause = r.Sources[0].Kind
	}
	e.recorderOf(cause).Event(&corev1.ObjectReference{
		APIVersion: r.APIVersion,
		Kind:       string(r.Workload.Kind),
		Namespace:  r.Workload.Namespace,
		Name:       r.Workload.Name,
		UID:        r.UID,
	}, eventType, reason, message)
}

// recorderOf returns the recorder of events that a kind of source has caused;
// one recorder serves events without such a cause.
func (e *Events) recorderOf(cause reloader.SourceKind) record.EventRecorder {
	switch cause {
	case reloader.ConfigMap:
		return e.configMaps
	case reloader.Secret:
		return e.secrets
	case reloader.SecretProviderClass:
		return e.classes
	}
	return e.others
}

func reloadedMessage(r Reload) string {
	return clip("Reloaded, because the content changed of " + sources(r))
}

func postedMessage(r Reload) string {
	return clip("Called the webhook instead of reloading, because the content changed of " + sources(r))
}

func failedMessage(r Reload, outcome reloader.Outcome, err error) string {
	next := "trying again"
	if outcome == reloader.OutcomeStalled {
		next = "trying again slowly until someone lifts the refusal"
	}
	return clip(fmt.Sprintf("Not reloaded yet (%s), although the content changed of %s: %v", next, sources(r), err))
}

func heldMessage(r Reload, wait time.Duration) string {
	return clip(fmt.Sprintf("Reloaded too often; the next reload comes in %s. Find out who keeps changing %s", wait, sources(r)))
}

func takenBackMessage(r Reload, by string) string {
	return clip(fmt.Sprintf("Reloads are suspended for one hour: the field manager %q keeps reverting them. "+
		"Configure it to ignore the fields of the pod template that the field manager Reloader owns. Changed: %s", by, sources(r)))
}

// maxListed is how many bytes of a message the names of sources take, so that
// there is room for what follows them.
const maxListed = 640

// sources names the changed sources, as many as fit into a message.
func sources(r Reload) string {
	var names strings.Builder
	for i, s := range r.Sources {
		name := s.String()
		if i > 0 && names.Len()+len(name) > maxListed {
			return fmt.Sprintf("%s and %d more", names.String(), len(r.Sources)+r.More-i)
		}
		if i > 0 {
			names.WriteString(", ")
		}
		names.WriteString(name)
	}
	return names.String()
}

// clip returns s as one printable line that the API takes.
func clip(s string) string { return printable.Clip(s, maxMessage) }
