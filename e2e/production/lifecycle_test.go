package production

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
)

const (
	// soon is how long things may take on a busy machine.
	soon  = time.Minute
	often = 50 * time.Millisecond

	// kill9Bound is how many requests may pass unseen when a webhook pod is
	// killed without warning: those that were on their way to it, and those
	// that came before its endpoint was gone.
	kill9Bound = rate / 2
)

// values of the chart, by section. A pod of the webhook ends soon, so that a
// rollout does not take half a minute.
func values(certificates map[string]any) map[string]any {
	if certificates == nil {
		certificates = map[string]any{}
	}
	return map[string]any{"webhook": map[string]any{"shutdownDelaySeconds": 3}, "certificates": certificates}
}

func installed(t *testing.T, o install.ChartOptions) *install.Release {
	t.Helper()
	o.Namespace, o.Log = namespace, t.Output()
	r, err := install.Chart(t.Context(), shared, o)
	require.NoError(t, err)
	return r
}

func helm(t *testing.T, args ...string) {
	t.Helper()
	_, err := shared.Helm(t.Context(), append(args, "--namespace", namespace)...)
	require.NoError(t, err)
}

// served is the bundle and the Secret's certificate as they are now.
func served(t *testing.T, secret string) (bundle, certificate string) {
	t.Helper()
	o, err := shared.Client().CoreV1().Secrets(namespace).Get(t.Context(), secret, metav1.GetOptions{})
	require.NoError(t, err)
	c, err := shared.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), "reloader-webhook", metav1.GetOptions{})
	require.NoError(t, err)
	return string(c.Webhooks[0].ClientConfig.CABundle), string(o.Data["tls.crt"])
}

// TestNobodyIsRefusedThroughoutALife goes through the life of a release while
// the stream runs.
func TestNobodyIsRefusedThroughoutALife(t *testing.T) {
	s := startStream(t)
	var r *install.Release

	s.during(t, "install", func() {
		o := install.ChartOptions{}
		if before != nil {
			o.Folder, o.Image = filepath.Join(before.root, "charts", "reloader"), previousImage
		}
		r = installed(t, o)
	})

	if before != nil {
		upgrade := func() { r = installed(t, install.ChartOptions{Values: values(nil)}) }
		lost := s.during(t, "upgrade from "+before.revision, upgrade)
		if before.lingers {
			assert.Zero(t, lost, "the pods that end see to it")
		}
		assert.Zero(t, s.during(t, "rollback", func() {
			helm(t, "rollback", r.Engine, "1")
			require.NoError(t, r.AwaitReady(t.Context()))
		}), "the pods that end see to it")
		s.during(t, "upgrade once more", upgrade)
	} else {
		r = installed(t, install.ChartOptions{Values: values(nil)})
	}

	assert.Zero(t, s.during(t, "rollout restart", func() {
		_, err := shared.Kubectl(t.Context(), "rollout", "restart", "deployment/"+r.Webhook, "-n", namespace)
		require.NoError(t, err)
		_, err = shared.Kubectl(t.Context(), "rollout", "status", "deployment/"+r.Webhook, "-n", namespace, "--timeout=2m")
		require.NoError(t, err)
		require.NoError(t, r.AwaitReady(t.Context()))
	}))

	pods, err := r.Pods(t.Context(), r.Webhook)
	require.NoError(t, err)
	require.Len(t, pods, 2)
	lost := s.during(t, "kill -9 of one of two", func() {
		require.NoError(t, shared.Pods().Kill(namespace, pods[0].Name, syscall.SIGKILL))
		require.NoError(t, r.AwaitReady(t.Context()))
	})
	t.Logf("kill -9: %d requests passed unseen", lost)
	assert.LessOrEqual(t, lost, kill9Bound)

	s.during(t, "certificates that live for seconds", func() {
		r = installed(t, install.ChartOptions{Values: values(map[string]any{"validity": "15s", "caValidity": "45s"})})
	})
	assert.Zero(t, s.during(t, "rotation of leaf and CA", func() {
		bundles, leaves := map[string]bool{}, map[string]bool{}
		require.Eventually(t, func() bool {
			bundle, leaf := served(t, "reloader-webhook-certificate")
			bundles[bundle], leaves[leaf] = true, true
			return len(leaves) >= 5 && len(bundles) >= 3
		}, 3*soon, often, "leaves and CAs follow one another")
	}), "old and new CA overlap")
	s.during(t, "certificates that live for months", func() { r = installed(t, install.ChartOptions{Values: values(nil)}) })

	s.during(t, "both pods dead", func() { bothDead(t, s, r) })

	objects, err := left(t)
	require.NoError(t, err)
	for _, object := range []string{"deployment.apps/" + r.Webhook, "mutatingwebhookconfiguration.admissionregistration.k8s.io/reloader-webhook"} {
		require.Contains(t, objects, object, "what would be left is found")
	}
	app := s.apps[0].Workload()
	s.during(t, "uninstall", func() { helm(t, "uninstall", r.Engine, "--wait") })
	s.stop()
	state, err := fixture.Read(t.Context(), shared.Client(), app)
	require.NoError(t, err, "workloads are untouched")
	assert.Equal(t, "true", state.Meta.Annotations[annotation.DefaultKeys().Auto])
	requireNothingLeft(t)
}

