package kind

// Progress is how far the controller of a workload is with replacing its pods,
// by the status alone.
type Progress string

// The values of Progress.
const (
	// Idle: nothing replaces pods, or there is no pod to replace. That is so for
	// CronJobs and Jobs, for what is paused, scaled to zero or being deleted, for
	// updateStrategy OnDelete, and where a partition is above all replicas.
	Idle Progress = "Idle"
	// Rolling: pods are being replaced, or the controller has not seen the
	// newest generation yet.
	Rolling Progress = "Rolling"
	// Stalled: nothing happens until a user acts. A progress deadline has
	// passed, a canary waits to be promoted, or a rollout was aborted.
	Stalled Progress = "Stalled"
	// Healthy: the newest generation has been seen, and all pods that it is
	// meant for are replaced and available.
	Healthy Progress = "Healthy"
)

// replicas are the pods of a workload as its spec wants them and its status
// counts them.
type replicas struct {
	// wanted are those that have to be of the newest template; updated are those
	// that are.
	wanted, updated int32
	// all are the pods that have to be available, available those that are.
	all, available int32
	// surplus is true if pods of an older template have yet to go.
	surplus bool
}

// progress is what the counts come to. Pods count as available only once
// minReadySeconds have passed; the controllers see to that.
func (r replicas) progress() Progress {
	if r.updated < r.wanted || r.surplus || r.available < r.all {
		return Rolling
	}
	return Healthy
}
