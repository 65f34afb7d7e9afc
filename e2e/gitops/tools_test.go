package gitops

import (
	"context"
	"encoding/json"
	"testing"

	argo "github.com/argoproj/gitops-engine/pkg/diff"
	"github.com/fluxcd/pkg/ssa"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/dynamic"
	"k8s.io/kube-openapi/pkg/util/proto"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// argoManager is the field manager of Argo CD.
const argoManager = "argocd-controller"

// tool applies manifests and reports whether one differs from the cluster.
type tool struct {
	apply func(t *testing.T, manifest *unstructured.Unstructured)
	// diff returns what differs; empty: nothing.
	diff func(t *testing.T, manifest *unstructured.Unstructured) string
}

// tools are the ways of comparing that the GitOps tools have.
func tools(t *testing.T) map[string]tool {
	t.Helper()
	models, err := shared.Client().Discovery().OpenAPISchema()
	require.NoError(t, err)
	schema, err := proto.NewOpenAPIData(models)
	require.NoError(t, err)
	parser, err := managedfields.NewGVKParser(schema, false)
	require.NoError(t, err)
	c, err := client.New(shared.RESTConfig(), client.Options{})
	require.NoError(t, err)
	flux := ssa.NewResourceManager(c, nil, ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"})

	byArgo := func(options ...argo.Option) func(*testing.T, *unstructured.Unstructured) string {
		options = append(options, argo.WithGVKParser(parser), argo.WithManager(argoManager))
		return func(t *testing.T, manifest *unstructured.Unstructured) string {
			t.Helper()
			r, err := argo.Diff(manifest.DeepCopy(), read(t, manifest), options...)
			require.NoError(t, err)
			if !r.Modified {
				return ""
			}
			return string(r.NormalizedLive) + "\nwants\n" + string(r.PredictedLive)
		}
	}
	serverSide := func(t *testing.T, manifest *unstructured.Unstructured) {
		t.Helper()
		_, err := dryRunner{}.apply(t.Context(), manifest, argoManager)
		require.NoError(t, err)
	}
	dryRun := argo.WithServerSideDryRunner(dryRunner{DryRun: []string{metav1.DryRunAll}})
	return map[string]tool{
		// Argo CD's default: kubectl apply, and a three-way diff.
		"argo": {apply: func(t *testing.T, manifest *unstructured.Unstructured) {
			t.Helper()
			text, err := manifest.MarshalJSON()
			require.NoError(t, err)
			_, err = shared.KubectlInput(t.Context(), string(text), "apply", "--field-manager="+argoManager, "-f", "-")
			require.NoError(t, err)
		}, diff: byArgo()},
		"argo server-side": {apply: serverSide, diff: byArgo(argo.WithServerSideDiff(true), dryRun)},
		// With the compare option IncludeMutationWebhook.
		"argo server-side with webhooks": {
			apply: serverSide,
			diff:  byArgo(argo.WithServerSideDiff(true), argo.WithIgnoreMutationWebhook(false), dryRun),
		},
		"flux": {apply: func(t *testing.T, manifest *unstructured.Unstructured) {
			t.Helper()
			_, err := flux.Apply(t.Context(), manifest.DeepCopy(), ssa.DefaultApplyOptions())
			require.NoError(t, err)
		}, diff: func(t *testing.T, manifest *unstructured.Unstructured) string {
			t.Helper()
			entry, live, merged, err := flux.Diff(t.Context(), manifest.DeepCopy(), ssa.DefaultDiffOptions())
			require.NoError(t, err)
			if entry.Action == ssa.UnchangedAction {
				return ""
			}
			text, err := json.Marshal([]any{entry.Action, live, merged})
			require.NoError(t, err)
			return string(text)
		}},
	}
}

// dryRunner applies on the server, as Argo CD does: it takes conflicts.
type dryRunner metav1.PatchOptions

var _ argo.ServerSideDryRunner = dryRunner{}

func (d dryRunner) Run(ctx context.Context, manifest *unstructured.Unstructured, manager string) (string, error) {
	o, err := d.apply(ctx, manifest, manager)
	if err != nil {
		return "", err
	}
	text, err := o.MarshalJSON()
	return string(text), err
}

func (d dryRunner) apply(ctx context.Context, manifest *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	text, err := manifest.MarshalJSON()
	if err != nil {
		return nil, err
	}
	force := true
	o := metav1.PatchOptions(d)
	o.Force, o.FieldManager = &force, manager
	return objects(manifest).Patch(ctx, manifest.GetName(), types.ApplyPatchType, text, o)
}

// objects are those of the manifest's kind and namespace.
func objects(manifest *unstructured.Unstructured) dynamic.ResourceInterface {
	k, _ := kind.BuiltIn().ByName(reloader.WorkloadKind(manifest.GetKind()))
	return dynamic.NewForConfigOrDie(shared.RESTConfig()).Resource(k.Resource).Namespace(manifest.GetNamespace())
}

func read(t *testing.T, manifest *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	o, err := objects(manifest).Get(t.Context(), manifest.GetName(), metav1.GetOptions{})
	require.NoError(t, err)
	return o
}
