package podrunner

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status is what is true of the pod now. Conditions that hold as they did in
// before keep their time of transition.
func (p *pod) status(before []corev1.PodCondition) corev1.PodStatus {
	statuses := make([]corev1.ContainerStatus, 0, len(p.containers))
	ready, done, failed, everRan := true, true, false, false
	for _, c := range p.containers {
		status, isDone := c.status()
		statuses = append(statuses, status)
		ready = ready && status.Ready
		done = done && isDone
		failed = failed || (status.State.Terminated != nil && status.State.Terminated.ExitCode != 0)
		everRan = everRan || status.State.Waiting == nil || status.RestartCount > 0
	}
	phase := corev1.PodPending
	switch {
	case done && failed:
		phase = corev1.PodFailed
	case done:
		phase = corev1.PodSucceeded
	case everRan:
		phase = corev1.PodRunning
	}
	reason := ""
	if !ready {
		reason = "ContainersNotReady"
	}
	ip := p.address()
	return corev1.PodStatus{
		Phase:             phase,
		PodIP:             ip,
		PodIPs:            []corev1.PodIP{{IP: ip}},
		StartTime:         &p.began,
		ContainerStatuses: statuses,
		Conditions: p.conditions(before,
			condition(corev1.PodReadyToStartContainers, true, ""),
			condition(corev1.PodInitialized, true, ""),
			condition(corev1.ContainersReady, ready, reason),
			condition(corev1.PodReady, ready, reason),
		),
	}
}

func condition(kind corev1.PodConditionType, holds bool, reason string) corev1.PodCondition {
	status := corev1.ConditionFalse
	if holds {
		status = corev1.ConditionTrue
	}
	return corev1.PodCondition{Type: kind, Status: status, Reason: reason, LastTransitionTime: metav1.Now()}
}

// conditions are now's, and the pod's others, such as PodScheduled: a merge
// patch replaces the whole list.
func (p *pod) conditions(before []corev1.PodCondition, now ...corev1.PodCondition) []corev1.PodCondition {
	var all []corev1.PodCondition
	for _, other := range p.object.Status.Conditions {
		if !hasType(now, other.Type) {
			all = append(all, other)
		}
	}
	for _, c := range now {
		if i := slices.IndexFunc(before, func(b corev1.PodCondition) bool { return b.Type == c.Type }); i >= 0 && before[i].Status == c.Status {
			c.LastTransitionTime = before[i].LastTransitionTime
		}
		all = append(all, c)
	}
	return all
}

func hasType(conditions []corev1.PodCondition, kind corev1.PodConditionType) bool {
	return slices.ContainsFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
}

func (c *container) status() (status corev1.ContainerStatus, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.state
	if state == (corev1.ContainerState{}) {
		state.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	}
	started := c.started
	return corev1.ContainerStatus{
		Name:                 c.spec.Name,
		Image:                c.spec.Image,
		State:                state,
		LastTerminationState: c.last,
		Started:              &started,
		Ready:                c.ready,
		RestartCount:         c.restarts,
	}, c.done
}

// ready says whether Services lead to the pod.
func (p *pod) ready() bool {
	p.mu.Lock()
	out := p.ended || p.ip == ""
	p.mu.Unlock()
	if out {
		return false
	}
	for _, c := range p.containers {
		if status, _ := c.status(); !status.Ready {
			return false
		}
	}
	return true
}
