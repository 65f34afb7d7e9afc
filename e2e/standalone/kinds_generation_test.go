package standalone

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/go-logr/logr/testr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/record"
	"k8s-reloader/webhook"
)

// admitted has the API server ask a webhook of this process about every kind
// of workload in a namespace.
func admitted(t *testing.T, ns string) {
	t.Helper()
	w, err := webhook.New(webhook.Options{Settings: policy.Settings{Keys: keys()}, Log: testr.New(t)})
	require.NoError(t, err)
	mux := http.NewServeMux()
	w.Register(mux.Handle)
	server := httptest.NewUnstartedServer(mux)
	server.StartTLS()
	t.Cleanup(server.Close)

	url := server.URL + webhook.PathMutateWorkload
	fail, none := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	var rules []admissionregistrationv1.RuleWithOperations
	for _, k := range kind.BuiltIn().All() {
		rules = append(rules, admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
			Rule: admissionregistrationv1.Rule{
				APIGroups: []string{k.Resource.Group}, APIVersions: []string{k.Resource.Version}, Resources: []string{k.Resource.Resource},
			},
		})
	}
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: ns},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    "mutate.reloader.example",
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
			Rules:                   rules,
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": ns}},
			FailurePolicy:           &fail,
			SideEffects:             &none,
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
	configurations := shared.Client().AdmissionregistrationV1().MutatingWebhookConfigurations()
	_, err = configurations.Create(t.Context(), configuration, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := shared.Kubectl(context.WithoutCancel(t.Context()), "delete", "mutatingwebhookconfiguration", ns)
		assert.NoError(t, err)
	})
	probe := workload{kind: reloader.Deployment, ns: ns, name: "probe", annotations: auto(), pod: using()}
	require.Eventually(t, func() bool {
		o, err := objects(t, probe.kind, ns).Create(t.Context(), probe.object(t), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil && o.GetAnnotations()[keys().Index] != ""
	}, soon, often, "the webhook is asked")
}

// TestRecordsFitEveryKind holds the webhook's prediction of the generation
// against the API server, and the engine's with it.
func TestRecordsFitEveryKind(t *testing.T) {
	everyKind(t)
	ns := namespace(t, "generation")
	edit(t, ns, "settings", "1")
	admitted(t, ns)
	_, r := startEngine(t)
	merge := func(body string) func(*testing.T, workload) {
		return func(t *testing.T, w workload) {
			t.Helper()
			w.patch(t, body)
		}
	}
	status := func(body string) func(*testing.T, workload) {
		return func(t *testing.T, w workload) {
			t.Helper()
			_, err := objects(t, w.kind, w.ns).Patch(t.Context(), w.name, types.MergePatchType, []byte(body), metav1.PatchOptions{}, "status")
			require.NoError(t, err)
		}
	}
	all := []reloader.WorkloadKind{reloader.CronJob, reloader.Job, reloader.Rollout, reloader.DeploymentConfig}
	custom := all[2:]
	tests := map[string]struct {
		on   []reloader.WorkloadKind
		does func(*testing.T, workload)
		// raises is by how much the generation grows.
		raises int64
		// unfit is true if admission is not asked, so that the record does not
		// follow.
		unfit bool
	}{
		"creation":             {on: all, does: func(*testing.T, workload) {}},
		"an annotation":        {on: all, does: merge(`{"metadata":{"annotations":{"note":"new"}}}`)},
		"a label":              {on: all, does: merge(`{"metadata":{"labels":{"note":"new"}}}`)},
		"the record's removal": {on: all, does: merge(`{"metadata":{"annotations":{"` + keys().Index + `":null}}}`)},
		"a spec that is written as it was": {on: all, does: func(t *testing.T, w workload) {
			t.Helper()
			// Controllers write the status at the same time.
			require.NoError(t, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
				_, err := objects(t, w.kind, w.ns).Update(t.Context(), w.read(t), metav1.UpdateOptions{})
				return err
			}))
		}},
		"a template of a CronJob": {
			on:     []reloader.WorkloadKind{reloader.CronJob},
			does:   merge(`{"spec":{"jobTemplate":{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}}}`),
			raises: 1,
		},
		"a schedule":    {on: []reloader.WorkloadKind{reloader.CronJob}, does: merge(`{"spec":{"schedule":"1 1 1 1 1"}}`), raises: 1},
		"a parallelism": {on: []reloader.WorkloadKind{reloader.Job}, does: merge(`{"spec":{"parallelism":0,"suspend":true}}`), raises: 1},
		"a template": {
			on: custom, does: merge(`{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}`), raises: 1,
		},
		"a template and an annotation": {
			on: custom, does: merge(`{"metadata":{"annotations":{"a":"b"}},"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}`), raises: 1,
		},
		"a field that is not known here": {
			on: custom, does: merge(`{"spec":{"revisionHistoryLimit":3}}`), raises: 1,
		},
		"the scale subresource": {on: custom, raises: 1, unfit: true, does: func(t *testing.T, w workload) {
			t.Helper()
			_, err := objects(t, w.kind, w.ns).Patch(t.Context(), w.name, types.MergePatchType, []byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{}, "scale")
			require.NoError(t, err)
		}},
		"a status": {on: custom, does: status(`{"status":{"replicas":0}}`)},
		"our own reload": {on: custom, raises: 1, does: func(t *testing.T, w workload) {
			t.Helper()
			requireReload(t, r, w.key(), func() { edit(t, ns, w.name, "2") })
		}},
		"our own reload of a CronJob": {on: all[:1], does: func(t *testing.T, w workload) {
			t.Helper()
			requireReload(t, r, w.key(), func() { edit(t, ns, w.name, "2") })
		}},
		"our own replacement": {on: all[1:2], does: func(t *testing.T, w workload) {
			t.Helper()
			requireReload(t, r, w.key(), func() { edit(t, ns, w.name, "2") })
		}},
	}
	n := 0
	for name, tc := range tests {
		for _, k := range tc.on {
			n++
			w := workload{kind: k, ns: ns, name: "w-" + strconv.Itoa(n), annotations: auto()}
			w.pod = using(w.name)
			t.Run(name+" of a "+string(k), func(t *testing.T) {
				edit(t, ns, w.name, "1")
				created := w.create(t)
				require.Equal(t, int64(1), created.GetGeneration())

				tc.does(t, w)

				after := w.read(t)
				assert.Equal(t, 1+tc.raises, after.GetGeneration())
				rec, err := record.Decode(after.GetAnnotations()[keys().Index])
				require.NoError(t, err)
				fits := rec.Fits(record.Identity{
					Namespace: ns, Name: w.name, UID: string(after.GetUID()), Generation: after.GetGeneration(),
				}, keys())
				assert.Equal(t, tc.unfit, fits != nil, "%v", fits)
				k, _ := kind.BuiltIn().ByName(w.kind)
				raw, err := after.MarshalJSON()
				require.NoError(t, err)
				m, err := k.Decode(raw)
				require.NoError(t, err)
				hash, err := m.TemplateHash(keys())
				require.NoError(t, err)
				assert.Equal(t, hash, rec.Template,
					"the record tells of the template as it is read")
			})
		}
	}
}

func TestABorrowedTemplateHasNoRecord(t *testing.T) {
	everyKind(t)
	ns := namespace(t, "generation-lender")
	admitted(t, ns)
	w := borrowing(ns, "web", "lender", auto())
	assert.NotContains(t, w.create(t).GetAnnotations(), keys().Index)
}
