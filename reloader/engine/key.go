package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
)

// keyEntry is the key's place in the data of its Secret.
const keyEntry = "key"

// ClusterKey returns the fingerprint key that the Secret holds. An empty
// Secret is filled with a new key; of several engines that do so at the same
// time, one wins and the others take its key.
//
// While the API server cannot be reached it goes on trying until ctx is done,
// which is the only error. A Secret that is missing, forbidden or holds
// something else is logged with what it costs, and the key is one of this
// process alone: reloads work, but after a restart a source has another
// fingerprint, so that its next change writes another value for the same
// content.
func ClusterKey(ctx context.Context, config *rest.Config, namespace, name string, log logr.Logger) (fingerprint.Key, error) {
	c, err := newClient(config, config)
	if err != nil {
		return fingerprint.Key{}, err
	}
	at := reloader.Source{Kind: reloader.Secret, Namespace: namespace, Name: name}
	var key fingerprint.Key
	var unusable error
	backoff := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Steps: 6, Cap: 15 * time.Second}
	err = backoff.DelayFunc().Until(ctx, true, false, func(ctx context.Context) (bool, error) {
		key, unusable = c.sharedKey(ctx, at)
		if unusable == nil || permanent(unusable) {
			return true, nil
		}
		log.Info("cannot reach the API server, trying again", "server", config.Host, "reason", unusable.Error())
		return false, nil
	})
	if err != nil {
		return fingerprint.Key{}, fmt.Errorf("wait for the API server at %s: %w", config.Host, err)
	}
	if unusable == nil {
		return key, nil
	}
	log.Error(unusable, "the fingerprint key is one of this process alone; create the Secret empty (the chart does) and let the engine get and update it",
		"secret", at.String())
	return RandomKey()
}

// keyError is a Secret that is there and holds no key.
type keyError struct{ error }

// permanent reports whether trying again is of no use.
func permanent(err error) bool {
	if _, ok := err.(keyError); ok { //nolint:errorlint // made here, never wrapped
		return true
	}
	return apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsInvalid(err)
}

func (c *client) sharedKey(ctx context.Context, at reloader.Source) (fingerprint.Key, error) {
	secret := new(corev1.Secret)
	err := c.core.Get().Namespace(at.Namespace).Resource("secrets").Name(at.Name).MaxRetries(0).Do(ctx).Into(secret)
	if err != nil {
		return fingerprint.Key{}, fmt.Errorf("read %s: %w", at, err)
	}
	held, ok := secret.Data[keyEntry]
	if !ok {
		held = newKey()
		secret.Data = map[string][]byte{keyEntry: held}
		// The resource version that was read is the precondition: who comes
		// second is refused, and reads the key of the first.
		err := c.core.Put().Namespace(at.Namespace).Resource("secrets").Name(at.Name).Body(secret).MaxRetries(0).Do(ctx).Error()
		if err != nil {
			return fingerprint.Key{}, fmt.Errorf("fill %s: %w", at, err)
		}
	}
	key, err := fingerprint.NewKey(held)
	if err != nil {
		return fingerprint.Key{}, keyError{fmt.Errorf("%s, entry %q: %w", at, keyEntry, err)}
	}
	return key, nil
}

// RandomKey returns a new fingerprint key.
func RandomKey() (fingerprint.Key, error) { return fingerprint.NewKey(newKey()) }

func newKey() []byte {
	// crypto/rand.Read never fails; it ends the process instead.
	key := make([]byte, fingerprint.KeySize)
	_, _ = rand.Read(key)
	return key
}
