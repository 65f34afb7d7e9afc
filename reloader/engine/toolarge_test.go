package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

func invalid(problems ...*field.Error) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "Deployment"}, "web", problems)
}

func TestWhatIsTooLarge(t *testing.T) {
	template := field.NewPath("spec", "template", "annotations")
	etcd := func(message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: message}}
	}
	tests := map[string]struct {
		err  error
		want bool
	}{
		"no error":                        {err: nil},
		"annotations of the template":     {err: invalid(field.TooLong(template, "", 256<<10)), want: true},
		"annotations of the object":       {err: invalid(field.TooLong(field.NewPath("metadata", "annotations"), "", 256<<10)), want: true},
		"wrapped":                         {err: fmt.Errorf("patch: %w", invalid(field.TooLong(template, "", 256<<10))), want: true},
		"another field":                   {err: invalid(field.TooLong(field.NewPath("spec", "template", "spec", "hostname"), "", 63))},
		"annotations of another form":     {err: invalid(field.Invalid(template, "a b", "no name"))},
		"more than the API server takes":  {err: apierrors.NewRequestEntityTooLargeError("limit is 3145728"), want: true},
		"more than etcd takes":            {err: etcd("etcdserver: request is too large"), want: true},
		"more than the client of etcd":    {err: etcd("rpc error: trying to send message larger than max (3 vs. 2)"), want: true},
		"another failure of etcd":         {err: etcd("etcdserver: no leader")},
		"a webhook that speaks of a size": {err: apierrors.NewForbidden(appsv1.Resource("deployments"), "web", errors.New("request is too large"))},
		"no answer of the API server's":   {err: errors.New("connection reset")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, tooLarge(tc.err)) })
	}
}

// narrow refuses patches that a full workload has no room for.
type narrow struct {
	http.RoundTripper
	patches int
	// names is what is refused, too; empty is nothing.
	names string
}

func (n *narrow) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPatch {
		return n.RoundTripper.RoundTrip(r)
	}
	n.patches++
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) < 400 && (n.names == "" || !bytes.Contains(body, []byte(n.names))) && !bytes.Contains(body, []byte(`"reloader.stakater.com/index":"`)) {
		return n.RoundTripper.RoundTrip(r)
	}
	var refused *apierrors.StatusError
	if !errors.As(invalid(field.TooLong(field.NewPath("spec", "template", "annotations"), "", 256<<10)), &refused) {
		return nil, errors.New("no status")
	}
	_, _, status := failure(refused)
	text, err := json.Marshal(status)
	return &http.Response{
		StatusCode: http.StatusUnprocessableEntity, Request: r, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(text)),
	}, err
}

// A workload whose annotations others have filled is reloaded all the same, in
// both strategies, and the reload that is repeated changes nothing.
func TestAFullWorkloadIsReloadedAllTheSame(t *testing.T) {
	for _, strategy := range []kind.Strategy{kind.EnvVars, kind.Annotations} {
		for _, sources := range []int{1, 2100} {
			t.Run(fmt.Sprintf("%s, %d sources", strategy, sources), func(t *testing.T) {
				a := newApp(web).recorded(t)
				object := a.object().(*appsv1.Deployment)
				server := deployments(t, object)
				line := &narrow{RoundTripper: server.config.Transport}
				server.config.Transport = line
				r := new(told)
				e := newTestEngine(t, server.config, r)
				e.strategy = strategy
				e.intake.observe(web, object, moment{})
				all := make([]reloader.Source, sources)
				for i := range all {
					all[i] = configMap(fmt.Sprintf("settings-%d", i))
				}
				e.ledger.join(web, moment{}, all...)
				for _, s := range all {
					dependents := func() []reloader.Workload { return []reloader.Workload{web} }
					e.ledger.look(s, written(1, "a"), dependents)
					e.ledger.look(s, written(30, "b"), dependents)
				}
				require.Len(t, e.ledger.due(web), sources)

				require.NoError(t, e.reload(t.Context(), web))
				assert.Equal(t, 2, line.patches)
				assert.Equal(t, int64(2), object.Generation)
				assert.Regexp(t, `^\{"digest":"v2-[0-9a-f]{32}"\}$`, object.Spec.Template.Annotations[keys.LastReloadedFrom])
				assert.Empty(t, e.ledger.due(web))
				require.Len(t, r.reloaded, 1)
				assert.Empty(t, r.failed)
				assert.Len(t, r.reloaded[0].Sources, sources)
				assert.LessOrEqual(t, len(sourceNames(make([]debt, sources))), maxLogged+1)
			})
		}
	}
}
