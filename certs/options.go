package certs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
)

const (
	// DefaultLeafLifetime is how long a serving certificate is valid.
	DefaultLeafLifetime = 90 * 24 * time.Hour
	// DefaultCALifetime is how long the CA that signs it is valid.
	DefaultCALifetime = 5 * 365 * 24 * time.Hour
	// MinLeafLifetime is the shortest lifetime: there must be time to renew,
	// publish and take over before a certificate expires.
	MinLeafLifetime = 5 * time.Second
)

// Secrets reads and writes the Secrets of one namespace.
// A typed client-go SecretInterface is one.
type Secrets interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*corev1.Secret, error)
	Update(ctx context.Context, secret *corev1.Secret, opts metav1.UpdateOptions) (*corev1.Secret, error)
	List(ctx context.Context, opts metav1.ListOptions) (*corev1.SecretList, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// Configurations reads and patches webhook configurations of one kind, where L
// is the list of T. The typed client-go interfaces of
// admissionregistration.k8s.io/v1 are such.
type Configurations[T, L any] interface {
	List(ctx context.Context, opts metav1.ListOptions) (*L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*T, error)
}

// MutatingConfigurations are the MutatingWebhookConfigurations of a cluster.
type MutatingConfigurations = Configurations[admissionregistrationv1.MutatingWebhookConfiguration, admissionregistrationv1.MutatingWebhookConfigurationList]

// ValidatingConfigurations are the ValidatingWebhookConfigurations of a cluster.
type ValidatingConfigurations = Configurations[admissionregistrationv1.ValidatingWebhookConfiguration, admissionregistrationv1.ValidatingWebhookConfigurationList]

// Client is what a Keeper reaches the API server with.
type Client struct {
	// Secrets of Options.Namespace.
	Secrets Secrets
	// Mutating may be nil if Options names no such configuration.
	Mutating MutatingConfigurations
	// Validating may be nil if Options names no such configuration.
	Validating ValidatingConfigurations
}

// Options say what a Keeper keeps.
type Options struct {
	// Namespace and Secret name the Secret that holds the certificate. It must
	// exist; a Keeper never creates it.
	Namespace string
	Secret    string
	// DNSNames are the names that the certificate is made for. The first is the
	// one that the API server asks for, <service>.<namespace>.svc: a certificate
	// of another controller needs to be valid for that name only.
	DNSNames []string
	// MutatingConfigurations and ValidatingConfigurations name the webhook
	// configurations whose webhooks all get the CA. Without names, another
	// controller publishes it.
	MutatingConfigurations   []string
	ValidatingConfigurations []string
	// FilledByOthers is true if a user or another controller fills the Secret. It
	// is never written then, not even when it is empty, and may be created later.
	FilledByOthers bool
	// PublishedByOthers is true if another controller writes the CA into the
	// configurations. They are watched and never written, and the certificate
	// of the Secret is served once they trust it.
	PublishedByOthers bool
	// FieldManager stands in managedFields for what a Keeper writes. Empty
	// leaves it to the API server, which takes the client's user agent.
	FieldManager string
	// LeafLifetime is how long a serving certificate is valid. It is renewed
	// when two thirds of it are over. Default DefaultLeafLifetime.
	LeafLifetime time.Duration
	// CALifetime is the same for the CA. At least three times LeafLifetime, so
	// that no leaf outlives its CA. Default DefaultCALifetime.
	CALifetime time.Duration
	// Clock defaults to the real one.
	Clock clock.Clock
	// Log reports changes. The zero value is silent.
	Log logr.Logger
}

func (o Options) withDefaults() Options {
	if o.LeafLifetime == 0 {
		o.LeafLifetime = DefaultLeafLifetime
	}
	if o.CALifetime == 0 {
		o.CALifetime = max(DefaultCALifetime, 3*o.LeafLifetime)
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	return o
}

// Validate returns every problem of o in one error, or nil. Zero values that
// have a default are no problem.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	for _, f := range []struct{ field, name string }{{"namespace", o.Namespace}, {"secret", o.Secret}} {
		if msgs := validation.IsDNS1123Subdomain(f.name); len(msgs) > 0 {
			errs = append(errs, fmt.Errorf("certificate %s %q: %s", f.field, f.name, msgs[0]))
		}
	}
	if len(o.DNSNames) == 0 {
		errs = append(errs, errors.New("certificate: no DNS name to make it for"))
	}
	for _, name := range o.DNSNames {
		if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
			errs = append(errs, fmt.Errorf("certificate DNS name %q: %s", name, msgs[0]))
		}
	}
	for _, name := range slices.Concat(o.MutatingConfigurations, o.ValidatingConfigurations) {
		if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
			errs = append(errs, fmt.Errorf("webhook configuration %q: %s", name, msgs[0]))
		}
	}
	if o.LeafLifetime < MinLeafLifetime {
		errs = append(errs, fmt.Errorf("certificate lifetime %s: less than %s, in which it could not be renewed and published", o.LeafLifetime, MinLeafLifetime))
	}
	if o.CALifetime < 3*o.LeafLifetime {
		errs = append(errs, fmt.Errorf("CA lifetime %s: less than three times the certificate's, %s", o.CALifetime, o.LeafLifetime))
	}
	return errors.Join(errs...)
}
