// Package podrunner runs pods as processes of this machine, as a kubelet would
// run them as containers.
//
// A Runner watches the pods that are bound to a node and have a container whose
// image stands for a program here. Each such pod gets a loopback address of its
// own (127.97.x.y), a kubeconfig with a renewed token of its ServiceAccount,
// its arguments and environment, restarts with back-off, real startup, liveness
// and readiness probes, a status that says what is, and an end by SIGTERM,
// grace period and SIGKILL. Services whose selector matches ready pods are
// reachable at ClusterIP:port.
//
// What differs from a kubelet, for whoever writes a pod for it:
//   - The program has to listen on the pod's address, which it learns from an
//     environment variable with fieldRef status.podIP. Binding to such an
//     address needs no rights on Linux; macOS wants an alias for each first.
//     Ports below 1024 need root, as ever, also those of Services.
//   - The first word of command names the image's program, whatever it is
//     called; what follows, and args, are its arguments.
//   - The API server is found through KUBECONFIG, not through in-cluster files.
//   - Volumes and init containers do not exist, exec and gRPC probes fail, and
//     limits do not limit.
//   - Back-off begins at one second and ends at thirty.
//
// The files: runner.go watches, pod.go and container.go follow one pod's life,
// service.go forwards connections.
package podrunner
