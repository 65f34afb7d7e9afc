package engine

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/policy"
)

// watching is an engine that watches classes, of which web names vault, on a
// server that has the class with these annotations.
func watching(t *testing.T, annotations map[string]string, change ...func(*app)) (*Engine, *feed, *script) {
	t.Helper()
	server := play(t, func(request) (int, http.Header, any) {
		if annotations == nil {
			return failure(apierrors.NewNotFound(classResource().GroupResource(), "vault"))
		}
		return http.StatusOK, nil, metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "vault", Annotations: annotations},
		}
	})
	key, err := RandomKey()
	require.NoError(t, err)
	e, err := New(Options{Config: server.config, Key: key, Settings: policy.Settings{Keys: keys, CSI: true}, Reporter: new(told)})
	require.NoError(t, err)
	t.Cleanup(e.queues.shutDown)
	a := newApp(web).with(func(a *app) {
		a.annotations = map[string]string{keys.SecretProviderClassNamed: "vault"}
		for _, c := range change {
			c(a)
		}
	})
	e.intake.observe(web, a.recorded(t).meta(), moment{})
	return e, e.podStatusFeed(area{}), server
}

// holds is what the feed sees of a report.
func holds(pod, content string, version int) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: pod + "-shop-vault", ResourceVersion: strconv.Itoa(version),
		Annotations: map[string]string{mountedClass: "vault", mountedContent: content},
	}}
}

func TestWhatFollowsFromReports(t *testing.T) {
	tests := map[string]struct {
		annotations map[string]string
		app         func(*app)
		reports     func(t *testing.T, e *Engine, f *feed)
		wantDue     bool
		wantAsked   int
	}{
		"the first content is adopted, and nothing is asked": {
			reports: func(*testing.T, *Engine, *feed) {},
		},
		"a rotation is due, and the class is asked once": {
			annotations: map[string]string{},
			reports: func(t *testing.T, e *Engine, f *feed) {
				require.NoError(t, f.Update(holds("1", "b", 20)))
				require.NoError(t, readQueued(t, e))
				require.NoError(t, f.Update(holds("2", "b", 21)))
				require.NoError(t, f.Add(holds("3", "b", 22)))
				require.NoError(t, f.Delete(holds("1", "b", 23)))
			},
			wantDue: true, wantAsked: 1,
		},
		"a class that is gone forbids nothing": {
			reports: func(t *testing.T, _ *Engine, f *feed) { require.NoError(t, f.Update(holds("1", "b", 20))) },
			wantDue: true, wantAsked: 1,
		},
		"a class may say no": {
			annotations: map[string]string{keys.Ignore: "true"},
			reports:     func(t *testing.T, _ *Engine, f *feed) { require.NoError(t, f.Update(holds("1", "b", 20))) },
			wantAsked:   1,
		},
		"a rotation that was listed": {
			annotations: map[string]string{},
			reports: func(t *testing.T, _ *Engine, f *feed) {
				require.NoError(t, f.Replace([]any{holds("1", "b", 20), holds("2", "a", 11)}, "20"))
			},
			wantDue: true, wantAsked: 1,
		},
		"all pods are gone, and others come": {
			annotations: map[string]string{},
			reports: func(t *testing.T, e *Engine, f *feed) {
				require.NoError(t, f.Delete(holds("1", "a", 20)))
				require.NoError(t, f.Delete(holds("2", "a", 21)))
				require.NoError(t, readQueued(t, e))
				require.NoError(t, f.Add(holds("3", "b", 22)))
			},
		},
		"all pods are gone while a rotation is due": {
			annotations: map[string]string{},
			reports: func(t *testing.T, e *Engine, f *feed) {
				require.NoError(t, f.Update(holds("1", "b", 20)))
				require.NoError(t, readQueued(t, e))
				require.NoError(t, f.Replace(nil, "30"))
			},
			wantAsked: 1,
		},
		"a class of others": {
			reports: func(t *testing.T, _ *Engine, f *feed) {
				other := holds("1", "b", 20)
				other.Annotations[mountedClass] = "other"
				require.NoError(t, f.Add(other))
			},
		},
		"a pattern that matches it": {
			annotations: map[string]string{},
			app:         func(a *app) { a.annotations[keys.SecretProviderClassNamed] = "va.*" },
			reports:     func(t *testing.T, _ *Engine, f *feed) { require.NoError(t, f.Update(holds("1", "b", 20))) },
			wantDue:     true, wantAsked: 1,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var change []func(*app)
			if tc.app != nil {
				change = append(change, tc.app)
			}
			e, f, server := watching(t, tc.annotations, change...)
			require.NoError(t, f.Replace([]any{holds("1", "a", 10), holds("2", "a", 11)}, "11"))
			require.NoError(t, readQueued(t, e))
			tc.reports(t, e, f)
			require.NoError(t, readQueued(t, e))
			assert.Equal(t, tc.wantDue, len(e.ledger.due(web)) > 0)
			assert.Len(t, server.requests, tc.wantAsked)
			assert.True(t, e.ledger.allRead())
		})
	}
}

