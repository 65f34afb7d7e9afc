package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/webhook"
)

const (
	admissions = 500
	// unseen is a namespace that the webhook never sees.
	unseen = "kube-system"
)

// admission measures creates of a Deployment, dry-run so that nothing is
// stored: in a namespace that the webhook sees and, in turn, in one that it
// does not. The difference is the API server's work for a webhook, too; so the
// two calls that it makes are also made directly, beside as many round trips
// over the same loopback and TLS for which the webhook has nothing to do.
func admission(ctx context.Context, b *bench) error {
	return b.withCluster(ctx, cluster.Options{Images: map[string]string{install.Image: b.program}}, func(c *cluster.Cluster) error {
		if err := createNamespace(ctx, c); err != nil {
			return err
		}
		release, err := install.Chart(ctx, c, install.ChartOptions{Log: os.Stderr})
		if err != nil {
			return err
		}
		seen, floor, err := b.creates(ctx, c)
		if err != nil {
			return err
		}
		ours, trips, err := callsAndTrips(ctx, c, release)
		if err != nil {
			return err
		}
		b.table.duration("admission of a Deployment, p50", quantile(seen, 0.5), quantile(floor, 0.5), "")
		b.table.duration("admission of a Deployment, p99", quantile(seen, 0.99), quantile(floor, 0.99), "")
		b.table.duration("the webhook's two calls beside two round trips, p50", quantile(ours, 0.5), quantile(trips, 0.5), "")
		b.table.duration("the webhook's two calls beside two round trips, p99", quantile(ours, 0.99), quantile(trips, 0.99), "3 ms beyond")
		return nil
	})
}

func newApp(in string) fixture.App {
	return fixture.App{
		Namespace: in, Name: "app", ConfigMaps: []string{"settings"}, Secrets: []string{"password"},
		Annotations: map[string]string{annotation.DefaultKeys().Auto: "true"},
	}
}

func (b *bench) creates(ctx context.Context, c *cluster.Cluster) (seen, floor []time.Duration, err error) {
	b.say("%d admissions each", admissions)
	create := func(in string) (time.Duration, error) {
		app := newApp(in)
		started := time.Now()
		_, err := c.Client().AppsV1().Deployments(in).Create(ctx, app.Deployment(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return time.Since(started), err
	}
	for range admissions {
		with, err := create(namespace)
		if err != nil {
			return nil, nil, err
		}
		without, err := create(unseen)
		if err != nil {
			return nil, nil, err
		}
		seen, floor = append(seen, with), append(floor, without)
	}
	return seen, floor, nil
}

// callsAndTrips measures the calls that the API server makes for one create,
// and in turn as many requests that the webhook has nothing to do for, over one
// connection that is verified like the API server's.
func callsAndTrips(ctx context.Context, c *cluster.Cluster, r *install.Release) (ours, trips []time.Duration, err error) {
	client, address, err := connect(ctx, c, r)
	if err != nil {
		return nil, nil, err
	}
	defer client.CloseIdleConnections()
	review, err := reviewOf(newApp(namespace))
	if err != nil {
		return nil, nil, err
	}
	post := func(paths ...string) (time.Duration, error) {
		started := time.Now()
		for _, path := range paths {
			if err := postTo(ctx, client, "https://"+address+path, review); err != nil {
				return 0, err
			}
		}
		return time.Since(started), nil
	}
	for range admissions {
		call, err := post(webhook.PathMutateWorkload, webhook.PathValidateWorkload)
		if err != nil {
			return nil, nil, err
		}
		trip, err := post("/nothing", "/nothing")
		if err != nil {
			return nil, nil, err
		}
		ours, trips = append(ours, call), append(trips, trip)
	}
	return ours, trips, nil
}

// connect returns a client that trusts the CA which the webhook has published,
// and the address of the webhook's Service.
func connect(ctx context.Context, c *cluster.Cluster, r *install.Release) (*http.Client, string, error) {
	service, err := c.Client().CoreV1().Services(r.Namespace).Get(ctx, r.Webhook, metav1.GetOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("find the webhook's Service: %w", err)
	}
	configuration, err := c.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, r.Webhook, metav1.GetOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("find the webhook's configuration: %w", err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(configuration.Webhooks[0].ClientConfig.CABundle) {
		return nil, "", errors.New("the webhook's configuration carries no CA")
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		RootCAs:    trusted,
		ServerName: r.Webhook + "." + r.Namespace + ".svc",
		MinVersion: tls.VersionTLS13,
	}}
	address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	return &http.Client{Transport: transport}, address, nil
}

// reviewOf is what the API server sends for the creation of a Deployment.
func reviewOf(app fixture.App) ([]byte, error) {
	object, err := json.Marshal(app.Deployment())
	if err != nil {
		return nil, fmt.Errorf("encode the Deployment: %w", err)
	}
	review, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID:       "bench",
			Kind:      metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"},
			Resource:  metav1.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"},
			Namespace: app.Namespace,
			Name:      app.Name,
			Operation: admissionv1.Create,
			Object:    runtime.RawExtension{Raw: object},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encode the review: %w", err)
	}
	return review, nil
}

func postTo(ctx context.Context, client *http.Client, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("reach the webhook: %w", err)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return errors.Join(err, answer.Body.Close())
}
