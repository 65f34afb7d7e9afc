package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
)

// What follows looks back at the time in which no engine ran. Nobody has seen
// it, so there are no versions to compare, only times of which some are known:
// when objects were created, when each field manager last set something, and
// since when a workload has had its pod template.

// creationTolerance is how far apart the time of a creation and that of its own
// entry in managedFields may be: both are seconds, taken one after the other.
const creationTolerance = time.Second

// dataTimes are what a source's metadata tell of the changes of its data. A
// write that only removes something leaves no trace in them.
type dataTimes struct {
	created time.Time
	// latest is the last time at which they may have changed, sure the last at
	// which they have: a manager who has set other fields, too, may have set
	// only those in the end. Zero is unknown.
	latest, sure time.Time
}

func dataTimesOf(o metav1.Object) dataTimes {
	t := dataTimes{created: o.GetCreationTimestamp().Time, latest: dataWritten(o).time}
	for _, f := range o.GetManagedFields() {
		if f.FieldsV1 != nil && f.Time != nil && f.Time.After(t.sure) && dataAlone(f.FieldsV1.GetRawString()) {
			t.sure = f.Time.Time
		}
	}
	return t
}

// dataAlone reports whether the fields, in the form of managedFields, are data
// and nothing else.
func dataAlone(fields string) bool {
	var set map[string]json.RawMessage
	if json.Unmarshal([]byte(fields), &set) != nil {
		return false
	}
	for name := range set {
		if name != "f:data" && name != "f:binaryData" {
			return false
		}
	}
	return len(set) > 0
}

// setsData reports whether data are among the fields.
func setsData(fields string) bool {
	return strings.Contains(fields, `"f:data"`) || strings.Contains(fields, `"f:binaryData"`)
}

// startedIn is when a workload got its pod template: not before from, and, if
// that is known, not after until.
type startedIn struct{ from, until time.Time }

// templateOf tells when w got its pod template. What it returns with an error is
// true as well, and says less.
func (e *Engine) templateOf(ctx context.Context, w reloader.Workload) (startedIn, error) {
	uid, created, untouched := e.intake.created(w)
	if untouched {
		return startedIn{created, created}, nil
	}
	since, ok, err := e.births.of(ctx, w, uid)
	switch {
	case !ok:
		return startedIn{from: created}, err
	case since.again:
		return startedIn{from: since.at}, nil
	}
	return startedIn{since.at, since.at}, nil
}

// errLookBack is that it cannot be known now who has missed a change.
var errLookBack = errors.New("cannot look back")

// whoLacks returns those of the overdue workloads that may have started with
// older content. The source has changed since the archive was written, that is
// certain; who surely got its pod template after that has it.
func (e *Engine) whoLacks(ctx context.Context, s reloader.Source, c content, overdue []reloader.Workload) (lack []reloader.Workload) {
	// If the data were last set before the archive was written, the change was
	// one that leaves no time.
	if c.times.latest.Before(e.archived.Add(-clockTolerance)) {
		return overdue
	}
	for _, w := range overdue {
		template, err := e.templateOf(ctx, w)
		if err != nil {
			e.log.Info("cannot tell whether the pods have the change; reloading", "workload", w.String(), "source", s.String(), "reason", err.Error())
		}
		if template.from.Sub(c.times.latest) > clockTolerance && e.ledger.has(s, w, c.version) {
			e.log.Info("changed while no engine ran, and the pods were started after that", "workload", w.String(), "source", s.String())
			continue
		}
		lack = append(lack, w)
	}
	return lack
}

// whoMissed returns the workloads that surely started with older content of a
// source that they brought in while no engine ran. What it was before is not
// known, and so not whether it has changed at all; what can only be guessed is
// reported. The error wraps errLookBack, and then nothing is decided yet: a
// request that was refused once must not make a guess of what can be known. One that
// fails again and again does.
func (e *Engine) whoMissed(ctx context.Context, s reloader.Source, c content, dependents []reloader.Workload) (missed []reloader.Workload, err error) {
	t := c.times
	if t.latest.IsZero() || t.latest.Sub(t.created) <= creationTolerance {
		return nil, nil
	}
	templates := make([]startedIn, len(dependents))
	for i, w := range dependents {
		if templates[i], err = e.templateOf(ctx, w); err != nil && !e.queues.sources.backoff.hopeless(s) {
			return nil, fmt.Errorf("%w: %w", errLookBack, err)
		}
	}
	for i, w := range dependents {
		template := templates[i]
		// Pods wait for a source that is not there yet.
		started := template.until
		if t.created.After(started) {
			started = t.created
		}
		switch {
		case !t.latest.After(template.from):
		case !template.until.IsZero() && t.sure.Sub(started) > clockTolerance:
			if e.ledger.miss(s, w) {
				missed = append(missed, w)
			}
		default:
			e.reporter.Doubtful(w, s)
			e.log.Info("changed while no engine ran, maybe after the pods had started; not reloaded",
				"workload", w.String(), "source", s.String())
		}
	}
	return missed, nil
}