func TestAClassThatCannotBeAskedWaits(t *testing.T) {
	away := true
	server := play(t, func(request) (int, http.Header, any) {
		if away {
			return failure(apierrors.NewInternalError(assert.AnError))
		}
		return failure(apierrors.NewNotFound(classResource().GroupResource(), "vault"))
	})
	e, f, _ := watching(t, nil)
	c, err := newClient(server.config, server.config, logr.Discard())
	require.NoError(t, err)
	e.client = c
	require.NoError(t, f.Replace([]any{holds("1", "a", 10)}, "11"))
	require.NoError(t, readQueued(t, e))
	require.NoError(t, f.Update(holds("1", "b", 12)))
	require.Error(t, e.readSource(t.Context(), vault()))
	assert.Empty(t, e.ledger.due(web))
	away = false
	require.NoError(t, e.readSource(t.Context(), vault()))
	assert.NotEmpty(t, e.ledger.due(web))
}

// Classes are seen by the reports of pods, whatever else is forbidden.
func TestWhatIsForbiddenOfOtherKindsHidesNoClass(t *testing.T) {
	e, f, _ := watching(t, map[string]string{})
	e.refusals.add(refusal{"list", sourceResource(reloader.ConfigMap).GroupResource(), ""})
	require.NoError(t, f.Replace([]any{holds("1", "a", 10)}, "11"))
	require.NoError(t, readQueued(t, e))
	require.NoError(t, f.Update(holds("1", "b", 12)))
	require.NoError(t, readQueued(t, e))
	assert.NotEmpty(t, e.ledger.due(web))

	e.refusals.add(refusal{"watch", podStatusResource().GroupResource(), ""})
	assert.True(t, e.unseen(shelfOf(vault())))
}

// A class that may not be read is no reason not to be ready.
func TestAClassThatMayNotBeReadHoldsUpNoStart(t *testing.T) {
	server := play(t, func(request) (int, http.Header, any) {
		return failure(apierrors.NewForbidden(classResource().GroupResource(), "vault", assert.AnError))
	})
	e, f, _ := watching(t, nil)
	c, err := newClient(server.config, server.config, logr.Discard())
	require.NoError(t, err)
	e.client = c
	require.NoError(t, f.Replace([]any{holds("1", "b", 20)}, "20"))
	kept := pages{vault(): entry(5, "a")}
	e.ledger.open(kept, false)
	assert.True(t, isKnown(readQueued(t, e)))
	assert.NotEmpty(t, server.requests, "it has been rotated while no engine ran")
	assert.True(t, e.ledger.allRead())
	assert.Empty(t, e.ledger.due(web))
	assert.True(t, e.refusals.holds(refusal{"get", classResource().GroupResource(), ""}), "it is told under its own name")
	assert.Equal(t, pages{vault(): entry(5, "a")}, kept, "and looked at again later")
}

// Who brings a class in owes nothing: its pods report what they have mounted.
func TestWhoBringsAClassInOwesNothing(t *testing.T) {
	e, f, _ := watching(t, nil)
	require.NoError(t, f.Replace([]any{holds("1", "a", 10)}, "11"))
	require.NoError(t, readQueued(t, e))
	a := newApp(worker).with(func(a *app) { a.annotations = map[string]string{keys.SecretProviderClassNamed: "vault,new"} })
	e.intake.observe(worker, a.recorded(t).meta(), at(5))
	fresh := holds("w", "n", 20)
	fresh.Annotations[mountedClass] = "new"
	require.NoError(t, readQueued(t, e))
	require.NoError(t, f.Add(fresh))
	require.NoError(t, f.Add(holds("w", "a", 21)))
	require.NoError(t, readQueued(t, e))
	assert.Empty(t, e.ledger.due(worker))
	assert.Empty(t, e.ledger.due(web))
}

