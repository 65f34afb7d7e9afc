package production

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// deadWebhook has the API server ask one that nobody serves about the workloads
// of the stream, until the test ends.
func deadWebhook(t *testing.T, s *stream, name string, onFailure admissionregistrationv1.FailurePolicyType) {
	t.Helper()
	nobody, none := "https://127.0.0.1:1/", admissionregistrationv1.SideEffectClassNone
	configurations := shared.Client().AdmissionregistrationV1().ValidatingWebhookConfigurations()
	made, err := configurations.Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "dead-"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:         name,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &nobody},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
			}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": s.namespace}},
			FailurePolicy:           &onFailure,
			SideEffects:             &none,
			AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, configurations.Delete(context.WithoutCancel(t.Context()), made.Name, metav1.DeleteOptions{}))
	})
}

// peek returns the counts since the last look, and leaves them.
func (s *stream) peek() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// TestTheStreamSeesWhatItIsFor goes without the product, and makes happen what
// the other tests hold to be nowhere: each is counted as what it is.
func TestTheStreamSeesWhatItIsFor(t *testing.T) {
	s := startStream(t)

	t.Run("requests that no webhook has seen", func(t *testing.T) {
		count := s.watch(t, "nothing", func() {})
		assert.GreaterOrEqual(t, count.asked, rate)
		assert.Empty(t, count.refused)
		assert.Empty(t, count.opened)
		assert.Empty(t, count.reloaded)
		assert.Positive(t, count.missed())
		assert.InDelta(t, count.asked, count.unseen, rate/2, "all, but for conflicts")
	})
	t.Run("requests that the API server let pass", func(t *testing.T) {
		count := s.watch(t, "a webhook that fails open", func() {
			before := failedOpen(t)
			deadWebhook(t, s, validating, admissionregistrationv1.Ignore)
			require.Eventually(t, func() bool { return failuresSince(t, before)[validating] > 0 }, soon, often)
		})
		assert.Empty(t, count.refused)
		assert.Positive(t, count.opened[validating])
		assert.Zero(t, count.opened[mutating])
		count.unseen = 0 // as if they had their record
		assert.Equal(t, count.opened[validating], count.missed())
	})
	t.Run("a workload that is reloaded", func(t *testing.T) {
		reloaded := s.apps[3].Name
		count := s.watch(t, "a reload", func() {
			patch := `{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":"STAKATER_APP_3_CONFIGMAP","value":"1"}]}]}}}}`
			_, err := shared.Client().AppsV1().Deployments(s.namespace).
				Patch(t.Context(), reloaded, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
			require.NoError(t, err)
		})
		assert.Equal(t, []string{reloaded}, count.reloaded)
	})
	t.Run("requests that are refused", func(t *testing.T) {
		count := s.watch(t, "a webhook that fails closed", func() {
			deadWebhook(t, s, "closed.example.com", admissionregistrationv1.Fail)
			require.Eventually(t, func() bool { return len(s.peek().refused) > 0 }, soon, often)
		})
		require.NotEmpty(t, count.refused)
		assert.Contains(t, count.refused[0], "closed.example.com")
	})
}
