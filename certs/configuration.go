package certs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// configuration is one webhook configuration that gets the CA.
type configuration struct {
	kind, name string
	latest     *latest
	watch      cache.ListerWatcher
	patch      func(ctx context.Context, patch []byte) (object, error)
}

func mutatingConfiguration(client MutatingConfigurations, name, manager string, changed func()) *configuration {
	return &configuration{
		kind:   "MutatingWebhookConfiguration",
		name:   name,
		latest: &latest{name: name, changed: changed},
		watch:  named(client, name),
		patch: func(ctx context.Context, patch []byte) (object, error) {
			return client.Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: manager})
		},
	}
}

func validatingConfiguration(client ValidatingConfigurations, name, manager string, changed func()) *configuration {
	return &configuration{
		kind:   "ValidatingWebhookConfiguration",
		name:   name,
		latest: &latest{name: name, changed: changed},
		watch:  named(client, name),
		patch: func(ctx context.Context, patch []byte) (object, error) {
			return client.Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: manager})
		},
	}
}

// trusts returns nil if each webhook of the configuration carries a CA that p
// can be verified with.
func (c *configuration) trusts(p *pair, dnsName string, now time.Time) error {
	obj, err := c.known()
	if err != nil {
		return err
	}
	for name, bundle := range bundles(obj) {
		if err := verify(p.cert, dnsName, parseCertificates(bundle), now); err != nil {
			return fmt.Errorf("%s %s: webhook %s does not trust the certificate: %w", c.kind, c.name, name, err)
		}
	}
	return nil
}

// known returns the configuration as the watch or our last patch saw it.
func (c *configuration) known() (object, error) {
	obj, synced := c.latest.get()
	switch {
	case obj != nil:
		return obj, nil
	case !synced:
		return nil, fmt.Errorf("%s %s: not read yet", c.kind, c.name)
	}
	return nil, fmt.Errorf("%s %s: not found", c.kind, c.name)
}

// outdated are the webhooks of a configuration that do not carry the CA, as of
// one resourceVersion.
type outdated struct {
	webhooks        []string
	resourceVersion string
}

// outdated returns which webhooks do not carry ca, or why that cannot be said.
func (c *configuration) outdated(ca []byte) (outdated, error) {
	obj, err := c.known()
	if err != nil {
		return outdated{}, err
	}
	o := outdated{resourceVersion: obj.GetResourceVersion()}
	for name, bundle := range bundles(obj) {
		if !bytes.Equal(bundle, ca) {
			o.webhooks = append(o.webhooks, name)
		}
	}
	return o, nil
}

// publish writes ca into the outdated webhooks.
func (c *configuration) publish(ctx context.Context, o outdated, ca []byte) error {
	patch, err := caPatch(o, ca)
	if err != nil {
		return err
	}
	patched, err := c.patch(ctx, patch)
	if err != nil {
		return fmt.Errorf("publish CA in %s %s: %w", c.kind, c.name, err)
	}
	c.latest.put(patched)
	return nil
}

// bundles yields the name and CA bundle of each webhook of a configuration.
func bundles(obj object) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		switch obj := obj.(type) {
		case *admissionregistrationv1.MutatingWebhookConfiguration:
			for i := range obj.Webhooks {
				if !yield(obj.Webhooks[i].Name, obj.Webhooks[i].ClientConfig.CABundle) {
					return
				}
			}
		case *admissionregistrationv1.ValidatingWebhookConfiguration:
			for i := range obj.Webhooks {
				if !yield(obj.Webhooks[i].Name, obj.Webhooks[i].ClientConfig.CABundle) {
					return
				}
			}
		}
	}
}

// caPatch returns the strategic merge patch that sets the bundle of the outdated
// webhooks and nothing else. Webhooks merge by name; the resourceVersion makes
// it a conflict if the configuration has changed since, for otherwise a webhook
// that has gone would come back as a fragment.
func caPatch(o outdated, ca []byte) ([]byte, error) {
	type clientConfig struct {
		CABundle []byte `json:"caBundle"`
	}
	type webhook struct {
		Name         string       `json:"name"`
		ClientConfig clientConfig `json:"clientConfig"`
	}
	webhooks := make([]webhook, 0, len(o.webhooks))
	for _, name := range o.webhooks {
		webhooks = append(webhooks, webhook{Name: name, ClientConfig: clientConfig{CABundle: ca}})
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]string{"resourceVersion": o.resourceVersion},
		"webhooks": webhooks,
	})
}
