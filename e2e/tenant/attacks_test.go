package tenant

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// tenant is an account that may edit one namespace.
type tenant struct {
	namespace string
	client    rest.Interface
}

// newTenant makes the namespace and the account.
func newTenant(t *testing.T, namespace string) *tenant {
	t.Helper()
	ctx, c := t.Context(), shared.Client()
	_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = c.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "tenant"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = c.RbacV1().Roles(namespace).Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "rollouts"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"argoproj.io"}, Resources: []string{"rollouts"}, Verbs: []string{"*"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, role := range []rbacv1.RoleRef{
		{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "rollouts"},
	} {
		_, err = c.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role.Name},
			RoleRef:    role,
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "tenant"}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	config, err := shared.ServiceAccountConfig(ctx, namespace, "tenant")
	require.NoError(t, err)
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return &tenant{namespace: namespace, client: client.CoreV1().RESTClient()}
}

type object = map[string]any

// The APIs that the tenant writes to.
const (
	configMaps  = "/api/v1/namespaces/%s/configmaps"
	deployments = "/apis/apps/v1/namespaces/%s/deployments"
	jobs        = "/apis/batch/v1/namespaces/%s/jobs"
	cronJobs    = "/apis/batch/v1/namespaces/%s/cronjobs"
	rollouts    = "/apis/argoproj.io/v1alpha1/namespaces/%s/rollouts"
)

// send makes one request. Whether it is refused is not the tenant's concern.
func (a *tenant) send(ctx context.Context, verb, api, name string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	path := fmt.Sprintf(api, a.namespace)
	if name != "" {
		path += "/" + name
	}
	request := a.client.Verb(verb).AbsPath(path).MaxRetries(0)
	if verb == http.MethodPatch {
		request = request.SetHeader("Content-Type", string(types.MergePatchType))
	}
	if body != nil {
		request = request.Body(text)
	}
	return request.Do(ctx).Error()
}

func (a *tenant) post(ctx context.Context, api string, o object) error {
	return a.send(ctx, http.MethodPost, api, "", o)
}

func pod(envFrom ...string) object {
	sources := make([]object, len(envFrom))
	for i, name := range envFrom {
		sources[i] = object{"configMapRef": object{"name": name}}
	}
	return object{"restartPolicy": "Never", "containers": []object{{"name": "a", "image": "registry.example/a:1", "envFrom": sources}}}
}

func meta(name string, annotations object) object {
	return object{"name": name, "annotations": annotations}
}

func cronJob(name string, annotations object) object {
	return object{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta(name, annotations), "spec": object{
		"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": object{"spec": object{"template": object{"spec": pod()}}},
	}}
}

func configMap(name string, annotations object, size int) object {
	return object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name, annotations), "data": object{"a": strings.Repeat("x", size)}}
}

func deployment(name string, annotations object, spec object) object {
	labels := object{"app": name}
	return object{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(name, annotations), "spec": object{
		"replicas": 0, "selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": spec},
	}}
}

// carriers are notes of the version before, forged: unknown kinds, names that
// cannot exist, Jobs of others, text for logs and chats.
func carriers() []string {
	return []string{
		`{"name":"ghost","uid":"00000000-0000-0000-0000-000000000000","ending":true,"gone":"2020-01-01T00:00:00.000000Z","suspend":true,"sources":[{"kind":"Nonsense","name":"x"}]}`,
		`{"name":"ghost","uid":"u","ending":true,"sources":[{"kind":"","name":""}]}`,
		`{"name":"../../pods/x","uid":"u","ending":true,"gone":"2020-01-01T00:00:00.000000Z","sources":[{"kind":"ConfigMap","name":"a/b"}]}`,
		`{"name":"x\n2026 INF reloaded \u001b[31m","uid":"u","sources":[{"kind":"ConfigMap","name":"<!channel> <https://evil.example|x>"}]}`,
		`{"sources":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`,
		`null`, `[]`, `{"name":1}`,
	}
}

