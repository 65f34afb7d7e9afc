package podrunner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// environment is a container's: what every container has, and the values that
// the pod's spec sets, which references in the spec can name.
type environment struct {
	base   []string
	values map[string]string
}

// list is the form that a process takes; the values win over the base.
func (e environment) list() []string {
	list := slices.Clone(e.base)
	for _, name := range slices.Sorted(maps.Keys(e.values)) {
		list = append(list, name+"="+e.values[name])
	}
	return list
}

func (c *container) environment(ctx context.Context) (environment, error) {
	p := c.pod
	env := environment{
		base: append([]string{
			"PATH=" + os.Getenv("PATH"),
			"HOME=" + p.dir,
			"HOSTNAME=" + p.object.Name,
			"KUBECONFIG=" + p.kubeconfig(),
		}, p.runner.options.Env...),
		values: map[string]string{},
	}
	for i := range c.spec.EnvFrom {
		if err := c.addSource(ctx, env.values, &c.spec.EnvFrom[i]); err != nil {
			return environment{}, fmt.Errorf("environment from source %d: %w", i, err)
		}
	}
	for i := range c.spec.Env {
		variable := &c.spec.Env[i]
		if variable.ValueFrom == nil {
			env.values[variable.Name] = expand(variable.Value, env.values)
			continue
		}
		value, found, err := c.valueFrom(ctx, variable.ValueFrom)
		if err != nil {
			return environment{}, fmt.Errorf("environment variable %s: %w", variable.Name, err)
		}
		if found {
			env.values[variable.Name] = value
		}
	}
	return env, nil
}

func (c *container) addSource(ctx context.Context, values map[string]string, source *corev1.EnvFromSource) error {
	var data map[string]string
	var err error
	switch {
	case source.ConfigMapRef != nil:
		data, err = c.configMap(ctx, source.ConfigMapRef.Name, source.ConfigMapRef.Optional)
	case source.SecretRef != nil:
		data, err = c.secret(ctx, source.SecretRef.Name, source.SecretRef.Optional)
	}
	for key, value := range data {
		values[source.Prefix+key] = value
	}
	return err
}

// valueFrom returns false for an optional value that is not there.
func (c *container) valueFrom(ctx context.Context, source *corev1.EnvVarSource) (value string, found bool, err error) {
	switch {
	case source.FieldRef != nil:
		value, err = c.pod.field(source.FieldRef.FieldPath)
		return value, true, err
	case source.ResourceFieldRef != nil:
		value, err = c.resource(source.ResourceFieldRef)
		return value, true, err
	case source.ConfigMapKeyRef != nil:
		ref := source.ConfigMapKeyRef
		data, err := c.configMap(ctx, ref.Name, ref.Optional)
		return pick(data, "ConfigMap", ref.Name, ref.Key, ref.Optional, err)
	case source.SecretKeyRef != nil:
		ref := source.SecretKeyRef
		data, err := c.secret(ctx, ref.Name, ref.Optional)
		return pick(data, "Secret", ref.Name, ref.Key, ref.Optional, err)
	default:
		return "", false, errors.New("its source is not supported")
	}
}

func pick(data map[string]string, kind, name, key string, optional *bool, err error) (value string, found bool, _ error) {
	if err != nil {
		return "", false, err
	}
	value, found = data[key]
	if !found && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("%s %s has no key %s", kind, name, key)
	}
	return value, found, nil
}

func (c *container) configMap(ctx context.Context, name string, optional *bool) (map[string]string, error) {
	object, err := c.pod.runner.client.CoreV1().ConfigMaps(c.pod.object.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", name, err)
	}
	return object.Data, nil
}

func (c *container) secret(ctx context.Context, name string, optional *bool) (map[string]string, error) {
	object, err := c.pod.runner.client.CoreV1().Secrets(c.pod.object.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	data := make(map[string]string, len(object.Data))
	for key, value := range object.Data {
		data[key] = string(value)
	}
	return data, nil
}

// field resolves the downward API's paths.
func (p *pod) field(path string) (string, error) {
	for prefix, values := range map[string]map[string]string{
		"metadata.labels":      p.object.Labels,
		"metadata.annotations": p.object.Annotations,
	} {
		if key, ok := strings.CutPrefix(path, prefix+"['"); ok {
			return values[strings.TrimSuffix(key, "']")], nil
		}
	}
	switch path {
	case "metadata.name":
		return p.object.Name, nil
	case "metadata.namespace":
		return p.object.Namespace, nil
	case "metadata.uid":
		return string(p.object.UID), nil
	case "spec.nodeName":
		return p.object.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return p.object.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return p.address(), nil
	case "status.hostIP", "status.hostIPs":
		return "127.0.0.1", nil
	default:
		return "", fmt.Errorf("field %s is not supported", path)
	}
}

// resource resolves limits and requests. An absent limit is the machine's
// processors, or more memory than there is, as a kubelet takes the node's.
func (c *container) resource(ref *corev1.ResourceFieldSelector) (string, error) {
	list, name, _ := strings.Cut(ref.Resource, ".")
	amounts := c.spec.Resources.Limits
	if list == "requests" {
		amounts = c.spec.Resources.Requests
	}
	amount, found := amounts[corev1.ResourceName(name)]
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	switch corev1.ResourceName(name) {
	case corev1.ResourceCPU:
		if !found && list == "limits" {
			amount = *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI)
		}
		return ceil(amount.MilliValue(), divisor.MilliValue()), nil
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		if !found && list == "limits" {
			amount = resource.MustParse("100Ti")
		}
		return ceil(amount.Value(), divisor.Value()), nil
	default:
		return "", fmt.Errorf("resource %s is not supported", ref.Resource)
	}
}

func ceil(amount, divisor int64) string {
	return fmt.Sprint((amount + divisor - 1) / divisor)
}

// arguments are the program's: the first word of command is the program.
func arguments(spec *corev1.Container, values map[string]string) []string {
	var args []string
	if len(spec.Command) > 0 {
		args = append(args, spec.Command[1:]...)
	}
	args = append(args, spec.Args...)
	for i := range args {
		args[i] = expand(args[i], values)
	}
	return args
}

// expand replaces $(NAME) by its value. $$ stands for one $, and a name
// without a value is left as it is written.
func expand(text string, values map[string]string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		name, rest, closed := strings.Cut(strings.TrimPrefix(after, "("), ")")
		value, known := values[name]
		switch {
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			text = after[1:]
		case strings.HasPrefix(after, "(") && closed:
			if !known {
				value = "$(" + name + ")"
			}
			out.WriteString(value)
			text = rest
		default:
			out.WriteByte('$')
			text = after
		}
	}
}