// bothDead kills the webhook's pods whenever they come back, and holds that
// admission goes on, that the engine finds out what the webhook missed, and that
// the next admission writes the record.
func bothDead(t *testing.T, s *stream, r *install.Release) {
	t.Helper()
	zero := int32(0)
	scale := func(to *int32) {
		o, err := shared.Client().AppsV1().Deployments(namespace).GetScale(t.Context(), r.Webhook, metav1.GetOptions{})
		require.NoError(t, err)
		o.Spec.Replicas = *to
		_, err = shared.Client().AppsV1().Deployments(namespace).UpdateScale(t.Context(), r.Webhook, o, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	pods, err := r.Pods(t.Context(), r.Webhook)
	require.NoError(t, err)
	scale(&zero) // nothing starts them again
	for i := range pods {
		_ = shared.Pods().Kill(namespace, pods[i].Name, syscall.SIGKILL) // an error means that it has ended
	}
	require.Eventually(t, func() bool {
		pods, err := r.Pods(t.Context(), r.Webhook)
		return err == nil && len(pods) == 0
	}, soon, often)

	missed := s.app("missed")
	missed.Namespace = "default"
	require.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), missed.Namespace, missed.Name, map[string]string{"key": "1"}))
	meta, err := missed.Create(t.Context(), shared.Client())
	require.NoError(t, err, "admission goes on")
	require.False(t, fits(meta), "the webhook has not seen it")
	s.await(t, rate)
	require.NoError(t, fixture.SetConfigMap(t.Context(), shared.Client(), missed.Namespace, missed.Name, map[string]string{"key": "2"}))
	require.Eventually(t, func() bool {
		state, err := fixture.Read(t.Context(), shared.Client(), missed.Workload())
		return err == nil && state.Env(reloader.EnvName(reloader.ConfigMap, missed.Name)) != ""
	}, soon, often, "the engine works out by itself what the webhook missed")

	two := int32(2)
	scale(&two)
	require.NoError(t, r.AwaitReady(t.Context()))
	s.await(t, rate)
	_, err = shared.Kubectl(t.Context(), "label", "deployment", missed.Name, "-n", missed.Namespace, "seen=again")
	require.NoError(t, err)
	state, err := fixture.Read(t.Context(), shared.Client(), missed.Workload())
	require.NoError(t, err)
	assert.True(t, fits(&state.Meta), "the record is right again after the next admission")
	require.NoError(t, shared.Client().AppsV1().Deployments(missed.Namespace).Delete(t.Context(), missed.Name, metav1.DeleteOptions{}))
}

// left returns the objects of the release, wherever.
func left(t *testing.T) (objects []string, err error) {
	t.Helper()
	names, err := shared.Kubectl(t.Context(), "api-resources", "--verbs=list", "-o", "name")
	if err != nil {
		return nil, err
	}
	var kinds []string
	for name := range strings.Lines(names) {
		// Events tell of the past, and go by themselves.
		if name = strings.TrimSpace(name); !strings.HasPrefix(name, "events") {
			kinds = append(kinds, name)
		}
	}
	out, err := shared.Kubectl(t.Context(), "get", strings.Join(kinds, ","), "-A", "-o", "name", "-l", "release=reloader", "--ignore-not-found")
	for line := range strings.Lines(out) {
		// kubectl warns about kinds that are out of date.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Warning: ") {
			objects = append(objects, line)
		}
	}
	return objects, err
}

// requireNothingLeft holds that no object of the release is left, wherever.
func requireNothingLeft(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		objects, err := left(t)
		return err == nil && len(objects) == 0
	}, soon, 500*time.Millisecond, "nothing with the release's labels is left")
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		secrets, err := shared.Client().CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
		assert.Empty(c, secrets.Items)
	}, soon, often, "the garbage collector may be behind")
	configMaps, err := shared.Client().CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for i := range configMaps.Items {
		assert.Equal(t, "kube-root-ca.crt", configMaps.Items[i].Name)
	}
	_, err = shared.Client().CoordinationV1().Leases(namespace).Get(t.Context(), "stakater-reloader-lock", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err))
}