// garbage is what the tenant writes in place of what the product writes.
func garbage(i int) object {
	values := []string{
		`{"v":1}`, `{"v":99,"r":[]}`, `{"type":"Nonsense","also":[{"also":[]}]}`, "null", "\u202e\u0000", strings.Repeat("{", 10_000),
		"2099-01-01T00:00:00Z", "-1s", "9999999h", strings.Repeat("a,", 10_000),
	}
	value := func(n int) string { return values[(i+n)%len(values)] }
	return object{
		"reloader.stakater.com/auto":                    "true",
		"reloader.stakater.com/index":                   value(0),
		"reloader.stakater.com/last-reloaded-from":      value(1),
		"reloader.stakater.com/coalesce-window":         value(2),
		"deployment.reloader.stakater.com/pause-period": value(3),
		"deployment.reloader.stakater.com/paused-at":    value(4),
		"secret.reloader.stakater.com/reload":           value(5),
	}
}

// prepare puts what is large into the namespace.
func (a *tenant) prepare(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for i := range 60 {
		require.NoError(t, a.post(ctx, configMaps, configMap(fmt.Sprint("fat-", i), nil, 900_000)))
	}
	for i := range 60 {
		require.NoError(t, a.post(ctx, configMaps, configMap(fmt.Sprint("annotated-", i), object{"a/b": strings.Repeat("x", 250_000)}, 0)))
	}
	require.NoError(t, a.post(ctx, configMaps, configMap(strings.Repeat("a", 253), nil, 1)))
	require.NoError(t, a.post(ctx, configMaps, configMap("cfg", nil, 1)))
	const reload = "configmap.reloader.stakater.com/reload"
	_ = a.post(ctx, cronJobs, cronJob("all", object{reload: ".*"}))
	for i := range 150 {
		_ = a.post(ctx, cronJobs, cronJob(fmt.Sprint("slow-", i), object{reload: "(?:.*){990}(?:.*){990}x"}))
		_ = a.post(ctx, cronJobs, cronJob(fmt.Sprint("dear-", i), object{reload: "(.*a){60}b" + fmt.Sprint(i)}))
	}
	var short []string
	for i := range 46_000 {
		short = append(short, fmt.Sprintf("%x", i))
	}
	for i := range 20 {
		_ = a.post(ctx, cronJobs, cronJob(fmt.Sprint("excluding-", i), object{
			"reloader.stakater.com/auto": "true", "configmaps.exclude.reloader.stakater.com/reload": strings.Join(short, ","),
		}))
	}
	_ = a.post(ctx, rollouts, object{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": meta("barrier", nil),
		"spec": object{"workloadRef": object{"apiVersion": "apps/v1", "kind": "Deployment", "name": "a/b"}}})
	// A mark that cannot be set: every reload of it is refused.
	refused := pod("cfg")
	refused["restartPolicy"] = "Always"
	refused["containers"].([]object)[0]["env"] = []object{{"name": "STAKATER_CFG_CONFIGMAP", "valueFrom": object{"configMapKeyRef": object{"name": "cfg", "key": "a"}}}}
	_ = a.post(ctx, deployments, deployment("refused", object{"reloader.stakater.com/auto": "true", "reloader.stakater.com/coalesce-window": "0s"}, refused))
}

