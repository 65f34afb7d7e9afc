package reloader

// WorkloadKind is the Kubernetes kind of something that can be reloaded.
type WorkloadKind string

// The workload kinds.
const (
	Deployment       WorkloadKind = "Deployment"
	StatefulSet      WorkloadKind = "StatefulSet"
	DaemonSet        WorkloadKind = "DaemonSet"
	CronJob          WorkloadKind = "CronJob"
	Job              WorkloadKind = "Job"
	Rollout          WorkloadKind = "Rollout"          // of Argo Rollouts
	DeploymentConfig WorkloadKind = "DeploymentConfig" // of OpenShift
)

// Workload names one workload of the cluster. It is comparable and serves as
// a key of queues and maps.
type Workload struct {
	Kind      WorkloadKind
	Namespace string
	Name      string
}

// String returns "Kind namespace/name".
func (w Workload) String() string {
	return string(w.Kind) + " " + w.Namespace + "/" + w.Name
}
