package cluster

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"text/template"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

//go:embed stages.yaml
var stagesTemplate string

// writeStages writes the Stage objects that tell kwok what to do.
func writeStages(path string, o Options) error {
	parsed, err := template.New("stages").Delims("[[", "]]").Parse(stagesTemplate)
	if err != nil {
		return fmt.Errorf("parse kwok's stages: %w", err)
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]any{
		"Architecture": runtime.GOARCH,
		"CompleteJobs": o.CompleteJobs,
		"Images":       slices.Sorted(maps.Keys(o.Images)),
	})
	if err != nil {
		return fmt.Errorf("fill in kwok's stages: %w", err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write kwok's stages: %w", err)
	}
	return nil
}

// createNodes creates the nodes with what they have to offer; kwok makes them
// ready. Processor and memory are no limit in practice, the number of pods is.
func createNodes(ctx context.Context, client kubernetes.Interface, o Options) error {
	offer := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("100k"),
		corev1.ResourceMemory:           resource.MustParse("100Ti"),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Ti"),
		corev1.ResourcePods:             *resource.NewQuantity(int64(o.PodsPerNode), resource.DecimalSI),
	}
	for i := range o.Nodes {
		name := "node-" + strconv.Itoa(i)
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name: name,
				Labels: map[string]string{
					corev1.LabelHostname:   name,
					corev1.LabelOSStable:   "linux",
					corev1.LabelArchStable: runtime.GOARCH,
				},
			},
			Status: corev1.NodeStatus{Capacity: offer, Allocatable: offer},
		}
		if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create node %s: %w", name, err)
		}
	}
	return nil
}

// nodesReady says whether every node takes pods: the API server taints a new
// node, and the controller manager lifts the taint once the node is ready.
func nodesReady(ctx context.Context, client kubernetes.Interface, want int) (bool, error) {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("list the nodes: %w", err)
	}
	ready := 0
	for i := range nodes.Items {
		node := &nodes.Items[i]
		isReady := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		if isReady && len(node.Spec.Taints) == 0 {
			ready++
		}
	}
	return ready >= want, nil
}
