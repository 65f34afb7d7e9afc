package engine

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
	"k8s-reloader/reloader/policy"
	"k8s-reloader/reloader/report"
)

func TestNamesThatCollideKeepTheirVariablesApart(t *testing.T) {
	const plain, own = "STAKATER_MY_CM_CONFIGMAP", "STAKATER_MY_CM_8845DC8C_CONFIGMAP"
	dashed, dotted := debt{configMap("my-cm"), "a"}, debt{configMap("my.cm"), "b"}
	both := []reloader.Reference{{Kind: reloader.ConfigMap, Name: "my-cm"}, {Kind: reloader.ConfigMap, Name: "my.cm"}}
	tests := map[string]struct {
		debts      []debt
		references []reloader.Reference
		named      string
		exist      []reloader.Source
		want       []string
	}{
		"both referenced": {
			debts: []debt{dashed, dotted}, references: both,
			want: []string{plain, own},
		},
		"one of them, by name": {
			debts: []debt{dashed, dotted}, references: both[1:],
			want: []string{plain, own},
		},
		"both only by name": {
			debts: []debt{dashed, dotted},
			want:  []string{plain, own},
		},
		"both referenced, and one has changed": {
			debts: []debt{dotted}, references: both,
			want: []string{own},
		},
		"both only by name, and the first has changed": {
			debts: []debt{dashed}, named: "my-cm,my.cm", exist: []reloader.Source{configMap("my-cm"), configMap("my.cm")},
			want: []string{plain},
		},
		"both only by name, and the second has changed": {
			debts: []debt{dotted}, named: "my-cm,my.cm", exist: []reloader.Source{configMap("my-cm"), configMap("my.cm")},
			want: []string{own},
		},
		"both only by pattern, and the second has changed": {
			debts: []debt{dotted}, named: "my.*", exist: []reloader.Source{configMap("my-cm"), configMap("my.cm")},
			want: []string{own},
		},
		"the first is named and is not there": {
			debts: []debt{dotted}, named: "my-cm,my.cm", exist: []reloader.Source{configMap("my.cm")},
			want: []string{plain},
		},
		"the first is there for somebody else": {
			debts: []debt{dotted}, named: "my\\.cm", exist: []reloader.Source{configMap("my-cm"), configMap("my.cm")},
			want: []string{plain},
		},
		"one of another kind is no matter": {
			debts: []debt{dotted}, references: []reloader.Reference{{Kind: reloader.Secret, Name: "my-cm"}},
			want: []string{plain},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, unreachable(t), new(told))
			to := target{
				container: "main", references: tc.references,
				policy: policy.Parse(map[string]string{keys.ConfigMapNamed: tc.named}, nil, e.settings),
			}
			e.ledger.enter(web)
			e.ledger.join(web, moment{}, configMap("my-cm"), configMap("my.cm"))
			for _, s := range tc.exist {
				e.ledger.look(s, written(1, "a"), func() []reloader.Workload { return nil })
			}
			var got []string
			for _, m := range e.marks(tc.debts, to) {
				got = append(got, m.Env)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestNoMarkCountsAsAChangeOfTheTemplate(t *testing.T) {
	for _, strategy := range []kind.Strategy{kind.EnvVars, kind.Annotations} {
		t.Run(string(strategy), func(t *testing.T) {
			a := newApp(web).with(func(a *app) { a.configMaps = []string{"my-cm", "my.cm"} })
			before := a.record()
			template := a.template()
			for _, m := range newTestEngine(t, unreachable(t), new(told)).marks([]debt{{configMap("my-cm"), "a"}, {configMap("my.cm"), "b"}},
				target{container: "main", references: before.References}) {
				if strategy == kind.EnvVars {
					template.Spec.Containers[0].Env = append(template.Spec.Containers[0].Env, corev1.EnvVar{Name: m.Env, Value: m.Value})
					continue
				}
				metav1.SetMetaDataAnnotation(&template.ObjectMeta, keys.LastReloadedFrom, m.Value)
			}
			assert.Equal(t, before.Template, hashOf(&template))
		})
	}
}

// told is a Reporter that remembers.
type told struct {
	reloaded  []report.Reload
	failed    []reloader.Outcome
	corrected []reloader.Workload
	faults    []string
	takenBack []string // by whom
	doubtful  []reloader.Workload
}

var _ Reporter = (*told)(nil)

func (r *told) Reloaded(of report.Reload) { r.reloaded = append(r.reloaded, of) }

func (r *told) Failed(_ report.Reload, outcome reloader.Outcome, _ error) {
	r.failed = append(r.failed, outcome)
}
func (r *told) Held(report.Reload, time.Duration) {}

func (r *told) TakenBack(_ report.Reload, by string) { r.takenBack = append(r.takenBack, by) }

func (r *told) Doubtful(w reloader.Workload, _ reloader.Source) {
	r.doubtful = append(r.doubtful, w)
}

func (r *told) Faulty(reload report.Reload, faults []reloader.Problem) {
	for _, fault := range faults {
		r.faults = append(r.faults, reload.Workload.String()+" "+string(fault.Reason))
	}
}
func (r *told) Corrected(w reloader.Workload) { r.corrected = append(r.corrected, w) }

func TestWhatFollowsFromARefusal(t *testing.T) {
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	denial := func(code int32, message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Message: message}}
	}
	denialFor := func(code int32, reason metav1.StatusReason) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: code, Reason: reason, Message: `admission webhook "policy.example.com" denied the request: no`,
		}}
	}
	tests := map[string]struct {
		err         error
		wantOutcome []reloader.Outcome
		wantError   bool
		wantStalled bool
		wantRead    bool
		// wantDoubt is true if it may have been made: going back to the content
		// before is due, too, and web may roll.
		wantDoubt bool
	}{
		"gone: nothing, its event comes": {
			err: apierrors.NewNotFound(deployments, "web"),
		},
		"another uid: read it and try again": {
			err:         apierrors.NewConflict(deployments, "web", errors.New("the UID in the precondition does not match")),
			wantOutcome: []reloader.Outcome{reloader.OutcomeRetry}, wantError: true, wantRead: true,
		},
		"invalid: read it and try again": {
			err:         apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "Deployment"}, "web", nil),
			wantOutcome: []reloader.Outcome{reloader.OutcomeRetry}, wantError: true, wantRead: true,
		},
		"a bad request: read it and try again": {
			err:         apierrors.NewBadRequest("no"),
			wantOutcome: []reloader.Outcome{reloader.OutcomeRetry}, wantError: true, wantRead: true,
		},
		"forbidden: try again slowly": {
			err:         apierrors.NewForbidden(deployments, "web", errors.New("no")),
			wantOutcome: []reloader.Outcome{reloader.OutcomeStalled}, wantError: true, wantStalled: true,
		},
		"denied by a webhook, whatever its code: try again slowly": {
			err:         denial(http.StatusTeapot, `admission webhook "policy.example.com" denied the request: no`),
			wantOutcome: []reloader.Outcome{reloader.OutcomeStalled}, wantError: true, wantStalled: true,
		},
		"denied by a webhook with the code of what is gone: try again slowly": {
			err:         denialFor(http.StatusNotFound, metav1.StatusReasonNotFound),
			wantOutcome: []reloader.Outcome{reloader.OutcomeStalled}, wantError: true, wantStalled: true,
		},
		"denied by a webhook with the code of a conflict: try again slowly": {
			err:         denialFor(http.StatusConflict, metav1.StatusReasonConflict),
			wantOutcome: []reloader.Outcome{reloader.OutcomeStalled}, wantError: true, wantStalled: true,
		},
		"denied by a webhook with a code of ours: try again slowly": {
			err:         denial(http.StatusBadRequest, `admission webhook "policy.example.com" denied the request: no`),
			wantOutcome: []reloader.Outcome{reloader.OutcomeStalled}, wantError: true, wantStalled: true,
		},
		"too many requests: read it and try again": {
			err:         apierrors.NewTooManyRequests("slow down", 1),
			wantOutcome: []reloader.Outcome{reloader.OutcomeRetry}, wantError: true, wantRead: true, wantDoubt: true,
		},
		"an internal error: read it and try again": {
			err:         apierrors.NewInternalError(errors.New("etcd")),
			wantOutcome: []reloader.Outcome{reloader.OutcomeRetry}, wantError: true, wantRead: true, wantDoubt: true,
		},
		"no answer: read it and try again": {
			err:         errors.New("connection refused"),
			wantOutcome: []reloader.Outcome{reloader.OutcomeRetry}, wantError: true, wantRead: true, wantDoubt: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := newTestIntake(t)
			settled(t, in, newApp(web))
			due(t, in.ledger, written(30, "b"))
			debts := in.ledger.due(web)
			_, ok := in.aim(web)
			require.True(t, ok)
			r := new(told)
			e := &Engine{intake: in, ledger: in.ledger, attempts: newAttempts(), reporter: r, rollouts: newRollouts(1, false, clock.RealClock{})}
			require.True(t, e.rollouts.begin(web))

			err := e.refused(attempt{reload: report.Reload{Workload: web}, debts: debts}, fmt.Errorf("patch %s: %w", web, tc.err))
			assert.Equal(t, tc.wantError, err != nil)
			_, lost := e.attempts.of(web)
			assert.Equal(t, tc.wantDoubt, lost)
			assert.Equal(t, !tc.wantDoubt, e.rollouts.begin(worker), "others wait if it may roll")
			var stalled stalledError
			assert.Equal(t, tc.wantStalled, errors.As(err, &stalled))
			if tc.wantError {
				require.ErrorIs(t, err, tc.err)
			}
			assert.Equal(t, tc.wantOutcome, r.failed)
			assert.Equal(t, tc.wantRead, in.open(web))
			assert.Zero(t, in.workloads[web].expected)
			assert.Equal(t, []debt{{settings, "b"}}, in.ledger.due(web), "it stays due")
			in.ledger.look(settings, written(31, "a"), func() []reloader.Workload { return []reloader.Workload{web} })
			assert.Equal(t, tc.wantDoubt, len(in.ledger.due(web)) > 0)
		})
	}
}

// Two sources that share a variable and come to hold the same content, one
// after the other, start pods twice.
func TestNamesThatCollideInOtherWaysKeepTheirMarksApart(t *testing.T) {
	tests := map[string][]reloader.Source{
		"one dash and two":               {configMap("my-cm"), configMap("my--cm")},
		"none of them with dashes alone": {configMap("a-b.c"), configMap("a.b-c")},
	}
	for name, sources := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, unreachable(t), new(told))
			e.ledger.enter(web)
			e.ledger.join(web, moment{}, sources...)
			for _, s := range sources {
				e.ledger.look(s, written(1, "a"), func() []reloader.Workload { return nil })
			}
			to := target{container: "main", template: "0123456789abcdef", policy: policy.Parse(
				map[string]string{keys.ConfigMapNamed: sources[0].Name + "," + sources[1].Name}, nil, e.settings)}
			first := e.marks([]debt{{sources[0], "b"}}, to)[0]
			second := e.marks([]debt{{sources[1], "b"}}, to)[0]
			assert.False(t, first.Env == second.Env && first.Value == second.Value, "the second starts nothing")
		})
	}
}