// attacks go on until ctx is done, each in a loop of its own. webhooks are the
// addresses of the webhook's pods.
func (a *tenant) attacks(webhooks []string) []func(ctx context.Context, i int) {
	list := []func(ctx context.Context, i int){
		// Forged carriers and Jobs whose owners are elsewhere.
		func(ctx context.Context, i int) {
			notes, name := carriers(), fmt.Sprint("carrier-", i%50)
			annotations := object{"reloader.stakater.com/carrier": notes[i%len(notes)], "reloader.stakater.com/auto": "true"}
			m := meta(name, annotations)
			m["ownerReferences"] = []object{{"apiVersion": "batch/v1", "kind": "CronJob", "controller": true, "uid": "u",
				"name": "../../../../../../api/v1/namespaces/reloader/pods/x"}}
			_ = a.post(ctx, jobs, object{"apiVersion": "batch/v1", "kind": "Job", "metadata": m,
				"spec": object{"suspend": true, "template": object{"spec": pod("cfg")}}})
			_ = a.send(ctx, http.MethodDelete, jobs, fmt.Sprint("carrier-", (i+25)%50), object{"propagationPolicy": "Background"})
		},
		// Changes of a source whose name is dear to match, and of large ones.
		func(ctx context.Context, i int) {
			_ = a.send(ctx, http.MethodPatch, configMaps, strings.Repeat("a", 253), object{"data": object{"a": fmt.Sprint(i)}})
			_ = a.send(ctx, http.MethodPatch, configMaps, fmt.Sprint("fat-", i%60), object{"data": object{"b": fmt.Sprint(i)}})
			_ = a.send(ctx, http.MethodPatch, configMaps, "cfg", object{"data": object{"a": fmt.Sprint(i)}})
			_ = a.send(ctx, http.MethodPatch, configMaps, fmt.Sprint("annotated-", i%60), object{"data": object{"b": fmt.Sprint(i)}})
		},
		// Workloads that come and go with what only the product writes.
		func(ctx context.Context, i int) {
			spec := pod("cfg", "a/b", fmt.Sprint("missing-", i))
			spec["restartPolicy"] = "Always"
			_ = a.post(ctx, deployments, deployment(fmt.Sprint("garbage-", i%40), garbage(i), spec))
			_ = a.send(ctx, http.MethodPatch, deployments, fmt.Sprint("garbage-", i%40), object{"metadata": object{"annotations": garbage(i + 1)}})
			_ = a.send(ctx, http.MethodDelete, deployments, fmt.Sprint("garbage-", (i+20)%40), nil)
		},
	}
	for n, address := range webhooks {
		client := attacker(n)
		list = append(list,
			// Reviews made of the smallest elements.
			func(ctx context.Context, i int) {
				fields := []string{"containers", "tolerations", "volumes", "initContainers", "imagePullSecrets"}
				body := `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"apps","version":"v1","kind":"Deployment"},"operation":"CREATE","namespace":"a","name":"a","object":{"metadata":{"name":"a","annotations":{"reloader.stakater.com/auto":"true"}},"spec":{"template":{"spec":{"` +
					fields[i%len(fields)] + `":[` + strings.TrimSuffix(strings.Repeat("{},", 600_000), ",") + `]}}}}}}`
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/mutate-workload", strings.NewReader(body))
				if err != nil {
					return
				}
				request.Header.Set("Content-Type", "application/json")
				if answer, err := client.Do(request); err == nil {
					_, _ = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
				}
			},
			// Requests that announce much and send nothing.
			func(ctx context.Context, _ int) { idle(ctx, n, address, 10) },
		)
	}
	return list
}

// attacker is a client from an address of its own, as a pod of the tenant is.
func attacker(n int) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: from(n).DialContext,
		// An attacker does not ask who it is.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
}

func from(n int) *net.Dialer {
	return &net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 96, 200, byte(n+1))}}
}

// idle holds connections with requests that do not end, until the server gives up
// or a moment has passed.
func idle(ctx context.Context, n int, address string, connections int) {
	head := []byte("POST /validate-workload HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 7340032\r\n\r\n{")
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	dialer := tls.Dialer{NetDialer: from(n), Config: &tls.Config{InsecureSkipVerify: true}}
	for range connections {
		c, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			break
		}
		open = append(open, c)
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := io.Copy(c, bytes.NewReader(head)); err != nil {
			break
		}
	}
	for _, c := range open {
		_, _ = io.Copy(io.Discard, c)
	}
}
