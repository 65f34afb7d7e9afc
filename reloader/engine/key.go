package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
)

// keyEntry is the key's place in the data of its Secret.
const keyEntry = "key"

// ClusterKey returns the fingerprint key that the Secret holds. A
// Secret that is missing is created, and an empty one is filled with a new key;
// of several engines that do so at the same time, one wins and the others take
// its key.
//
// While the API server cannot be reached it retries until ctx is done, which is
// the only error. A Secret that may not be read or created, or that holds
// something else, is logged, and the key is one of this process alone: reloads
// work, but what changes while no engine runs is missed, and after a restart the
// next change of a source writes another value for the same content.
func ClusterKey(ctx context.Context, config *rest.Config, namespace, name string, log logr.Logger) (fingerprint.Key, error) {
	c, err := newClient(config, config, logr.Discard())
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
	log.Error(unusable, "changes made while no engine runs will be missed: let the engine create, get and update the Secret of its key, or create it empty",
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
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fingerprint.Key{}, fmt.Errorf("read %s: %w", at, err)
	}
	held, ok := secret.Data[keyEntry]
	if !ok {
		held = newKey()
		secret.Data = map[string][]byte{keyEntry: held}
		// Creating it, or the resource version that was read, is the
		// precondition: who comes second is refused, and reads the key of the
		// first.
		request := c.core.Put().Namespace(at.Namespace).Resource("secrets").Name(at.Name)
		if missing {
			secret.ObjectMeta = metav1.ObjectMeta{Namespace: at.Namespace, Name: at.Name}
			request = c.core.Post().Namespace(at.Namespace).Resource("secrets")
		}
		err := request.Body(secret).MaxRetries(0).Do(ctx).Error()
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
