package engine

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// startedInVersion1 reports whether an engine of version 1, which led before
// this one, has started the Job that the change asks of the CronJob m. Whatever
// such an engine has not concluded is due again, and its Job has another name
// than ours would have.
//
// Nothing is read for a change that came after that engine, nor once an engine
// of this version has written the checkpoint. A mark of version 1 can be copied
// from another namespace: if the Job could be made at any time, it would tell
// whether a Secret there holds what one of the tenant's does.
func (e *Engine) startedInVersion1(ctx context.Context, m *kind.Manifest, c kind.Change) (bool, error) {
	led := e.upgraded.Add(clockTolerance)
	later := func(mark kind.Mark) bool { return mark.Written.After(led) }
	if e.upgraded.IsZero() || slices.ContainsFunc(c.Marks, later) {
		return false, nil
	}
	jobs := kind.Jobs()
	w := reloader.Workload{Kind: jobs.Name, Namespace: m.Meta.Namespace, Name: kind.NameInVersion1(m, c)}
	found, err := e.client.workload(ctx, jobs, w)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return kind.StartedInVersion1(m, c, found, led), nil
}