// The checkpoint of a class is what it held, unless no pod is left that had it;
// that reports cannot be read is no reason to forget it.
func TestWhatIsKeptOfAClass(t *testing.T) {
	tests := map[string]struct {
		listed   []any
		unlisted bool
		wantKept checkpoint.Entry
		wantDue  bool
	}{
		"nothing has changed":    {listed: []any{holds("1", "a", 11)}, wantKept: entry(5, "a")},
		"it was rotated":         {listed: []any{holds("1", "b", 11)}, wantKept: entry(inMotion, "a"), wantDue: true},
		"no pod is left":         {},
		"reports cannot be read": {unlisted: true, wantKept: entry(5, "a")},
		"some pods had not followed": {
			listed: []any{holds("1", "b", 3), holds("2", "a", 11)}, wantKept: entry(5, "a"),
		},
		"some pods had not followed, and were the last to report": {
			listed: []any{holds("1", "a", 2), holds("2", "b", 3)}, wantKept: entry(5, "a"),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			requireKept := func(t *testing.T, e *Engine, kept pages) {
				t.Helper()
				require.NoError(t, readQueued(t, e))
				assert.Equal(t, tc.wantKept, kept[vault()])
				assert.Equal(t, tc.wantDue, len(e.ledger.due(web)) > 0)
				assert.True(t, e.ledger.allRead())
			}
			t.Run("at a start", func(t *testing.T) {
				e, f, _ := watching(t, nil)
				if !tc.unlisted {
					require.NoError(t, f.Replace(tc.listed, "12"))
				}
				kept := pages{vault(): entry(5, "a")}
				e.ledger.open(kept, false)
				requireKept(t, e, kept)
			})
			t.Run("when the namespace is selected again", func(t *testing.T) {
				e, f, _ := watching(t, nil)
				e.intake.deleted(web)
				e.ledger.resume("shop", false)
				e.ledger.suspend("shop")
				if !tc.unlisted {
					require.NoError(t, f.Replace(tc.listed, "12"))
				}
				kept := pages{vault(): entry(5, "a")}
				e.ledger.open(kept, false)
				require.NoError(t, readQueued(t, e))
				e.ledger.resume("shop", true)
				a := newApp(web).with(func(a *app) { a.annotations = map[string]string{keys.SecretProviderClassNamed: "vault"} })
				e.intake.observe(web, a.recorded(t).meta(), moment{})
				requireKept(t, e, kept)
			})
			t.Run("when reports may be read later", func(t *testing.T) {
				e, f, _ := watching(t, nil)
				forbidden := refusal{"list", podStatusResource().GroupResource(), ""}
				e.refusals.add(forbidden)
				kept := pages{vault(): entry(5, "a")}
				e.ledger.open(kept, false)
				require.NoError(t, readQueued(t, e))
				assert.Equal(t, entry(5, "a"), kept[vault()])
				assert.True(t, e.ledger.allRead())
				e.refusals.remove(forbidden)
				if !tc.unlisted {
					require.NoError(t, f.Replace(tc.listed, "12"))
				}
				requireKept(t, e, kept)
			})
		})
	}
}

// A start goes on without reports when the first request for them fails; what
// was rolled out is compared with them all the same.
func TestReportsThatComeAfterTheStart(t *testing.T) {
	e, f, _ := watching(t, nil)
	kept := pages{vault(): entry(5, "a")}
	e.ledger.open(kept, false)
	f.settle()
	require.NoError(t, readQueued(t, e))
	assert.True(t, e.ledger.allRead())
	require.NoError(t, f.Replace([]any{holds("1", "b", 11)}, "12"))
	require.NoError(t, readQueued(t, e))
	assert.NotEmpty(t, e.ledger.due(web), "it was rotated while no engine ran")
}

// What is due of a class that may not be read for a while, nor its reports, is
// not forgotten.
func TestARotationWaitsUntilReportsMayBeReadAgain(t *testing.T) {
	e, f, _ := watching(t, map[string]string{})
	require.NoError(t, f.Replace([]any{holds("1", "a", 10)}, "11"))
	require.NoError(t, readQueued(t, e))
	require.NoError(t, f.Update(holds("1", "b", 12)))
	forbidden := refusal{"watch", podStatusResource().GroupResource(), ""}
	e.refusals.add(forbidden)
	require.NoError(t, readQueued(t, e))
	assert.Empty(t, e.ledger.due(web))
	e.refusals.remove(forbidden)
	require.NoError(t, f.Replace([]any{holds("1", "b", 12)}, "13"))
	require.NoError(t, readQueued(t, e))
	assert.NotEmpty(t, e.ledger.due(web))
}

// Without the driver's API pods have what they have, and so have the classes.
func TestReportsWhoseAPIGoes(t *testing.T) {
	tests := map[string]struct {
		then    []any
		wantDue bool
	}{
		"and comes back as it was":           {then: []any{holds("1", "a", 10)}},
		"and comes back after a rotation":    {then: []any{holds("1", "b", 20)}, wantDue: true},
		"and comes back without what it had": {then: nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e, f, server := watching(t, nil)
			kept := pages{}
			e.ledger.open(kept, true)
			require.NoError(t, f.Replace([]any{holds("1", "a", 10)}, "11"))
			require.NoError(t, readQueued(t, e))
			f.gone()
			require.NoError(t, readQueued(t, e))
			assert.Equal(t, pages{vault(): entry(10, "a")}, kept)
			assert.Empty(t, server.requests)
			require.NoError(t, f.Replace(tc.then, "21"))
			require.NoError(t, readQueued(t, e))
			assert.Equal(t, tc.wantDue, len(e.ledger.due(web)) > 0)
			if tc.then == nil {
				assert.Empty(t, kept, "the driver says that no pod has any of it")
			}
		})
	}
}

// That a list holds no report of a class any more takes no version back.
func TestAClassThatIsListedNoMoreIsNoBackup(t *testing.T) {
	e, f, _ := watching(t, nil)
	require.NoError(t, f.Replace([]any{holds("1", "a", 10)}, "11"))
	require.NoError(t, readQueued(t, e))
	e.ledger.refresh(web, at(12))
	require.NoError(t, f.Replace(nil, "13"))
	require.NoError(t, readQueued(t, e))
	assert.Equal(t, at(12), e.ledger.workloads[web].fresh)
}
