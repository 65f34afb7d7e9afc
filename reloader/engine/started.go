package engine

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
	"k8s-reloader/reloader/kind"
)

// A rotation may overtake a restart that a user has begun: the new pods have
// started with the new content before a pod has changed to it. Their workload has
// nothing to wait for, while others of the class do.

// startedAlready notes that workloads have content of a class without a reload.
func (e *Engine) startedAlready(class reloader.Source, content fingerprint.Fingerprint, all []reloader.Workload) {
	for _, w := range all {
		e.ledger.paid(w, []debt{{class, content}})
		e.log.V(1).Info("its pods have started with this content", "workload", w.String(), "sources", class.String())
	}
}

// startedWith returns the workloads whose pods of the newest template have all
// started with the present content of a class. Pods are listed only if one has.
func (e *Engine) startedWith(ctx context.Context, class reloader.Source) (map[reloader.Workload]bool, error) {
	reports := e.rotations.started(class)
	if reports == nil {
		return nil, nil
	}
	pods := map[reloader.Workload]podsByTemplate{}
	_, err := e.client.metadataOf(ctx, corev1.SchemeGroupVersion.WithResource("pods"), area{namespace: class.Namespace}, "", func(pod *metav1.PartialObjectMetadata) {
		started, reported := reports[pod.Name]
		w, template := kind.OwnerOf(pod)
		if !reported || pod.DeletionTimestamp != nil || template == "" {
			return
		}
		if pods[w] == nil {
			pods[w] = podsByTemplate{}
		}
		pods[w].add(template, pod.CreationTimestamp, started)
	})
	switch {
	case apierrors.IsForbidden(err):
		e.log.Error(err, "pods cannot be listed: a workload that was restarted during a rotation is reloaded once more; grant list on pods, as the chart does", "source", class.String())
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find out which pods have started with %s: %w", class, err)
	}
	all := map[reloader.Workload]bool{}
	for w, of := range pods {
		all[w] = of.newestStarted()
	}
	return all, nil
}

// podsByTemplate are the pods of one workload, which may come in any order.
type podsByTemplate map[string]podsOfTemplate

// podsOfTemplate are those of one template.
type podsOfTemplate struct {
	newest metav1.Time // when the newest of them was created
	// started is true if all of them have started with the present content.
	started bool
}

func (p podsByTemplate) add(template string, created metav1.Time, started bool) {
	of, known := p[template]
	if of.newest.Before(&created) {
		of.newest = created
	}
	of.started = started && (of.started || !known)
	p[template] = of
}

// newestStarted reports whether all pods of the newest template have started with
// the present content: the one that has the newest pod, since a workload may go
// back to one of before. Of two with pods of the same second neither is known to
// be newer, so that both have to have started.
func (p podsByTemplate) newestStarted() bool {
	var newest metav1.Time
	for _, of := range p {
		if newest.Before(&of.newest) {
			newest = of.newest
		}
	}
	for _, of := range p {
		if of.newest.Equal(&newest) && !of.started {
			return false
		}
	}
	return true
}
