package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// maxSettle is how long the present certificate is served on, at most, when a
// new CA has been published: API servers watch the configurations, too.
const maxSettle = 10 * time.Second

var errNoCertificate = errors.New("no certificate yet")

// GetCertificate is for tls.Config: it returns the newest certificate that
// clients can verify. It never waits and does no I/O.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.current == nil {
		return nil, errNoCertificate
	}
	return &k.current.cert, nil
}

// Ready is for a readiness probe. It returns nil if the served certificate is valid
// now and is trusted by every configuration named in Options, according to the
// watches. It does no I/O.
func (k *Keeper) Ready() error {
	k.mu.RLock()
	current, trouble := k.current, k.trouble
	k.mu.RUnlock()

	if current == nil {
		return because(errNoCertificate, trouble)
	}
	if err := current.validAt(k.clock.Now()); err != nil {
		return because(err, trouble)
	}
	if err := k.trusted(current, k.clock.Now()); err != nil {
		return because(err, trouble)
	}
	return nil
}

// because adds the reason to an error, if it is known.
func because(err, reason error) error {
	if reason == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, reason)
}

// mayServe reports whether p may be served before its CA is known to be published:
// there is no better pair, or clients can verify it already.
func (k *Keeper) mayServe(p *pair, now time.Time) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.current == nil || k.current.validAt(now) != nil {
		return true
	}
	if len(p.ca) == 0 {
		return !k.opts.PublishedByOthers
	}
	// Clients trust at least the CAs that are published for the current pair.
	return verify(p.cert, k.opts.DNSNames[0], parseCertificates(k.current.ca), now) == nil
}

// handOver serves p if it is not served yet and every configuration trusts it.
// As long as they trust the present one too, it waits a moment first, and
// returns until when: each API server hears of a new CA a little later than this
// process, and the present certificate has a third of its life left. The zero
// time means that there is nothing to wait for but events.
func (k *Keeper) handOver(p *pair, now time.Time) (until time.Time) {
	k.mu.RLock()
	current := k.current
	k.mu.RUnlock()
	leaf := p.cert.Leaf
	if current.cert.Leaf.Equal(leaf) {
		k.awaited = nil
		return time.Time{}
	}
	if err := k.trusted(p, now); err != nil {
		k.awaited = nil
		k.log.V(1).Info("certificate not served yet", "serial", leaf.SerialNumber.Text(16), "why", err.Error())
		return time.Time{}
	}
	if k.trusted(current, now) == nil {
		if k.awaited == nil || !k.awaited.Equal(leaf) {
			k.awaited, k.trustedSince = leaf, now
		}
		life := current.cert.Leaf.NotAfter.Sub(current.cert.Leaf.NotBefore)
		if until := k.trustedSince.Add(min(maxSettle, life/20)); now.Before(until) {
			return until
		}
	}
	k.awaited = nil
	k.serve(p)
	return time.Time{}
}

// trusted returns nil if a client that knows the configurations as this process
// does can verify p.
func (k *Keeper) trusted(p *pair, now time.Time) error {
	if len(p.ca) == 0 && !k.opts.PublishedByOthers { // no CA to trust is known
		return nil
	}
	for _, c := range k.configurations {
		if err := c.trusts(p, k.opts.DNSNames[0], now); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) serve(p *pair) {
	k.mu.Lock()
	before := k.current
	k.current = p
	k.mu.Unlock()
	if before == nil || !bytes.Equal(before.cert.Leaf.Raw, p.cert.Leaf.Raw) {
		leaf := p.cert.Leaf
		k.log.Info("certificate served", "serial", leaf.SerialNumber.Text(16), "notAfter", leaf.NotAfter)
	}
}

// publish writes ca into every configuration that does not carry it. stale means
// that the Secret that ca was taken from has changed meanwhile, and nothing was
// written.
func (k *Keeper) publish(ctx context.Context, from *corev1.Secret, ca []byte) (stale bool, err error) {
	if len(ca) == 0 || k.opts.PublishedByOthers {
		return false, nil
	}
	var errs []error
	for _, c := range k.configurations {
		outdated, err := c.outdated(ca)
		if err != nil { // Missing or not read yet: wait for the watch.
			k.log.V(1).Info("CA not published yet", "why", err.Error())
			continue
		}
		if len(outdated.webhooks) == 0 {
			continue
		}
		// Another replica may have published a newer CA. The Secret is written
		// first, so one that is read after the configuration is at least as new
		// as what the configuration carries; and the patch holds only for the
		// configuration as it was read.
		fresh, err := k.read(ctx)
		if err != nil {
			return false, err
		}
		if fresh.ResourceVersion != from.ResourceVersion {
			return true, nil
		}
		if !k.writes.TryAccept() {
			return false, fmt.Errorf("publish CA in %s %s: %w", c.kind, c.name, errTooManyWrites)
		}
		switch err := c.publish(ctx, outdated, ca); {
		case err == nil:
			k.log.Info("CA published", "kind", c.kind, "name", c.name, "webhooks", outdated.webhooks)
		case apierrors.IsConflict(err), apierrors.IsNotFound(err): // Wait for the watch.
			k.log.V(1).Info("CA not published yet", "why", err.Error())
		default:
			errs = append(errs, err)
		}
	}
	return false, errors.Join(errs...)
}
