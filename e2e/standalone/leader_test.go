package standalone

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader/leader"
)

// newLease is long enough for a busy machine not to lose it.
func newLease(t *testing.T, ns, identity string) *leader.Lease {
	t.Helper()
	return newLeaseOf(t, ns, identity, 15*time.Second)
}

func newLeaseOf(t *testing.T, ns, identity string, duration time.Duration) *leader.Lease {
	t.Helper()
	l, err := leader.New(leader.Options{Config: shared.RESTConfig(), Namespace: ns, Identity: identity, Duration: duration})
	require.NoError(t, err)
	return l
}

// hold runs Hold until ctx is done; leads receives the context of each lead.
func hold(ctx context.Context, l *leader.Lease) (leads chan context.Context, ended chan error) {
	leads, ended = make(chan context.Context, 1), make(chan error, 1)
	go func() {
		ended <- l.Hold(ctx, func(ctx context.Context) {
			leads <- ctx
			<-ctx.Done()
		})
	}()
	return leads, ended
}

func receive[T any](t *testing.T, from chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(soon):
		require.Fail(t, "waited in vain", what)
	}
	return got
}

func TestTheLeaseGoesOnToTheNext(t *testing.T) {
	ns := namespace(t, "lease")
	first, second := newLease(t, ns, "first"), newLease(t, ns, "second")
	ctx, release := context.WithCancel(t.Context())
	leads, ended := hold(ctx, first)
	receive(t, leads, "the first leads")
	assert.True(t, first.Until().After(time.Now()))

	waiting, stop := context.WithCancel(t.Context())
	nextLeads, nextEnded := hold(waiting, second)
	require.Never(t, func() bool { return len(nextLeads) > 0 }, quiet, often, "one at a time")

	release()
	require.NoError(t, receive(t, ended, "the first ends"))
	assert.False(t, first.Until().After(time.Now()), "what was given back is over")
	receive(t, nextLeads, "the second leads")
	stop()
	require.NoError(t, receive(t, nextEnded, "the second ends"))
}

func TestWhoWaitsForTheLeaseCanBeStopped(t *testing.T) {
	ns := namespace(t, "lease-waiting")
	ctx, release := context.WithCancel(t.Context())
	leads, ended := hold(ctx, newLease(t, ns, "first"))
	receive(t, leads, "the first leads")
	waiting, stop := context.WithCancel(t.Context())
	_, nextEnded := hold(waiting, newLease(t, ns, "second"))
	stop()
	require.NoError(t, receive(t, nextEnded, "the second ends"))
	release()
	require.NoError(t, receive(t, ended, "the first ends"))
}

func TestALeaseThatSomebodyElseHasTakenIsLost(t *testing.T) {
	ns := namespace(t, "lease-lost")
	l := newLeaseOf(t, ns, "first", 3*time.Second)
	leads, ended := hold(t.Context(), l)
	lead := receive(t, leads, "it leads")

	leases := shared.Client().CoordinationV1().Leases(ns)
	require.Eventually(t, func() bool {
		present, err := leases.Get(t.Context(), leader.DefaultName, metav1.GetOptions{})
		require.NoError(t, err)
		present.Spec.HolderIdentity, present.Spec.LeaseDurationSeconds = new("thief"), new(int32(3600))
		_, err = leases.Update(t.Context(), present, metav1.UpdateOptions{})
		return err == nil
	}, soon, often)
	require.ErrorIs(t, receive(t, ended, "it ends"), leader.ErrLost)
	require.Error(t, lead.Err(), "its work has ended")
}
